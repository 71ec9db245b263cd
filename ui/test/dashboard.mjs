// Tests of the dashboard in Chromium. The scenarios run in order on one server, empty at the start;
// the process test `dashboard` of the binary starts it and runs this.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { api, browser, errors, fits, go, heading, login, open, ORIGIN, post, requests, shots, task, TOKEN, until, visit } from "./browser.mjs";

const S = "/v1/branches/default/sources";
const run = promisify(execFile);
const columns = [
  { type: "uuid", name: "id" },
  { type: "datetime", name: "at" },
  { type: "path", name: "user", path: "user.id", rawString: true },
  { type: "template", name: "total", template: { language: "jsonnet", content: 'Body("price") * Body("count")' } },
];
const table = (type, tableId, mapping = columns) => ({ type, tableId, mapping: { columns: mapping } });

after(() => browser.close());

test("a wrong token is rejected", async () => {
  const page = await open();
  await heading(page, "Log in");
  await shots(page, "login");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("Enter a token.").waitFor();
  await login(page, "not-the-token");
  await page.getByText("Unknown token.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.getByLabel("Token").getAttribute("aria-invalid"), "true");
  await login(page);
  await heading(page, "Sources");
  // The token is stored in this tab only.
  const kept = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]);
  assert.deepEqual(kept, [[TOKEN], [], ""]);
  await page.context().close();
});

test("an empty server shows working commands that create the first source", async () => {
  const page = await visit("");
  await page.getByRole("heading", { name: "Create the first source" }).waitFor();
  await shots(page, "empty");
  const texts = await page.locator(".steps code").allTextContents();
  const commands = texts.filter((t) => t.includes("curl"));
  assert.equal(commands.length, 3);
  const [source, sink, record] = commands.map((c) => c.replace(/^TOKEN=.*$/m, ""));
  const bash = (command) => run("bash", ["-c", `set -euo pipefail; TOKEN='${TOKEN}'; ${command}`]);
  await bash(source);
  await page.getByRole("row").filter({ hasText: "My events" }).waitFor();
  await until("the source", async () => (await fetch(`${ORIGIN}${S}/my-events`, { headers: { "X-StorageApi-Token": TOKEN } })).ok);
  await bash(sink);
  await until("the sink", async () => (await api("GET", `${S}/my-events/sinks`)).sinks.length === 1);
  await until("an accepted record", async () => {
    const { stdout } = await bash(record.replace(/^curl/m, "curl -s -o /dev/null -w '%{http_code}'"));
    return stdout.trim() === "200";
  });
  await until("the record in the table", async () => {
    const balance = await api("GET", `${S}/my-events/sinks/events/statistics/reconciliation`);
    return balance.imported >= 1 && balance.inFlight === 0;
  });
  await page.context().close();
});

/** URLs of the sources that these tests create. */
const urls = {};

test("further sources: one whose table fails, one disabled, one deleted", async () => {
  for (const [name, sinks] of [
    ["Checkout", [["Orders", table("keboola", "in.shop.orders")], ["Archive", table("sqlite", "in.shop.archive", [{ type: "uuid", name: "id" }, { type: "body", name: "body" }])]]],
    ["Page views", [["Warehouse", table("postgres", "in.web.views", [{ type: "uuid", name: "id" }, { type: "body", name: "body" }])]]],
    ["Mobile app", [["Taps", table("keboola", "in.app.taps")]]],
    ["Old import", []],
  ]) {
    const id = name.toLowerCase().replace(" ", "-");
    await task("POST", S, { type: "http", name });
    for (const [sink, of] of sinks) await task("POST", `${S}/${id}/sinks`, { type: "table", name: sink, table: of });
    urls[id] = (await api("GET", `${S}/${id}`)).http.url;
  }
  await task("PUT", `${S}/mobile-app/disable?reason=Maintenance`);
  await task("DELETE", `${S}/old-import`);
  await task("PATCH", `${S}/checkout/sinks/orders/settings`, {
    settings: [{ key: "storage.level.local.mapping.rejected.action", value: "dead_letter" }],
  });
});

test("the list shows live rates and failures", async () => {
  const page = await visit("");
  let sent = 0;
  const sender = setInterval(() => {
    sent += 1;
    void post(urls.checkout, { user: { id: "ada" }, price: 2.5, count: 4 });
    void post(urls["page-views"], { path: "/" });
  }, 40);
  try {
    const row = (name) => page.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });
    const figure = async (name) => Number((await row(name).locator(".with-spark .figure").textContent())?.replace(/[^\d.]/g, ""));
    await until("a live rate", async () => (await figure("Checkout")) > 5);
    await row("Checkout").getByText("Receiving").waitFor();
    await row("Page views").getByText("Failing", { exact: true }).waitFor();
    await row("Mobile app").getByText("Disabled").waitFor();
    assert.ok((await figure("Mobile app")) === 0, "a disabled source accepts nothing");
    // Enough history for the charts of the screenshots.
    await until("some history", async () => sent > 200);
    await fits(page, "the list");
    await shots(page, "sources");
    await go(page, "#/sources/checkout");
    await heading(page, "Checkout");
    await page.getByRole("listitem").filter({ hasText: "in.shop.orders" }).getByText("Receiving").waitFor();
    // The URL contains a secret: hidden by default.
    const secret = new URL(urls.checkout).pathname.split("/").at(-1);
    assert.ok(!(await page.textContent("main")).includes(secret));
    await page.getByRole("button", { name: /^Show/ }).click();
    assert.ok((await page.textContent("main")).includes(secret));
    await page.getByRole("button", { name: /^Hide/ }).click();
    await shots(page, "source");
  } finally {
    clearInterval(sender);
  }
  await page.context().close();
});

test("a deleted source is undeleted from the list", async () => {
  const page = await visit("");
  await page.locator("summary").filter({ hasText: "Deleted" }).click();
  await page.getByRole("button", { name: "Undelete Old import" }).click();
  await page.getByRole("link", { name: "Old import" }).waitFor();
  await page.getByText("Old import undeleted.").waitFor();
  await page.context().close();
});

test("a sink whose table fails shows the error and the next attempt", async () => {
  const page = await visit("#/sources/page-views/sinks/warehouse");
  await heading(page, "Warehouse");
  const notice = page.getByRole("region", { name: "Delivery is failing and retried" });
  await notice.getByText(/Import into the table:/).waitFor();
  await notice.getByText(/connect/i).first().waitFor();
  await notice.getByText(/check that it runs/).waitFor();
  await notice.getByText(/\d+ attempts? so far, next attempt/).waitFor();
  const retried = page.waitForResponse((r) => r.request().method() === "POST" && r.url().endsWith("/sinks/warehouse/retry"));
  await notice.getByRole("button", { name: "Retry now" }).click();
  const counts = await (await retried).json();
  assert.ok(counts.files + counts.slices > 0, "nothing was retried");
  const files = page.getByRole("region", { name: "Files and slices" }).getByRole("table");
  await files.getByRole("row").filter({ hasText: "Importing" }).first().waitFor();
  await files.getByRole("row").filter({ hasText: "slice on volume" }).filter({ hasText: "Uploaded" }).first().waitFor();
  await shots(page, "sink-failing");
  await page.context().close();
});

test("a source is disabled, after a confirmation, and enabled", async () => {
  const page = await visit("#/sources/my-events");
  await page.getByRole("button", { name: "Disable source" }).click();
  const dialog = page.getByRole("dialog", { name: "Disable My events?" });
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal((await api("GET", `${S}/my-events`)).disabled, undefined);
  await page.getByRole("button", { name: "Disable source" }).click();
  await dialog.getByRole("button", { name: "Disable" }).click();
  await page.getByText("This source is disabled").waitFor();
  assert.equal((await api("GET", `${S}/my-events`)).disabled.reason, "Dashboard");
  await page.getByRole("button", { name: "Enable source" }).click();
  await page.getByText("This source is disabled").waitFor({ state: "detached" });
  assert.equal((await api("GET", `${S}/my-events`)).disabled, undefined);
  await page.context().close();
});

test("dead letters are listed, shown, dropped, fixed and replayed", async () => {
  for (const record of [{ user: { id: "bob" } }, { price: 3, count: 1 }, { user: { id: "eve" }, price: 1 }]) {
    assert.equal(await post(urls.checkout, record), 200);
  }
  const page = await visit("");
  await page.getByRole("row").filter({ hasText: "Checkout" }).locator("[data-name='Dead letters']").getByText("3").waitFor();
  await go(page, "#/sources/checkout/sinks/orders");
  await heading(page, "Orders");
  const letters = page.getByRole("region", { name: "Dead letters" }).getByRole("table");
  const rows = letters.locator("tbody tr:not(.details)");
  await until("three dead letters", async () => (await rows.count()) === 3);
  await rows.nth(1).getByText('path "user.id" not found').waitFor();
  await rows.nth(1).getByRole("button", { name: /^Show/ }).click();
  await letters.getByText('{"price":3,"count":1}').waitFor();
  await until("the balance", async () => (await page.locator(".tile", { hasText: "Dead letters" }).locator(".value").textContent()) === "3");
  await shots(page, "sink-dead-letters");

  await rows.nth(1).getByRole("checkbox").check();
  await page.getByRole("button", { name: "Drop 1 dead letter" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drop permanently" }).click();
  await page.getByText("1 dead letter dropped.").waitFor();
  await until("two dead letters", async () => (await rows.count()) === 2);

  await page.getByRole("button", { name: "Replay all" }).click();
  await page.getByText("0 dead letters replayed, 2 dead letters rejected again.").waitFor();
  await page.getByText("The mapping still rejects these.").waitFor();

  // Fix the mapping in the playground with one of the dead letters, and save it.
  await rows.nth(0).getByRole("button", { name: /^Show/ }).click();
  await page.getByRole("link", { name: "Test it in the playground" }).click();
  await heading(page, "Columns of Orders");
  assert.equal(await page.getByLabel("Body", { exact: true }).inputValue(), '{"user":{"id":"bob"}}');
  await page.getByRole("button", { name: "Test", exact: true }).click();
  await page.getByText("No row.").waitFor();
  await page.getByLabel("Template (Jsonnet)").fill('Body("price", 0) * Body("count", 1)');
  await page.getByRole("button", { name: "Test", exact: true }).click();
  await page.getByRole("table").getByRole("row", { name: "total 0" }).waitFor();
  await page.getByRole("button", { name: "Save to Orders" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText("Saved the columns of Orders.").waitFor();

  await go(page, "#/sources/checkout/sinks/orders");
  await page.getByRole("button", { name: "Replay all" }).click();
  await page.getByText("2 dead letters replayed.").waitFor();
  await page.getByText("None. A record that the mapping rejects").waitFor();
  await until("delivery of the replayed records", async () => {
    const balance = await api("GET", `${S}/checkout/sinks/orders/statistics/reconciliation`);
    return balance.holds && balance.inFlight === 0 && balance.dead === 0 && balance.expired === 1;
  });
  await page.context().close();
});

test("dead letters are filtered by cause, edited, exported and imported once", async () => {
  for (const record of [{ user: { id: "zoe" }, price: "x" }, { price: 1 }, { user: { id: "kim" }, price: "y" }]) {
    assert.equal(await post(urls.checkout, record), 200);
  }
  const page = await visit("#/sources/checkout/sinks/orders");
  await heading(page, "Orders");
  const region = page.getByRole("region", { name: "Dead letters" });
  const rows = region.locator("table.dead-letters tbody tr:not(.details)");
  await until("three dead letters", async () => (await rows.count()) === 3);
  const causes = region.getByRole("list", { name: "Causes" });
  await causes.getByRole("button", { name: 'path "user.id" not found' }).click();
  await until("one of the cause", async () => (await rows.count()) === 1);
  await region.getByRole("button", { name: "Drop filtered" }).waitFor();
  await region.getByRole("button", { name: "Clear filter" }).click();
  await region.getByLabel("Contains").fill("zoe");
  await region.getByRole("button", { name: "Filter", exact: true }).click();
  await until("one with the text", async () => (await rows.count()) === 1);
  await shots(page, "sink-dead-letters-filtered");
  await rows.nth(0).getByRole("button", { name: /^Show/ }).click();
  await region.getByRole("button", { name: "Edit and replay" }).click();
  await region.getByLabel("Edited body").fill('{"user":{"id":"zoe"},"price":21}');
  await region.getByRole("button", { name: "Check" }).click();
  await region.getByText("1 dead letter would be replayed").waitFor();
  await region.getByRole("cell", { name: "21", exact: true }).waitFor();
  await region.getByRole("button", { name: "Replay edited" }).click();
  await page.getByText("1 edited dead letter replayed.").waitFor();
  await region.getByText("None passes the filter.").waitFor();
  await region.getByRole("button", { name: "Clear filter" }).click();
  await until("two dead letters", async () => (await rows.count()) === 2);
  const [download] = await Promise.all([page.waitForEvent("download"), region.getByRole("button", { name: "Export all (NDJSON)" }).click()]);
  const exported = await readFile(await download.path(), "utf8");
  assert.equal(exported.trim().split("\n").length, 2);
  const file = { name: "fixed.ndjson", mimeType: "application/x-ndjson", buffer: Buffer.from(exported.replace('\\"y\\"', "5")) };
  await region.getByLabel("Import edited records").setInputFiles(file);
  await page.getByText("1 dead letter replayed from fixed.ndjson.").waitFor();
  await region.getByText("The mapping still rejects these.").waitFor();
  await region.getByLabel("Import edited records").setInputFiles(file);
  await region.getByText("1 dead letter skipped: replayed or dropped before.").waitFor();
  await region.getByRole("button", { name: "Drop all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drop permanently" }).click();
  await until("each of them once", async () => {
    const balance = await api("GET", `${S}/checkout/sinks/orders/statistics/reconciliation`);
    return balance.holds && balance.inFlight === 0 && balance.dead === 0 && balance.expired === 2;
  });
  await page.context().close();
});

test("dead letters of a topic are replayed in any order", async () => {
  await task("POST", S, { type: "http", name: "Hooks" });
  await task("POST", `${S}/hooks/sinks`, { type: "http", name: "Hook", topic: { provider: "hook", method: "PUT" } });
  const { url } = (await api("GET", `${S}/hooks`)).http;
  for (const n of [1, 2]) assert.equal(await post(url, { n }), 200);
  const page = await visit("");
  await page.getByRole("row").filter({ hasText: "Hooks" }).locator("[data-name='Dead letters']").getByText("2").waitFor();
  await go(page, "#/sources/hooks/sinks/hook");
  await heading(page, "Hook");
  await page.getByText("rejected by the provider").waitFor();
  const letters = page.getByRole("region", { name: "Dead letters" });
  const rows = letters.getByRole("table").locator("tbody tr:not(.details)");
  await until("two dead letters", async () => (await rows.count()) === 2);
  await rows.nth(1).getByText(/rejected it 1 times: 422/).waitFor();
  await rows.nth(1).getByRole("button", { name: /^Show/ }).click();
  await letters.getByText('{"n":2}').waitFor();
  assert.equal(await letters.getByRole("link", { name: "Test it in the playground" }).count(), 0);
  await shots(page, "sink-topic-dead-letters");
  // Replay the newer one only.
  await rows.nth(1).getByRole("checkbox").check();
  await letters.getByRole("button", { name: "Replay 1 dead letter" }).click();
  await page.getByText("1 dead letter replayed.").waitFor();
  await until("one dead letter", async () => (await rows.count()) === 1);
  await rows.nth(0).getByRole("button", { name: /^Show/ }).click();
  await letters.getByText('{"n":1}').waitFor();
  await until("the replayed message, counted once", async () => {
    const delivery = await api("GET", `${S}/hooks/sinks/hook/statistics/delivery`);
    return delivery.accepted === 2 && delivery.delivered === 1 && delivery.dead === 1;
  });
  await letters.getByRole("button", { name: "Drop all" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drop permanently" }).click();
  await letters.getByText("None. Messages that the provider permanently rejects").waitFor();
  await page.context().close();
});

test("a deleted sink is undeleted from its source's page", async () => {
  await task("DELETE", `${S}/hooks/sinks/hook`);
  const page = await visit("#/sources/hooks");
  const deleted = page.locator("details.deleted");
  await deleted.locator("summary").getByText("1 sink").click();
  await deleted.getByRole("listitem").filter({ hasText: "Hook" }).waitFor();
  await shots(page, "deleted-sink");
  await deleted.getByRole("button", { name: "Undelete Hook" }).click();
  await page.getByText("Hook undeleted.").waitFor();
  await page.getByRole("link", { name: "Hook", exact: true }).waitFor();
  await deleted.waitFor({ state: "detached" });
  assert.equal((await api("GET", `${S}/hooks/sinks/hook`)).deleted, undefined);
  await page.context().close();
});

test("the playground edits columns, and shows the row and the errors of columns", async () => {
  const page = await visit("#/playground");
  const test = page.getByRole("button", { name: "Test", exact: true });
  const row = (name) => page.getByRole("table").getByRole("row", { name });
  await test.click();
  await row("user ada").waitFor();
  await row("total 10").waitFor();
  await row(/^id [0-9a-f]{8}-/).waitFor();

  const column = (name) => page.getByRole("group", { name: new RegExp(`: ${name}$`) });
  await column("user").getByLabel("Path").fill("user.nick");
  await page.getByText("outdated").waitFor();
  await test.click();
  const wrong = column("user").locator(".field-error");
  await wrong.getByText('Path "user.nick" not found in the body.').waitFor();
  assert.equal(await column("user").getByLabel("Path").getAttribute("aria-invalid"), "true");
  assert.equal(await column("user").getByLabel("Name").getAttribute("aria-invalid"), null);
  await shots(page, "playground-error");

  await column("user").getByLabel("Default if missing").check();
  await column("user").getByLabel("Default value").fill("nobody");
  await column("total").getByLabel("Template (Jsonnet)").fill('Body("price"');
  await test.click();
  await column("total").locator(".field-error").getByText(/template is invalid/).waitFor();
  await column("total").getByLabel("Template (Jsonnet)").fill('Body("price")');
  await page.getByRole("button", { name: "Add column" }).click();
  await page.keyboard.type("kind");
  await column("kind").getByLabel("Source", { exact: true }).selectOption("static");
  await column("kind").getByLabel("Text").fill("order");
  await test.click();
  await row("user nobody").waitFor();
  await column("kind").getByLabel("Name").fill("USER");
  await test.click();
  await page.getByRole("group", { name: /: USER$/ }).locator(".field-error").getByText(/used more than once/).waitFor();
  assert.equal(await page.locator("[data-at=name]").last().getAttribute("aria-invalid"), "true");
  await page.locator("[data-at=name]").last().fill("kind");
  await test.click();
  await row("kind order").waitFor();
  const shown = JSON.parse(await page.locator(".code code").textContent());
  assert.deepEqual(shown.at(-1), { type: "static", name: "kind", value: "order" });
  assert.deepEqual(shown[2], { type: "path", name: "user", path: "user.nick", defaultValue: "nobody", rawString: true });
  await shots(page, "playground");

  await page.getByLabel("Headers, one per line").fill("no header");
  await test.click();
  await page.getByText("“no header” is not a header").waitFor();
  await page.context().close();
});

test("the keyboard alone logs in, opens a sink, edits and moves columns", async () => {
  const page = await open();
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.id);
  /** Presses Tab until an element with this text or id has the focus. */
  const tabTo = async (wanted) => {
    for (let i = 0; i < 80; i++) {
      await press("Tab");
      if ((await focused()) === wanted) return;
    }
    assert.fail(`Tab does not reach ${wanted}`);
  };
  await tabTo("token");
  await page.keyboard.type(TOKEN);
  await press("Enter");
  await heading(page, "Sources");
  // The focus is at the heading: Tab continues from there.
  assert.equal(await focused(), "Sources");
  await tabTo("Orders");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.notEqual(outline, "none", "the focus is visible");
  await press("Enter");
  await heading(page, "Orders");
  await tabTo("Edit in the playground");
  await press("Enter");
  await heading(page, "Columns of Orders");
  const names = () => page.locator("[data-at=name]").evaluateAll((all) => all.map((e) => e.value));
  await page.getByLabel("Name").first().waitFor();
  assert.deepEqual(await names(), ["id", "at", "user", "total"]);
  await until("the first column's name", async () => {
    await press("Tab");
    return page.evaluate(() => document.activeElement?.dataset.at === "name");
  });
  await press("Alt+ArrowDown");
  assert.deepEqual(await names(), ["at", "id", "user", "total"]);
  await press("Alt+ArrowDown");
  assert.deepEqual(await names(), ["at", "user", "id", "total"]);
  await press("Alt+ArrowUp");
  assert.deepEqual(await names(), ["at", "id", "user", "total"]);
  assert.equal(await page.evaluate(() => document.activeElement.value), "id", "the focus moves with the column");
  await press("Control+Enter");
  await page.getByRole("table").getByRole("row", { name: "user ada" }).waitFor();
  // The skip link comes first, and leads to the content.
  await page.evaluate(() => document.activeElement.blur());
  await page.reload();
  await heading(page, "Columns of Orders");
  await press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.context().close();
});

test("a read-only token reads everything, tests saved columns, and can change nothing", async () => {
  const reader = await api("POST", "/v1/admin/tokens", { role: "reader", description: "of the dashboard's test" });
  const page = await open();
  await login(page, reader.token);
  await heading(page, "Sources");
  await go(page, "#/sources/checkout/sinks/orders/mapping");
  await heading(page, "Columns of Orders");
  const test = page.getByRole("button", { name: "Test", exact: true });
  await test.click();
  await page.getByRole("table").getByRole("row", { name: "user ada" }).waitFor();
  await page.getByLabel("Name").first().fill("key");
  await test.click();
  await page.getByText("This token is read-only.").waitFor();
  await go(page, "#/sources/checkout");
  await page.getByRole("button", { name: "Disable source" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Disable" }).click();
  await page.getByText("Changes require an admin token.").waitFor();

  // It also reads deleted sinks, but can't undelete them.
  await task("DELETE", `${S}/hooks/sinks/hook`);
  await go(page, "#/sources/hooks");
  const deleted = page.locator("details.deleted");
  await deleted.locator("summary").getByText("1 sink").click();
  await deleted.getByRole("button", { name: "Undelete Hook" }).click();
  await deleted.getByText("Changes require an admin token.").waitFor();

  // After its revocation the login page shows the reason.
  const headers = { "X-StorageApi-Token": TOKEN };
  await fetch(`${ORIGIN}/v1/admin/tokens/${encodeURIComponent(reader.tokenId)}`, { method: "DELETE", headers });
  await heading(page, "Log in");
  await page.getByText("The server no longer accepts this token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.context().close();
});

test("the theme is the system's until the user chooses one", async () => {
  const page = await visit("", { colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  const theme = page.getByRole("button", { name: /^Theme/ });
  await theme.click();
  const light = await ground();
  assert.notEqual(light, dark);
  await page.reload();
  await heading(page, "Sources");
  assert.equal(await ground(), light, "the choice is stored");
  await theme.click();
  assert.equal(await ground(), dark);
  await page.context().close();
});

test("a hidden tab sends no requests, and an unavailable server is reported", async () => {
  const page = await visit("", { fakeTime: true });
  const hide = (hidden) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  const asked = () => requests.length;
  const shown = asked();
  await page.clock.runFor(10_000);
  await until("requests of a visible tab", () => asked() > shown);
  await hide(true);
  const before = asked();
  await page.clock.runFor(600_000);
  await page.evaluate(() => fetch("health/live"));
  assert.equal(asked(), before + 1, "only the request of this test");
  await page.context().setOffline(true);
  await hide(false);
  await page.getByText("The server does not respond.").first().waitFor();
  assert.ok((await page.getByRole("row").count()) > 1, "the last data is still shown");
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Retry now" }).click();
  await page.getByText("The server does not respond.").first().waitFor({ state: "detached" });
  await page.context().close();
});

test("long names and names with HTML are shown as text", async () => {
  const name = "<img src=//a.example onerror=alert(1)>";
  const sourceId = "a".repeat(48);
  await task("POST", S, { type: "http", sourceId, name });
  await task("POST", `${S}/${sourceId}/sinks`, {
    type: "table",
    sinkId: "b".repeat(48),
    name: "c".repeat(40),
    table: table("keboola", `in.long.${"t".repeat(60)}`, [{ type: "static", name: "v".repeat(60), value: "w".repeat(300) }]),
  });
  const page = await visit("", { viewport: { width: 360, height: 740 } });
  await page.getByRole("link", { name, exact: true }).click();
  await heading(page, name);
  await fits(page, "a source with a long id");
  await page.getByRole("link", { name: "c".repeat(40) }).click();
  await heading(page, "c".repeat(40));
  await page.getByText("w".repeat(300)).waitFor();
  await fits(page, "a sink with long names");
  await page.getByRole("link", { name: "Edit in the playground" }).click();
  await page.getByRole("button", { name: "Test", exact: true }).click();
  await page.getByRole("table").getByRole("row", { name: "v".repeat(60) }).waitFor();
  await fits(page, "a playground with long names");
  await go(page, "#/");
  await page.getByRole("link", { name, exact: true }).waitFor();
  await fits(page, "a list with long names");
  await page.context().close();
});

test("no request has gone elsewhere, and no page has reported an error", () => {
  assert.ok(requests.length > 100);
  assert.deepEqual([...new Set(requests.map((r) => new URL(r).origin))], [ORIGIN]);
  assert.deepEqual(errors, []);
});
