// Sends JSON records to a Forebay source. Usage: node forebay_client.mjs URL < records.ndjson
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

// Sends a batch; resolves when every record is on the server's disk.
export async function send(url, records, attempts = 8) {
  const body = records.map((r) => JSON.stringify({ id: randomUUID(), ...r })).join("\n");
  const headers = { "Content-Type": "application/x-ndjson" };
  for (let attempt = 0; attempt < attempts; attempt++) {
    let wait = Math.min(30, 0.2 * 2 ** attempt) * (0.5 + Math.random() / 2);
    const signal = AbortSignal.timeout(60_000);
    // No response: a repeat has the same ids.
    const response = await fetch(url, { method: "POST", body, headers, signal }).catch(() => null);
    if (response?.ok) return response.text();
    if (response && ![408, 429].includes(response.status) && response.status < 500)
      throw new Error(`${response.status}: ${await response.text()}`);
    wait = Math.max(wait, Number(response?.headers.get("Retry-After") ?? 0));
    await sleep(wait * 1000);
  }
  throw new Error(`no success after ${attempts} attempts`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const records = readFileSync(0, "utf8").split("\n").filter(Boolean).map((l) => JSON.parse(l));
  while (records.length) await send(process.argv[2], records.splice(0, 500));
}
