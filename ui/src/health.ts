// Status of sinks and sources, derived from API data.
import type { AggregatedSink, AggregatedSource, File, Level, Levels, Slice } from "./api";

export type Tone = "ok" | "warn" | "bad" | "off" | "idle";

export interface Status {
  tone: Tone;
  text: string;
}

/** A failure that is retried. */
export interface DeliveryFailure {
  what: string;
  reason: string;
  attempt: number;
  after?: string;
}

/** Age of the oldest record in flight, milliseconds; undefined without one. */
export function lag(levels: Levels, present: number): number | undefined {
  const first = (level?: Level) => (level?.firstRecordAt ? Date.parse(level.firstRecordAt) : Infinity);
  const oldest = Math.min(first(levels.local), first(levels.staging));
  return oldest === Infinity ? undefined : Math.max(0, present - oldest);
}

/** Records not in the table yet. */
export const inFlight = (levels: Levels) =>
  (levels.local?.recordsCount ?? 0) + (levels.staging?.recordsCount ?? 0);

const step: Record<string, string> = {
  writing: "Writing",
  closing: "Closing",
  uploading: "Upload to staging",
  importing: "Import into the table",
};

/** Failures that are retried, each cause once. Without `slices`, the failed slices listed by the files. */
export function deliveryFailures(files: File[], slices: Slice[] = []): DeliveryFailure[] {
  const found = new Map<string, DeliveryFailure>();
  const failedSlices = files.flatMap((f) => f.failedSlice ?? []);
  for (const item of [...files, ...failedSlices, ...slices]) {
    if (!item.retryReason || item.state === "imported" || item.state === "uploaded") continue;
    const what = step[item.state] ?? item.state;
    const known = found.get(what + item.retryReason);
    const attempt = item.retryAttempt ?? 1;
    if (known && known.attempt >= attempt) continue;
    const trouble: DeliveryFailure = { what, reason: item.retryReason, attempt };
    if (item.retryAfter) trouble.after = item.retryAfter;
    found.set(what + item.retryReason, trouble);
  }
  // A file can't be closed or imported before its slices are staged: list causes before consequences.
  return [...found.values()].sort((a, b) => order(a) - order(b));
}

const STEPS = [step.uploading, step.writing, step.closing, step.importing];
const order = (trouble: DeliveryFailure) => STEPS.indexOf(trouble.what);

/** Failures of a sink: of its files or, for a topic, its provider. */
export function causes(sink: AggregatedSink): DeliveryFailure[] {
  const { files, provider } = sink.statistics;
  const found = deliveryFailures(files);
  if (provider?.error) found.push({ what: `Delivery to ${provider.name}`, reason: provider.error, attempt: 1 });
  return found;
}

export const isFailing = (sink: AggregatedSink) => !sink.disabled && causes(sink).length > 0;

/** Advice by the text of a cause. */
export function advice(reason: string): string {
  const text = reason.toLowerCase();
  const says = (...words: string[]) => words.some((w) => text.includes(w));
  if (says("connect", "refused", "unreachable", "resolve", "dns")) {
    return "The destination is unreachable: check that it runs, and its address in the server's configuration.";
  }
  if (says("password", "authenticat", "permission", "denied", "forbidden", "unauthorized")) {
    return "The destination denies access: check the user, password and permissions in the server's configuration.";
  }
  if (says("no space", "disk full", "quota")) return "No space left: free some, or enlarge the volume.";
  if (says("primary key", "column")) {
    return "The table does not match the mapping: change the table, or the sink's columns or table name.";
  }
  if (says("locked", "timeout", "timed out", "busy")) return "The destination is slow or locked: check its load and locks.";
  return "Records are safe on disk and are retried; nothing is lost until the cause is fixed.";
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
