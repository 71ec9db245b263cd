// How a sink and a source are, from what the API says about them.
import type { AggregatedSink, AggregatedSource, File, Level, Levels, Slice } from "./api";

export type Tone = "ok" | "warn" | "bad" | "off" | "idle";

export interface Status {
  tone: Tone;
  text: string;
}

/** A cause of trouble, and since when. */
export interface Trouble {
  what: string;
  reason: string;
  attempt: number;
  after?: string;
}

/** Milliseconds that the oldest record has been on its way; nothing is on its way without. */
export function lag(levels: Levels, present: number): number | undefined {
  const first = (level?: Level) => (level?.firstRecordAt ? Date.parse(level.firstRecordAt) : Infinity);
  const oldest = Math.min(first(levels.local), first(levels.staging));
  return oldest === Infinity ? undefined : Math.max(0, present - oldest);
}

/** Records that are not in the table yet. */
export const inFlight = (levels: Levels) =>
  (levels.local?.recordsCount ?? 0) + (levels.staging?.recordsCount ?? 0);

const step: Record<string, string> = {
  writing: "Writing",
  closing: "Closing",
  uploading: "Upload to staging",
  importing: "Import into the table",
};

/** What has failed and is tried again, each cause once. Without `slices`: what their files say of them. */
export function troubles(files: File[], slices: Slice[] = []): Trouble[] {
  const found = new Map<string, Trouble>();
  const failedSlices = files.flatMap((f) => f.failedSlice ?? []);
  for (const item of [...files, ...failedSlices, ...slices]) {
    if (!item.retryReason || item.state === "imported" || item.state === "uploaded") continue;
    const what = step[item.state] ?? item.state;
    const known = found.get(what + item.retryReason);
    const attempt = item.retryAttempt ?? 1;
    if (known && known.attempt >= attempt) continue;
    const trouble: Trouble = { what, reason: item.retryReason, attempt };
    if (item.retryAfter) trouble.after = item.retryAfter;
    found.set(what + item.retryReason, trouble);
  }
  // A file can't be closed, or imported, before its slices are in staging: causes before consequences.
  return [...found.values()].sort((a, b) => order(a) - order(b));
}

const STEPS = [step.uploading, step.writing, step.closing, step.importing];
const order = (trouble: Trouble) => STEPS.indexOf(trouble.what);

/** Why a sink delivers nothing: what its files or, of a topic, its provider says. */
export function causes(sink: AggregatedSink): Trouble[] {
  const { files, provider } = sink.statistics;
  const found = troubles(files);
  if (provider?.error) found.push({ what: `Delivery to ${provider.name}`, reason: provider.error, attempt: 1 });
  return found;
}

export const isFailing = (sink: AggregatedSink) => !sink.disabled && causes(sink).length > 0;

/** What a person may do about a cause, where its text tells. */
export function advice(reason: string): string {
  const text = reason.toLowerCase();
  const says = (...words: string[]) => words.some((w) => text.includes(w));
  if (says("connect", "refused", "unreachable", "resolve", "dns")) {
    return "The destination can't be reached: check that it runs, and its address in the server's configuration.";
  }
  if (says("password", "authenticat", "permission", "denied", "forbidden", "unauthorized")) {
    return "The destination refuses: check the user, the password and their rights in the server's configuration.";
  }
  if (says("no space", "disk full", "quota")) return "There is no space left: free some, or make the volume larger.";
  if (says("primary key", "column")) {
    return "The table does not fit the mapping: change the table, or the sink's columns or table name.";
  }
  if (says("locked", "timeout", "timed out", "busy")) return "The destination is slow or locked: look what holds it.";
  return "Records are safe on disk and are tried again; nothing is lost while the cause is mended.";
}

export function sinkStatus(sink: AggregatedSink, source: { disabled?: unknown }, accepting: boolean): Status {
  if (sink.disabled || source.disabled) return { tone: "off", text: "Disabled" };
  if (sink.paused) return { tone: "warn", text: "Paused" };
  if (isFailing(sink)) return { tone: "bad", text: "Failing" };
  if (accepting) return { tone: "ok", text: "Receiving" };
  if (inFlight(sink.statistics.levels) > 0) return { tone: "ok", text: "Delivering" };
  return { tone: "idle", text: "Idle" };
}

export function sourceStatus(source: AggregatedSource, accepting: boolean): Status {
  if (source.disabled) return { tone: "off", text: "Disabled" };
  if (source.sinksTotal === 0) return { tone: "warn", text: "No sink" };
  const failing = source.sinks.filter(isFailing).length;
  if (failing > 0) {
    return { tone: "bad", text: source.sinksTotal > 1 ? `${failing} of ${source.sinksTotal} failing` : "Failing" };
  }
  if (accepting) return { tone: "ok", text: "Receiving" };
  if (source.sinks.some((s) => inFlight(s.statistics.levels) > 0)) return { tone: "ok", text: "Delivering" };
  return { tone: "idle", text: "Idle" };
}
