// Horizontal bars: shares per range of the baseline, and readings by how far they are from training.
import { Numbers, Panel } from "../parts";
import type { Ranges, Ranked } from "../protocol";
import { percent, words } from "../text";

export function RangesChart({ ranges }: { ranges: Ranges }) {
  const w = words();
  const most = Math.max(...ranges.bars.flatMap((b) => [b.before, b.share]));
  const rows = ranges.bars.map((b) => [b.label, percent(b.before), percent(b.share)]);
  return (
    <Panel title={ranges.title} caption={ranges.caption}>
      <ol class="bars">
        {ranges.bars.map((bar) => (
          <li key={bar.label}>
            <span class="name">{bar.label}</span>
            <span class="track">
              <span class={bar.hot ? "bar hot" : "bar"} style={{ width: `${(85 * bar.share) / most}%` }} />
              <span class="guide" style={{ left: `${(85 * bar.before) / most}%` }} />
              <span class="value">{percent(bar.share)}</span>
            </span>
          </li>
        ))}
      </ol>
      <Numbers head={[w.range, w.before, w.now]} rows={rows} />
    </Panel>
  );
}

export function RankedChart({ ranked }: { ranked: Ranked }) {
  return (
    <Panel title={ranked.title} caption={ranked.caption}>
      <ol class="bars">
        {ranked.items.slice(0, 20).map((item) => (
          <li key={item.feature}>
            <span class="name">{item.feature}</span>
            <span class="track">
              <span class={item.alert ? "bar hot" : "bar"} style={{ width: `${60 * Math.min(1, item.difference)}%` }} />
              <span class="value">
                {item.difference.toFixed(2)} {item.text}
              </span>
            </span>
          </li>
        ))}
      </ol>
    </Panel>
  );
}
