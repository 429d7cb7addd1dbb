import { useState } from "preact/hooks";
import { TimelineChart } from "../charts/timeline";
import { act } from "../live";
import { Activity, Confirm, Do, Panel, State, Table } from "../parts";
import type { Button, Rollout, Stage } from "../protocol";
import { words } from "../text";

function StageCard({ stage, current }: { stage: Stage; current: boolean }) {
  const share = (n: number) => ({ width: `${(100 * n) / Math.max(1, stage.devices)}%` });
  return (
    <li class={current ? "card stage current" : "card stage"} aria-current={current ? "step" : undefined}>
      <strong>
        {words().stage} {stage.n}
      </strong>{" "}
      · {stage.percent}%
      <div class="meter" aria-hidden="true">
        <span class="installed" style={share(stage.installed)} />
        <span class="progress" style={share(stage.in_progress)} />
        <span class="failed" style={share(stage.failed)} />
      </div>
      <span class="muted">{stage.label}</span>
    </li>
  );
}

function Buttons({ view }: { view: Rollout }) {
  const [asked, setAsked] = useState<Button | null>(null);
  const go = async (button: Button) => {
    await act(`rollouts/${view.id}/${button.code}`, {});
    setAsked(null);
  };
  // Of pause and resume only the one that fits is shown.
  const paused = view.state === "paused";
  const shown = view.buttons.filter((b) => b.code === "abort" || b.code === (paused ? "resume" : "pause"));
  return (
    <div class="row">
      {shown.map((button) => (
        <Do
          key={button.code}
          label={button.label}
          why={button.why}
          enabled={button.enabled}
          danger={button.danger}
          run={() => (button.confirm ? setAsked(button) : go(button))}
        />
      ))}
      {asked?.confirm && (
        <Confirm title={asked.label} button={asked.confirm.button} danger confirm={() => go(asked)} close={() => setAsked(null)}>
          <p>{asked.confirm.text}</p>
        </Confirm>
      )}
    </div>
  );
}

export function RolloutScreen({ view }: { view: Rollout }) {
  const w = words();
  const current = view.stages.find((s) => ["running", "watching", "stopped"].includes(s.state));
  return (
    <>
      <p class="muted over">
        {view.state_label}
        {view.incident && (
          <>
            {" · "}
            <a href={`#/incidents/${view.incident}`}>{view.incident}</a>
          </>
        )}
      </p>
      <h1>{view.title}</h1>
      <p class="lead">{view.sentence}</p>
      <Buttons view={view} />
      <ol class="stages">
        {view.stages.map((stage) => (
          <StageCard key={stage.n} stage={stage} current={stage === current} />
        ))}
      </ol>
      {view.failures.length > 0 && (
        <Panel title={w.failures}>
          <Table head={[w.reason, w.devices]} rows={view.failures.map((f) => [f.reason, f.devices.join(", ")])} />
        </Panel>
      )}
      {view.compare && <TimelineChart timeline={view.compare} />}
      <Panel title={w.devices}>
        <Table
          head={[w.device, w.stage, w.state, w.reason]}
          rows={view.devices.map((d) => [d.id, d.stage, <State state={d.state} />, d.reason ?? "–"])}
        />
      </Panel>
      <Activity items={view.activity} />
    </>
  );
}
