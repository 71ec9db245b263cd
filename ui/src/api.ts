// The management API: types and client.
//
// Invariant: the token is in the session storage of this tab and in the header of requests to this
// origin, and nowhere else.

export interface Event {
  at: string;
  by: { type: string; tokenId?: string; tokenDesc?: string };
}
export interface Version {
  number: number;
  hash: string;
  description: string;
  at: string;
}
export interface Source {
  projectId: number;
  branchId: number;
  sourceId: string;
  type: string;
  name: string;
  description: string;
  http?: { url: string };
  version: Version;
  deleted?: Event;
  disabled?: Event & { reason: string };
  /** Signature that requests must have. */
  verify?: Verify;
}
export interface Verify {
  type: string;
  secretFingerprints?: string[];
  tolerance?: string;
  header?: string;
}
export type ColumnType = "uuid" | "datetime" | "ip" | "body" | "headers" | "path" | "template" | "static";
export type DataType = "text" | "integer" | "double" | "boolean" | "timestamp" | "json";
export type TimeUnit = "s" | "ms" | "us" | "ns";
export interface Column {
  type: ColumnType;
  name: string;
  path?: string;
  defaultValue?: string;
  rawString?: boolean;
  template?: { language: "jsonnet"; content: string };
  value?: string;
  primaryKey?: boolean;
  dataType?: DataType;
  unit?: TimeUnit;
}
export interface Sink {
  sourceId: string;
  sinkId: string;
  type: string;
  name: string;
  description: string;
  table?: { type: string; tableId: string; mapping: { columns: Column[] } };
  topic?: { provider: string; topic: string };
  version: Version;
  created: Event;
  deleted?: Event;
  disabled?: Event & { reason: string };
  /** Accepts records, but delivers none. */
  paused?: Event & { reason?: string };
}
export interface Level {
  firstRecordAt?: string;
  lastRecordAt?: string;
  recordsCount: number;
  compressedSize: number;
  uncompressedSize: number;
}
export interface Levels {
  local?: Level;
  staging?: Level;
  target?: Level;
}
export interface Retry {
  retryAttempt?: number;
  retryReason?: string;
  retryAfter?: string;
}
export interface File extends Retry {
  state: string;
  openedAt: string;
  closingAt?: string;
  importingAt?: string;
  importedAt?: string;
  failedSlice?: Retry & { state: string };
  statistics: { total: Level | null; levels: Levels };
}
export interface Slice extends Retry {
  fileOpenedAt: string;
  openedAt: string;
  volumeId: string;
  state: string;
  closingAt?: string;
  uploadingAt?: string;
  uploadedAt?: string;
  statistics: Level;
}
/** State of a topic's provider. */
export interface Provider {
  name: string;
  state: string;
  error?: string;
  since?: string;
}
export interface AggregatedSink extends Sink {
  statistics: { total: Level; levels: Levels; reconciliation: ReconciliationCounts; files: File[]; provider?: Provider };
}
export interface AggregatedSource extends Source {
  /** Number of all sinks; the list has a page of them. */
  sinksTotal: number;
  sinks: AggregatedSink[];
}
export interface ReconciliationCounts {
  accepted: number;
  imported: number;
  dead: number;
  expired: number;
  lost: number;
  inFlight: number;
  holds: boolean;
}
export interface Page {
  limit: number;
  totalCount: number;
  afterId: string;
  lastId: string;
}
export interface DeadLetterSummary {
  deadLetterId: string;
  receivedAt: string;
  column: string;
  error: string;
  message: string;
  causeId: string;
  size: number;
}
/** Dead letters with the same error, except for values in it. */
export interface Cause {
  causeId: string;
  message: string;
  count: number;
  lastReceivedAt: string;
}
export interface ReplayResult {
  replayed: number;
  rejected: { deadLetterId: string; message: string }[];
  skippedIds?: string[];
  /** Of a dry run. */
  rows?: { deadLetterId: string; row: { name: string; value: string }[] }[];
  moreAfterId?: string;
}
export interface DeadLetter extends DeadLetterSummary {
  clientIp: string;
  headers: Record<string, string>;
  line?: number;
  body?: string;
  bodyBase64?: string;
}
export interface MappingTest {
  row: { name: string; value: string }[];
  violations: { column?: number; message: string }[];
}
interface Task {
  taskId: string;
  status: string;
  isFinished: boolean;
  result?: string;
  error?: string;
}

/** A failed request: message and hint for users. */
export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

const KEY = "forebay-token";

/** Base URL of the API: the page's URL without its last part. */
export const ORIGIN = new URL(".", location.href).href.replace(/\/$/, "");

export const SOURCES = "/v1/branches/default/sources";
export const sourcePath = (source: string) => `${SOURCES}/${encodeURIComponent(source)}`;
export const sinkPath = (source: string, sink: string) => `${sourcePath(source)}/sinks/${encodeURIComponent(sink)}`;

let onLoss: (why: string) => void = () => undefined;

/** The token of this tab. */
export const session = {
  token: () => sessionStorage.getItem(KEY),
  open: (token: string) => sessionStorage.setItem(KEY, token),
  close: () => sessionStorage.removeItem(KEY),
  /** Calls `handler` when the server no longer accepts the token. */
  whenLost: (handler: (why: string) => void) => {
    onLoss = handler;
  },
};

/** Clock difference to the server, milliseconds; from the last response. */
let skew = 0;
/** The server's time, milliseconds since 1970. */
export const now = () => Date.now() + skew;

const HINTS: Record<number, string> = {
  403: "Changes require an admin token.",
  408: "The request timed out; try again.",
  409: "It was changed meanwhile; reload and try again.",
  413: "The request is larger than the server's api.bodyLimit.",
  429: "Too many requests; try again in a moment.",
  500: "See the server's log for this request id.",
  503: "The server is starting, stopping or can't reach its store; retrying.",
};

async function failure(response: Response): Promise<Failure> {
  const text = await response.text();
  let body: { error?: unknown; message?: unknown } = {};
  try {
    body = JSON.parse(text) as typeof body;
  } catch {
    // Not from Forebay, but probably a proxy's page.
  }
  const message = typeof body.message === "string" ? body.message : `The server responded with ${response.status}.`;
  const code = typeof body.error === "string" ? body.error : "";
  return new Failure(response.status, code, message, HINTS[response.status] ?? "");
}

/** Sends a request with a given token. */
export async function ask<T>(token: string, method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const text = await (await send(token, method, path, body, signal)).text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

async function send(token: string, method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { "X-StorageApi-Token": token };
  const init: RequestInit = { method, headers, cache: "no-store", credentials: "omit", signal: signal ?? null };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(ORIGIN + path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "", "The server does not respond.", "Check that Forebay runs and is reachable from this machine.");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header has whole seconds: ignore smaller differences.
  if (!Number.isNaN(date)) skew = Math.abs(date - Date.now()) > 1500 ? date - Date.now() : 0;
  if (!response.ok) throw await failure(response);
  return response;
}

/** Sends a request; ends the session if the server rejects its token. */
export const call = <T,>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> =>
  inSession((token) => ask<T>(token, method, path, body, signal));

/** A page of lines, and the query of the next one. */
export const lines = (path: string): Promise<{ text: string; next?: string }> =>
  inSession(async (token) => {
    const response = await send(token, "GET", path);
    const next = /^<([^>]*)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1];
    return { text: await response.text(), ...(next ? { next } : {}) };
  });

async function inSession<T>(act: (token: string) => Promise<T>): Promise<T> {
  const token = session.token() ?? "";
  try {
    return await act(token);
  } catch (error) {
    if (error instanceof Failure && error.status === 401 && session.token() === token) {
      session.close();
      onLoss("The server no longer accepts this token: it was revoked, rotated or has expired.");
    }
    throw error;
  }
}

/** Maximum polls of a task; each waits up to ten seconds. */
const TASK_LOOKS = 60;
const WAIT = "wait=10s";

/** Starts a task, waits for its end and returns its result. */
export async function run(method: string, path: string, body?: unknown): Promise<string> {
  let task = await call<Task>(method, `${path}${path.includes("?") ? "&" : "?"}${WAIT}`, body);
  for (let look = 0; !task.isFinished; look++) {
    if (look === TASK_LOOKS) throw new Failure(0, "", "The task is still running.", "Check again in a few minutes.");
    task = await call<Task>("GET", `/v1/tasks/${task.taskId}?${WAIT}`);
  }
  if (task.status !== "success") throw new Failure(0, "", task.error ?? "The task failed.", "");
  return task.result ?? "Done.";
}

/** Converts any error to a failure. */
export function asFailure(error: unknown): Failure {
  return error instanceof Failure ? error : new Failure(0, "", String(error), "Reload the page.");
}
