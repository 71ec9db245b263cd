// Chromium for the tests, and helpers for pages.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const env = (name) => process.env[name] ?? assert.fail(`${name} is not set`);
/** The page's URL, `http://127.0.0.1:<port>/ui`. */
export const PAGE = env("DASHBOARD_URL");
export const ORIGIN = new URL(PAGE).origin;
export const TOKEN = env("DASHBOARD_TOKEN");
const SHOTS = env("DASHBOARD_SCREENSHOTS");
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // No host name is resolved.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

export const browser = await chromium.launch({ executablePath: env("FOREBAY_TEST_CHROMIUM"), args: FLAGS });
await mkdir(SHOTS, { recursive: true });

/** Requests and errors of all pages. */
export const requests = [];
export const errors = [];

/** A new window without stored state. */
export async function open({ fakeTime = false, ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    reducedMotion: "reduce",
    colorScheme: "light",
    ...options,
  });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  page.on("request", (r) => requests.push(r.url()));
  page.on("pageerror", (e) => errors.push(String(e)));
  page.on("console", (m) => {
    // 4xx responses are part of the tests.
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) errors.push(m.text());
  });
  if (fakeTime) await page.clock.install();
  await page.goto(PAGE);
  return page;
}

/** Logs in with a token. */
export async function login(page, token = TOKEN) {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** A window that is logged in, at a hash. */
export async function visit(hash, options) {
  const page = await open(options);
  await login(page);
  await heading(page, "Sources");
  if (hash) await go(page, hash);
  return page;
}

export const go = (page, hash) => page.evaluate((to) => (location.hash = to), hash);

/** Waits for a page by its heading. */
export const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();

/** Waits until `check` holds; fails with `what` after a timeout. */
export async function until(what, check) {
  const deadline = Date.now() + 30_000;
  let last;
  for (;;) {
    last = await check();
    if (last) return last;
    assert.ok(Date.now() < deadline, `waited too long for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Asserts that axe-core finds no violation. */
export async function accessible(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const found = violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary}`));
  assert.deepEqual(found, [], `axe-core on ${where}`);
}

/** Asserts that the page does not overflow horizontally. */
export async function fits(page, where) {
  const [wide, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= view, `${where} is ${wide} wide in a window of ${view}`);
}

/** Screenshots of the page: light, dark and narrow; axe-core checks each. */
export async function shots(page, name) {
  const size = page.viewportSize();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await accessible(page, `${name}, ${colorScheme}`);
    await page.screenshot({ path: join(SHOTS, `${name}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  await page.setViewportSize({ width: 360, height: 740 });
  await fits(page, name);
  await accessible(page, `${name}, narrow`);
  await page.screenshot({ path: join(SHOTS, `${name}-narrow.png`), fullPage: true });
  await page.setViewportSize(size);
}

/** Calls the API outside of the page. */
export async function api(method, path, body) {
  const headers = { "X-StorageApi-Token": TOKEN, "Content-Type": "application/json" };
  const response = await fetch(ORIGIN + path, { method, headers, body: body && JSON.stringify(body) });
  const reply = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(reply)}`);
  return reply;
}

/** Starts a task and waits for its success. */
export async function task(method, path, body) {
  let task = await api(method, path, body);
  task = await until("a task", async () => {
    const now = await api("GET", `/v1/tasks/${task.taskId}`);
    return now.isFinished && now;
  });
  assert.equal(task.status, "success", JSON.stringify(task));
}

/** Posts one record. */
export async function post(url, record) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(record) });
  await response.text();
  return response.status;
}
