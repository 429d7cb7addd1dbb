// Training against now: grey filled steps, a blue outline, what lies outside in hatched bins at the ends.
import { Numbers, Panel, useWidth } from "../parts";
import type { Bin, Shift } from "../protocol";
import { percent, words } from "../text";

const HEIGHT = 230;
const MARGIN = { top: 34, right: 8, bottom: 40, left: 40 };

/** A round number of the form 1, 2 or 5 times a power of ten, near `x`. */
export function roundStep(x: number): number {
  const power = 10 ** Math.floor(Math.log10(x));
  const lead = x / power;
  return (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
}

export function ticks(lo: number, hi: number, count: number): number[] {
  if (!(hi > lo)) return [];
  const step = roundStep((hi - lo) / count);
  const first = Math.ceil(lo / step);
  const last = Math.floor(hi / step);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

export function ShiftChart({ shift }: { shift: Shift }) {
  const [box, width] = useWidth();
  const w = words();
  const unit = shift.unit ? ` ${shift.unit}` : "";
  const label = (bin: Bin) =>
    bin.overflow === "low"
      ? `< ${format(bin.hi)}`
      : bin.overflow === "high"
        ? `> ${format(bin.lo)}`
        : `${format(bin.lo)} – ${format(bin.hi)}`;
  return (
    <Panel title={shift.title} caption={shift.caption}>
      <div ref={box}>{width > 0 && <Picture shift={shift} width={width} />}</div>
      <p class="muted small">
        {w.before}: {w.n(shift.n_training)} · {w.now}: {w.n(shift.n_now)}
      </p>
      <Numbers
        head={[`${w.range}${unit}`, w.before, w.now]}
        rows={shift.bins.map((bin) => [label(bin), percent(bin.training), percent(bin.now)])}
      />
    </Panel>
  );
}

const format = (x: number) => Number(x.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

function Picture({ shift, width }: { shift: Shift; width: number }) {
  const bins = shift.bins;
  const lo = bins[0]!.lo;
  const hi = bins[bins.length - 1]!.hi;
  const top = Math.max(0.01, ...bins.flatMap((b) => [b.training, b.now])) * 1.05;
  const x = (v: number) => MARGIN.left + ((v - lo) / (hi - lo)) * (width - MARGIN.left - MARGIN.right);
  const y = (share: number) => HEIGHT - MARGIN.bottom - (share / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const outline = (key: "training" | "now") =>
    bins.map((b, i) => `${i === 0 ? "M" : "L"}${x(b.lo)},${y(b[key])}L${x(b.hi)},${y(b[key])}`).join("");
  const base = y(0);
  const before = x(shift.median_training);
  const after = x(shift.median_now);
  const apart = Math.abs(after - before) > 14;
  const inner = bins.filter((b) => !b.overflow);
  const xs = ticks(inner[0]!.lo, inner[inner.length - 1]!.hi, Math.max(2, Math.floor(width / 90)));
  return (
    <svg width={width} height={HEIGHT} role="img" aria-label={shift.sentence}>
      <defs>
        <pattern id="hatch" width="6" height="6" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">
          <line x1="0" y1="0" x2="0" y2="6" class="hatch" />
        </pattern>
        <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
          <path d="M0,0L8,4L0,8z" class="ink" />
        </marker>
      </defs>
      {ticks(0, top, 4).map((share) => (
        <g key={share}>
          <line x1={MARGIN.left} x2={width - MARGIN.right} y1={y(share)} y2={y(share)} class="grid" />
          <text x={MARGIN.left - 6} y={y(share) + 4} text-anchor="end">
            {percent(share)}
          </text>
        </g>
      ))}
      <path d={`${outline("training")}L${x(hi)},${base}L${x(lo)},${base}z`} class="training" />
      {bins
        .filter((b) => b.overflow)
        .map((b) => (
          <rect
            key={b.overflow}
            x={x(b.lo)}
            width={x(b.hi) - x(b.lo)}
            y={y(Math.max(b.training, b.now))}
            height={base - y(Math.max(b.training, b.now))}
            fill="url(#hatch)"
          />
        ))}
      <path d={outline("now")} class="now" />
      {xs.map((v) => (
        <text key={v} x={x(v)} y={base + 16} text-anchor="middle">
          {format(v)}
        </text>
      ))}
      <text x={width - MARGIN.right} y={HEIGHT - 4} text-anchor="end">
        {shift.feature}
        {shift.unit && ` (${shift.unit})`}
      </text>
      <line x1={before} x2={before} y1={MARGIN.top - 12} y2={base} class="median before" />
      <line x1={after} x2={after} y1={MARGIN.top - 12} y2={base} class="median after" />
      {apart && (
        <line x1={before} x2={after} y1={MARGIN.top - 8} y2={MARGIN.top - 8} class="arrow" marker-end="url(#tip)" />
      )}
      <text x={(before + after) / 2} y={MARGIN.top - 16} text-anchor="middle" class="strong">
        {shift.arrow}
      </text>
    </svg>
  );
}
