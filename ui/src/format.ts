// Formats numbers, sizes and times.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,345 */
export const count = (n: number) => whole.format(n);

/** 12,345 up to a hundred thousand; 1.2M above. */
export const short = (n: number) => (n < 100_000 ? whole.format(n) : compact.format(n));

/** Records per second. */
export function rate(n: number): string {
  if (n > 0 && n < 9.95) return n < 0.05 ? "<0.1" : n.toFixed(1);
  return short(n);
}

/** 1.2 MB, in the units of the configuration and the command line: 1 KB is 1024 bytes. */
export function size(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? whole.format(value) : value.toFixed(1)} ${units[unit] ?? "B"}`;
}

/** A duration with one unit. */
export function span(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 59.5 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 35.5 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** Time since `at`. */
export const ago = (at: string, present: number) => `${span(present - Date.parse(at))} ago`;

const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });

/** A timestamp in UTC. */
export const time = (at: string) => `${clock.format(new Date(at))} UTC`;

/** 1 record, 2 records */
export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
