// Rates computed from successive counts. Bounded in samples and sinks.

/** Samples per sink; one every two seconds covers five minutes. */
const SAMPLES_MAX = 150;
const SINKS_MAX = 2000;
/** Window of the current rate, milliseconds. */
const WINDOW = 10_000;
/**
 * Samples averaged per point of a line: the server updates its counts at its own times, so the difference
 * of two samples alternates between zero and twice the rate.
 */
const SMOOTH = 4;

interface Sample {
  at: number;
  accepted: number;
  imported: number;
}

/** Records per second, oldest first, and the current mean. */
export interface Rates {
  accepted: number[];
  imported: number[];
  acceptedNow: number;
  importedNow: number;
  /** Time covered by the lists, milliseconds. */
  span: number;
  /** True with at least two samples. */
  known: boolean;
}

const NONE: Rates = { accepted: [], imported: [], acceptedNow: 0, importedNow: 0, span: 0, known: false };
const history = new Map<string, Sample[]>();

/** Records the counts of a sink. */
export function recordCounts(key: string, accepted: number, imported: number): void {
  const at = performance.now();
  let samples = history.get(key);
  const last = samples?.at(-1);
  // Cleared counts restart, and so does their history.
  if (!samples || (last && (accepted < last.accepted || imported < last.imported))) {
    samples = [];
    history.delete(key);
    history.set(key, samples);
  }
  if (last && samples.length > 0 && at - last.at < 500) return;
  samples.push({ at, accepted, imported });
  if (samples.length > SAMPLES_MAX) samples.shift();
  if (history.size > SINKS_MAX) {
    const oldest = history.keys().next();
    if (!oldest.done) history.delete(oldest.value);
  }
}

/** Clears all samples; for the end of a session. */
export const forget = () => history.clear();

function between(a: Sample, b: Sample, field: "accepted" | "imported"): number {
  const seconds = (b.at - a.at) / 1000;
  return seconds > 0 ? (b[field] - a[field]) / seconds : 0;
}

/** Rates of a sink. */
export function rates(key: string): Rates {
  const samples = history.get(key) ?? [];
  const last = samples.at(-1);
  const first = samples[0];
  if (!last || !first || last === first) return NONE;
  const start = samples.find((s) => last.at - s.at <= WINDOW && s !== last) ?? samples.at(-2) ?? first;
  const accepted: number[] = [];
  const imported: number[] = [];
  for (let i = 1; i < samples.length; i++) {
    const [a, b] = [samples[Math.max(0, i - SMOOTH)], samples[i]];
    if (!a || !b) continue;
    accepted.push(between(a, b, "accepted"));
    imported.push(between(a, b, "imported"));
  }
  return {
    accepted,
    imported,
    acceptedNow: between(start, last, "accepted"),
    importedNow: between(start, last, "imported"),
    span: last.at - first.at,
    known: true,
  };
}

/** Sum of several sinks, aligned at the newest samples. */
export function sum(parts: Rates[]): Rates {
  const known = parts.filter((p) => p.known);
  const length = Math.max(0, ...known.map((p) => p.accepted.length));
  const add = (field: "accepted" | "imported") =>
    Array.from({ length }, (_, i) => known.reduce((all, p) => all + (p[field].at(i - length) ?? 0), 0));
  return {
    accepted: add("accepted"),
    imported: add("imported"),
    acceptedNow: known.reduce((all, p) => all + p.acceptedNow, 0),
    importedNow: known.reduce((all, p) => all + p.importedNow, 0),
    span: Math.max(0, ...known.map((p) => p.span)),
    known: known.length > 0,
  };
}
