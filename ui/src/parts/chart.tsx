// Charts of rates.
import { rate, span } from "../format";
import type { Rates } from "../rates";

function line(values: number[], max: number, width: number, height: number, slots: number): string {
  const step = width / Math.max(1, slots - 1);
  const start = width - step * (values.length - 1);
  return values
    .map((v, i) => `${(start + i * step).toFixed(1)} ${(height - (v / max) * height).toFixed(1)}`)
    .join("L");
}

/** A sparkline; its figures are shown beside it. */
export function Spark({ rates }: { rates: Rates }) {
  const values = rates.accepted.slice(-40);
  const max = Math.max(1, ...values);
  const points = line(values, max, 100, 22, Math.max(values.length, 12));
  return (
    <svg class="spark" viewBox="-1 -2 102 26" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <path class="base" d="M0 22H100" />
      {values.length > 1 && <path class="accepted" d={`M${points}`} />}
    </svg>
  );
}

/** The next round number. */
function ceiling(max: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, max)));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= max) ?? max;
}

/** Minimum points of the full width; with fewer the line grows to the left. */
const SLOTS_MIN = 30;
const [WIDTH, HEIGHT] = [600, 120];

/** Accepted and imported records, newest at the right. */
export function RateChart({ rates }: { rates: Rates }) {
  const max = ceiling(Math.max(1, ...rates.accepted, ...rates.imported));
  const label = `Records per second over the last ${span(rates.span)}: ${rate(rates.acceptedNow)} accepted and ${rate(rates.importedNow)} imported now, at most ${rate(Math.max(0, ...rates.accepted))} accepted.`;
  const slots = Math.max(SLOTS_MIN, rates.accepted.length);
  const accepted = line(rates.accepted, max, WIDTH, HEIGHT, slots);
  const imported = line(rates.imported, max, WIDTH, HEIGHT, slots);
  return (
    <figure class="chart">
      <figcaption>
        <span class="key accepted">Accepted</span>
        <span class="key imported">Imported</span>
        <span class="muted">records per second, last {span(Math.max(rates.span, SLOTS_MIN * 2000))}</span>
      </figcaption>
      <div class="plot">
        <div class="axis" aria-hidden="true">
          <span>{rate(max)}</span>
          <span>{rate(max / 2)}</span>
          <span>0</span>
        </div>
        <svg viewBox={`0 -2 ${WIDTH} ${HEIGHT + 4}`} preserveAspectRatio="none" role="img" aria-label={label}>
          <path class="grid" d={`M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`} />
          {rates.imported.length > 1 && <path class="imported" d={`M${imported}`} />}
          {rates.accepted.length > 1 && <path class="accepted" d={`M${accepted}`} />}
        </svg>
        {!rates.known && <p class="muted">Rates appear after the next update.</p>}
      </div>
    </figure>
  );
}
