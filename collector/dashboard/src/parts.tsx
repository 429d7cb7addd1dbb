// Small things that several screens use.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refused, link } from "./live";
import type { Accuracy } from "./protocol";
import { percent, stateName, words } from "./text";

const SHAPES: Record<string, string> = {
  normal: "●",
  watch: "▲",
  drifting: "◆",
  updating: "↓",
  offline: "⊘",
  learning: "◌",
  open: "◆",
  acknowledged: "◇",
  resolved: "●",
  installed: "●",
  failed: "◆",
};

/** A state as shape, word and colour. */
export function State({ state }: { state: string }) {
  return (
    <span class={`state ${state}`}>
      <span aria-hidden="true">{SHAPES[state] ?? "○"}</span> {stateName(state)}
    </span>
  );
}

/** A button for something that changes the fleet: off while offline, off with a reason, busy while it waits. */
export function Do(props: {
  label: string;
  why: string | null;
  enabled: boolean;
  primary?: boolean;
  danger?: boolean;
  run: () => Promise<void> | void;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const cut = link.value !== "live";
  const run = async () => {
    setBusy(true);
    setError("");
    try {
      await props.run();
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    } finally {
      setBusy(false);
    }
  };
  const style = props.primary ? "primary" : props.danger ? "danger" : "";
  return (
    <span class="do">
      <button class={style} disabled={!props.enabled || busy || cut} onClick={() => void run()}>
        {props.label}
      </button>
      {props.why && <span class="muted why">{props.why}</span>}
      {error && (
        <span class="why" role="alert">
          {words().failed}: {error}
        </span>
      )}
    </span>
  );
}

/** A question before something wide or destructive. More than 100 devices want their number typed. */
export function Confirm(props: {
  title: string;
  button: string;
  danger?: boolean;
  devices?: number;
  children: ComponentChildren;
  confirm: () => Promise<void>;
  close: () => void;
}) {
  const w = words();
  const box = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => box.current?.showModal(), []);
  const many = (props.devices ?? 0) > 100;
  const ready = !many || typed === String(props.devices);
  const confirm = async () => {
    setBusy(true);
    setError("");
    try {
      await props.confirm();
    } catch (e) {
      setError(e instanceof Refused || e instanceof Error ? e.message : String(e));
      setBusy(false);
    }
  };
  return (
    <dialog ref={box} onClose={props.close} aria-labelledby="dialog-title">
      <h2 id="dialog-title">{props.title}</h2>
      {props.children}
      {many && (
        <label>
          {w.typeNumber(props.devices!)}{" "}
          <input inputMode="numeric" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
        </label>
      )}
      {error && (
        <p role="alert" class="why">
          {error}
        </p>
      )}
      <div class="row end">
        <button onClick={() => box.current?.close()}>{w.cancel}</button>
        <button class={props.danger ? "danger" : "primary"} disabled={!ready || busy} onClick={() => void confirm()}>
          {props.button}
        </button>
      </div>
    </dialog>
  );
}

/** A card with a heading and a caption. */
export function Panel(props: { title: string; caption?: string; children: ComponentChildren }) {
  return (
    <section class="card panel">
      <h2>{props.title}</h2>
      {props.caption && <p class="muted">{props.caption}</p>}
      {props.children}
    </section>
  );
}

/** How often models are right, and whether that was measured or estimated; an estimate is drawn hollow, with its interval. */
export function AccuracyPanel({ accuracy }: { accuracy: Accuracy }) {
  const wide = (share: number) => `${100 * share}%`;
  const names = [...new Set(accuracy.items.flatMap((item) => item.more.map((figure) => figure.label)))];
  const detailed = accuracy.items.filter((item) => item.more.length > 0);
  const figure = (item: Accuracy["items"][number], name: string) => item.more.find((f) => f.label === name)?.text ?? "–";
  const rows = detailed.map((item) => [`${item.label} (${item.text})`, percent(item.share), ...names.map((n) => figure(item, n))]);
  return (
    <Panel title={accuracy.title} caption={accuracy.caption}>
      <ol class="bars accuracy">
        {accuracy.items.map((item) => (
          <li key={item.label}>
            <span class="name wide">{item.label}</span>
            <span class="track">
              <span class="scale">
                <span class={`bar ${item.kind}`} style={{ width: wide(item.share) }} />
                {item.low !== null && item.high !== null && (
                  <span class="whisker" style={{ left: wide(item.low), width: wide(item.high - item.low) }} />
                )}
              </span>
              <span class="value">
                <strong>{percent(item.share)}</strong> {item.text}
              </span>
            </span>
          </li>
        ))}
      </ol>
      {rows.length > 0 && <Numbers head={[words().model, words().right, ...names]} rows={rows} />}
    </Panel>
  );
}

/** The numbers of a chart for those who would rather read them. */
export function Numbers({ head, rows }: { head: string[]; rows: string[][] }) {
  return (
    <details>
      <summary>{words().table}</summary>
      <Table head={head} rows={rows} />
    </details>
  );
}

export function Table({ head, rows }: { head: string[]; rows: ComponentChildren[][] }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={head.join(", ")}>
      <table>
        <thead>
          <tr>
            {head.map((h) => (
              <th key={h} scope="col">
                {h}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              {row.map((cell, j) => (
                <td key={j}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What happened, newest first. */
export function Activity({ items }: { items: { t_ms: number; text: string }[] }) {
  const w = words();
  const time = (ms: number) => new Date(ms).toISOString().slice(11, 19);
  return (
    <Panel title={w.activity}>
      <ul class="activity">
        {[...items].reverse().map((item, i) => (
          <li key={items.length - i}>
            <time dateTime={new Date(item.t_ms).toISOString()}>{time(item.t_ms)}</time> {item.text}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** The width of an element as it is drawn, so that no text is ever scaled. */
export function useWidth(): [{ current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver((entries) => setWidth(Math.floor(entries[0]!.contentRect.width)));
    if (box.current) observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}
