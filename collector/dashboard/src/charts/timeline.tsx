// How different, over time: stepped lines, the incident shaded, rollouts as vertical lines. The one place that knows uPlot.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { Numbers, Panel, useWidth } from "../parts";
import type { Timeline } from "../protocol";
import { clock, theme, words } from "../text";

const HEIGHT = 260;
const FLOOR = 0.6;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4], [1, 2]];

/** Lines on one grid of times, as uPlot wants them. */
export function align(timeline: Timeline): (number | null)[][] {
  const times = [...new Set(timeline.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const lines = timeline.series.map((s) => {
    const at = new Map(s.points);
    return times.map((t) => at.get(t) ?? null);
  });
  return [times.map((t) => t / 1000), ...lines];
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return { text: of("--muted"), grid: of("--line"), alert: of("--hot"), mark: of("--updating"), span: of("--span"), lines: [of("--now"), of("--muted"), of("--normal"), of("--updating"), of("--hot")] };
}

function plot(timeline: Timeline, width: number, box: HTMLElement): uPlot {
  const c = colours();
  const data = align(timeline);
  const top = Math.max(FLOOR, ...data.slice(1).flatMap((line) => line.filter((v): v is number => v !== null))) * 1.02;
  const under = (u: uPlot) => {
    const { ctx } = u;
    const { left, top: y, width: w, height: h } = u.bbox;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, y, w, h);
    ctx.clip();
    ctx.fillStyle = c.span;
    for (const span of timeline.spans) {
      const from = u.valToPos(span.from_ms / 1000, "x", true);
      const to = span.to_ms === null ? left + w : u.valToPos(span.to_ms / 1000, "x", true);
      ctx.fillRect(from, y, Math.max(1, to - from), h);
    }
    ctx.restore();
  };
  const over = (u: uPlot) => {
    const { ctx } = u;
    const ratio = devicePixelRatio;
    const { left, top: y, width: w, height: h } = u.bbox;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.lineWidth = ratio;
    ctx.strokeStyle = ctx.fillStyle = c.alert;
    ctx.setLineDash([5 * ratio, 3 * ratio]);
    const alert = u.valToPos(timeline.alert, "y", true);
    ctx.beginPath();
    ctx.moveTo(left, alert);
    ctx.lineTo(left + w, alert);
    ctx.stroke();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.fillText(timeline.alert_label, left + 5 * ratio, alert - 5 * ratio);
    ctx.setLineDash([]);
    ctx.strokeStyle = ctx.fillStyle = c.mark;
    ctx.textAlign = "center";
    let free = left;
    let hidden = 0;
    for (const mark of timeline.marks) {
      const x = u.valToPos(mark.t_ms / 1000, "x", true);
      if (x < left || x > left + w) continue;
      ctx.beginPath();
      ctx.moveTo(x, y - 4 * ratio);
      ctx.lineTo(x, y + h);
      ctx.stroke();
      // A label that would cover its neighbour is counted instead.
      const label = hidden > 0 ? `+${hidden} ${mark.label}` : mark.label;
      const half = ctx.measureText(label).width / 2;
      const at = Math.min(Math.max(x, left + half), left + w - half);
      if (at - half < free) {
        hidden += 1;
        continue;
      }
      ctx.fillText(label, at, y - 8 * ratio);
      free = at + half + 8 * ratio;
      hidden = 0;
    }
    ctx.restore();
  };
  const axis = { stroke: c.text, grid: { stroke: c.grid, width: 1 }, ticks: { stroke: c.grid, width: 1 }, font: "11px system-ui, sans-serif" };
  const pad = (n: number) => String(n).padStart(2, "0");
  return new uPlot(
    {
      width,
      height: HEIGHT,
      padding: [22, 8, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
      scales: { y: { range: [0, top] } },
      axes: [
        {
          ...axis,
          values: (_, splits, __, ___, step) =>
            splits.map((t) => {
              const d = new Date(t * 1000);
              const clock = `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}`;
              if (step >= 86_400) return `${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
              return step < 60 ? `${clock}:${pad(d.getUTCSeconds())}` : clock;
            }),
        },
        { ...axis, size: 40 },
      ],
      series: [
        {},
        ...timeline.series.map((s, i) => ({
          label: s.name,
          stroke: c.lines[i % c.lines.length],
          width: 2,
          dash: DASHES[i % DASHES.length],
          points: { show: false },
          paths: uPlot.paths.stepped!({ align: 1 }),
        })),
      ],
      hooks: { drawAxes: [under], draw: [over] },
    },
    data as uPlot.AlignedData,
    box,
  );
}

export function TimelineChart({ timeline }: { timeline: Timeline }) {
  const [outer, width] = useWidth();
  const box = useRef<HTMLDivElement>(null);
  const w = words();
  const look = theme.value;
  useEffect(() => {
    if (!box.current || width === 0 || timeline.series.every((s) => s.points.length === 0)) return;
    const drawn = plot(timeline, width, box.current);
    return () => drawn.destroy();
  }, [timeline, width, look]);
  const [times, ...lines] = align(timeline);
  const rows = times!.map((t, i) => [clock(t! * 1000), ...lines.map((l) => l[i]?.toFixed(2) ?? "–")]);
  return (
    <Panel title={timeline.title} caption={timeline.caption}>
      <div ref={outer}>
        <div ref={box} role="img" aria-label={timeline.sentence} class="plot" />
      </div>
      <ul class="legend">
        {timeline.series.map((s, i) => (
          <li key={s.name}>
            <svg width="28" height="10" aria-hidden="true">
              <line x1="0" x2="28" y1="5" y2="5" class={`line${i % 5}`} stroke-dasharray={DASHES[i % DASHES.length]!.join(" ")} />
            </svg>{" "}
            {s.name}
          </li>
        ))}
      </ul>
      <Numbers head={[w.time, ...timeline.series.map((s) => s.name)]} rows={rows} />
    </Panel>
  );
}
