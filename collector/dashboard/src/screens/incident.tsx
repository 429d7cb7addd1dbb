import { useState } from "preact/hooks";
import { RangesChart, RankedChart } from "../charts/bars";
import { ShiftChart } from "../charts/shift";
import { TimelineChart } from "../charts/timeline";
import { Refused, act } from "../live";
import { AccuracyPanel, Activity, Confirm, Do, Panel, State, Table } from "../parts";
import type { Action, Incident, Plan, PlanAnswer } from "../protocol";
import { words } from "../text";

/** The plan, in full, before anything happens; made again when the fleet has changed since. */
function PlanDialog(props: { label: string; plan: Plan; first: PlanAnswer; close: () => void }) {
  const w = words();
  const [answer, setAnswer] = useState(props.first);
  const [changed, setChanged] = useState(false);
  const confirm = async () => {
    try {
      const made = await act<{ id: string }>("rollouts", { ...props.plan, plan_hash: answer.plan_hash });
      location.hash = `#/rollouts/${made.id}`;
    } catch (e) {
      if (!(e instanceof Refused && e.status === 409)) throw e;
      setAnswer(await act<PlanAnswer>("rollouts/plan", props.plan));
      setChanged(true);
      throw e;
    }
  };
  return (
    <Confirm title={props.label} button={w.start} devices={answer.devices} confirm={confirm} close={props.close}>
      {changed && <p class="why">{w.changed}</p>}
      <p>{answer.sentence}</p>
      <p class="muted small">
        {w.command}: <code>{answer.command}</code>
      </p>
    </Confirm>
  );
}

function Actions({ view }: { view: Incident }) {
  const [asked, setAsked] = useState<{ action: Action; answer: PlanAnswer } | null>(null);
  const run = async (action: Action) => {
    if (action.code === "acknowledge") await act(`incidents/${view.id}/acknowledge`, {});
    else if (action.plan) setAsked({ action, answer: await act<PlanAnswer>("rollouts/plan", action.plan) });
  };
  return (
    <div class="row">
      {view.actions.map((action) => (
        <Do key={action.code} label={action.label} why={action.why} enabled={action.enabled} primary={action.primary} run={() => run(action)} />
      ))}
      {view.actions
        .filter((action) => action.rollout)
        .map((action) => (
          <a key={action.rollout} class="button" href={`#/rollouts/${action.rollout}`}>
            {words().follow}
          </a>
        ))}
      {asked && (
        <PlanDialog label={asked.action.label} plan={asked.action.plan!} first={asked.answer} close={() => setAsked(null)} />
      )}
    </div>
  );
}

export function IncidentScreen({ view }: { view: Incident }) {
  const w = words();
  return (
    <>
      <p class="muted over">
        {view.id} · {view.model} {view.release} · <State state={view.state} />
      </p>
      <h1>{view.title}</h1>
      <p class="lead">{view.subtitle}</p>
      <dl class="facts">
        {view.facts.map((fact) => (
          <div key={fact.code}>
            <dt>{fact.label}</dt>
            <dd>{fact.text}</dd>
          </div>
        ))}
      </dl>
      <h2>{w.whatToDo}</h2>
      <Actions view={view} />
      <div class="grid">
        {view.shift && <ShiftChart shift={view.shift} />}
        {view.ranges && <RangesChart ranges={view.ranges} />}
        <TimelineChart timeline={view.timeline} />
        {view.ranked && <RankedChart ranked={view.ranked} />}
      </div>
      {view.shift_missing && <p class="muted">{view.shift_missing}</p>}
      {view.accuracy && <AccuracyPanel accuracy={view.accuracy} />}
      <Panel title={w.devices}>
        <Table
          head={[w.device, w.site, w.state, w.effect, w.model]}
          rows={view.devices.map((d) => [d.id, d.site, <State state={d.state} />, d.effect ?? "–", d.release])}
        />
      </Panel>
      <Activity items={view.activity} />
      <details class="card">
        <summary>{w.expert}</summary>
        <dl class="facts">
          {view.expert.map((row) => (
            <div key={row.label}>
              <dt>{row.label}</dt>
              <dd>{row.value}</dd>
            </div>
          ))}
        </dl>
      </details>
    </>
  );
}
