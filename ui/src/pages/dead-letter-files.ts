// Export of dead letters to a file, and import of edited ones.
import { call, Failure, lines, type ReplayResult } from "../api";

/** Most edits in one request, and bytes from which one is sent. */
const EDITS_PER_REQUEST = 100;
const REQUEST_BYTES = 256 << 10;
/** Largest export held in the memory of the browser. */
const EXPORT_BYTES_MAX = 512 << 20;

interface Edit {
  deadLetterId: string;
  body?: string;
  bodyBase64?: string;
  headers?: { name: string; value: string }[];
}

/** The fields of an exported line that are used. */
type Exported = Omit<Edit, "headers"> & { headers?: Record<string, string> };

/** Downloads all dead letters that pass the filter as one file. */
export async function exportLetters(path: string, query: string, name: string): Promise<void> {
  const parts: string[] = [];
  let bytes = 0;
  let next: string | undefined = `?${query.slice(1)}`;
  while (next !== undefined) {
    const page: { text: string; next?: string } = await lines(`${path}/dead-letters/export${next}`);
    parts.push(page.text);
    bytes += page.text.length;
    if (bytes > EXPORT_BYTES_MAX) throw new Failure(0, "", "The export is too large for the browser.", "Use forebay dead export, or a filter.");
    next = page.next;
  }
  const url = URL.createObjectURL(new Blob(parts, { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name}-dead-letters.ndjson`;
  link.click();
  URL.revokeObjectURL(url);
}

/** Replays the records of an exported file. Those that were replayed before are skipped. */
export async function importLetters(path: string, text: string): Promise<ReplayResult> {
  const edits = text.split("\n").flatMap((line, i) => (line.trim() === "" ? [] : [parse(line, i + 1)]));
  const sum: ReplayResult = { replayed: 0, rejected: [], skippedIds: [] };
  for (const batch of batches(edits)) {
    const done = await call<ReplayResult>("POST", `${path}/dead-letters/replay`, { edits: batch });
    sum.replayed += done.replayed;
    sum.rejected.push(...done.rejected);
    sum.skippedIds?.push(...(done.skippedIds ?? []));
  }
  return sum;
}

function parse(line: string, number: number): Edit {
  const wrong = (why: string) => new Failure(0, "", `Line ${number}: ${why}.`, "Nothing was imported. Each line is an object, as the export writes it.");
  let value: Partial<Exported> | null;
  try {
    value = JSON.parse(line) as Partial<Exported> | null;
  } catch (e) {
    throw wrong(`not JSON, ${String(e)}`);
  }
  const { deadLetterId, body, bodyBase64, headers } = value ?? {};
  if (typeof deadLetterId !== "string") throw wrong('"deadLetterId" is missing');
  return {
    deadLetterId,
    ...(body === undefined ? {} : { body }),
    ...(bodyBase64 === undefined ? {} : { bodyBase64 }),
    ...(headers === undefined ? {} : { headers: Object.entries(headers).map(([name, value]) => ({ name, value })) }),
  };
}

function* batches(edits: Edit[]): Generator<Edit[]> {
  let batch: Edit[] = [];
  let bytes = 0;
  for (const edit of edits) {
    const length = (edit.body ?? edit.bodyBase64 ?? "").length;
    if (batch.length === EDITS_PER_REQUEST || (batch.length > 0 && bytes + length > REQUEST_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(edit);
    bytes += length;
  }
  if (batch.length > 0) yield batch;
}
