// The management API: what it answers, and how it is asked.
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
}
export type ColumnType = "uuid" | "datetime" | "ip" | "body" | "headers" | "path" | "template" | "static";
export interface Column {
  type: ColumnType;
  name: string;
  path?: string;
  defaultValue?: string;
  rawString?: boolean;
  template?: { language: "jsonnet"; content: string };
  value?: string;
  primaryKey?: boolean;
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
  /** It takes records and delivers none. */
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
/** Whether the provider of a topic takes messages, and why not. */
export interface Provider {
  name: string;
  state: string;
  error?: string;
  since?: string;
}
export interface AggregatedSink extends Sink {
  statistics: { total: Level; levels: Levels; reconciliation: Reconciliation; files: File[]; provider?: Provider };
}
export interface AggregatedSource extends Source {
  /** How many there are; the list has a part of them. */
  sinksTotal: number;
  sinks: AggregatedSink[];
}
export interface Reconciliation {
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
export interface LetterSummary {
  deadLetterId: string;
  receivedAt: string;
  column: string;
  error: string;
  message: string;
  size: number;
}
export interface Letter extends LetterSummary {
  clientIp: string;
  headers: Record<string, string>;
  line?: number;
  body?: string;
  bodyBase64?: string;
}
export interface Trial {
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

/** Why a request has failed: for people, with what can be done about it. */
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

/** The address that the page was loaded from, without its last part: the API's. */
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
  /** Calls `handler` when the server no longer takes the token. */
  whenLost: (handler: (why: string) => void) => {
    onLoss = handler;
  },
};

/** Server's time minus that of this machine, milliseconds; from the last answer. */
let skew = 0;
/** The server's time, milliseconds since 1970. */
export const now = () => Date.now() + skew;

const HINTS: Record<number, string> = {
  403: "Log in with an admin's token to change something.",
  408: "The server is busy; try again.",
  409: "Something else has changed it meanwhile; look again and repeat what you wanted.",
  413: "The request is larger than the server's api.bodyLimit.",
  429: "Too many requests; try again in a moment.",
  500: "The server's log says more under the request's id.",
  503: "The server is starting, stopping or can't reach its store; it is asked again.",
};

async function failure(response: Response): Promise<Failure> {
  const text = await response.text();
  let body: { error?: unknown; message?: unknown } = {};
  try {
    body = JSON.parse(text) as typeof body;
  } catch {
    // Not from Forebay: a proxy's page, perhaps.
  }
  const message = typeof body.message === "string" ? body.message : `The server answered ${response.status}.`;
  const code = typeof body.error === "string" ? body.error : "";
  return new Failure(response.status, code, message, HINTS[response.status] ?? "");
}

/** Asks the API with a token that may not be the session's. */
export async function ask<T>(
  token: string,
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
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
    throw new Failure(0, "", "The server does not answer.", "Check that Forebay runs and that this machine reaches it.");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header has whole seconds: smaller differences are none.
  if (!Number.isNaN(date)) skew = Math.abs(date - Date.now()) > 1500 ? date - Date.now() : 0;
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Asks the API; ends the session when the server does not take its token. */
export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const token = session.token() ?? "";
  try {
    return await ask<T>(token, method, path, body, signal);
  } catch (error) {
    if (error instanceof Failure && error.status === 401 && session.token() === token) {
      session.close();
      onLoss("The server does not take this token any more. It may have been revoked, rotated or have expired.");
    }
    throw error;
  }
}

/** Each time the server waits for the end of the task, up to ten seconds. */
const TASK_LOOKS = 60;
const WAIT = "wait=10s";

/** Starts a task and waits for its end; its sentence is the answer. */
export async function run(method: string, path: string, body?: unknown): Promise<string> {
  let task = await call<Task>(method, `${path}${path.includes("?") ? "&" : "?"}${WAIT}`, body);
  for (let look = 0; !task.isFinished; look++) {
    if (look === TASK_LOOKS) throw new Failure(0, "", "It is still under way.", "Look again in some minutes.");
    task = await call<Task>("GET", `/v1/tasks/${task.taskId}?${WAIT}`);
  }
  if (task.status !== "success") throw new Failure(0, "", task.error ?? "It has failed.", "");
  return task.result ?? "Done.";
}

/** Any error as one for people. */
export function asFailure(error: unknown): Failure {
  return error instanceof Failure ? error : new Failure(0, "", String(error), "Reload the page.");
}
