import { HeatMap } from "../charts/heat";
import { TimelineChart } from "../charts/timeline";
import { AccuracyPanel, Panel, State } from "../parts";
import type { DeviceState, IncidentCard, Overview, RolloutCard } from "../protocol";
import { stateName, words } from "../text";

const ALWAYS: DeviceState[] = ["normal", "drifting", "updating", "offline"];
const WHEN_ANY: DeviceState[] = ["watch", "learning"];

export function IncidentBox({ incident }: { incident: IncidentCard }) {
  return (
    <article class={`card incident ${incident.state}`}>
      <State state={incident.state === "open" ? "drifting" : incident.state} />
      <h2>{incident.title}</h2>
      <p class="muted">
        {incident.where} {incident.since}
      </p>
      <a class="button primary" href={`#/incidents/${incident.id}`}>
        {words().look}
      </a>
    </article>
  );
}

export function RolloutBox({ rollout }: { rollout: RolloutCard }) {
  const done = (100 * rollout.installed) / Math.max(1, rollout.total);
  const failed = (100 * rollout.failed) / Math.max(1, rollout.total);
  return (
    <article class="card rollout">
      <span class="state updating">
        <span aria-hidden="true">↓</span> {rollout.state_label}
      </span>
      <h2>{rollout.title}</h2>
      <p class="muted">{rollout.sentence}</p>
      <div class="meter" aria-hidden="true">
        <span class="installed" style={{ width: `${done}%` }} />
        <span class="failed" style={{ width: `${failed}%` }} />
      </div>
      <a class="button" href={`#/rollouts/${rollout.id}`}>
        {words().follow}
      </a>
    </article>
  );
}

export function OverviewScreen({ view }: { view: Overview }) {
  const w = words();
  const states = [...ALWAYS, ...WHEN_ANY.filter((s) => view.counts[s] > 0)];
  return (
    <>
      <h1>{view.headline}</h1>
      <p class="lead">{view.summary}</p>
      {view.incidents.map((incident) => (
        <IncidentBox key={incident.id} incident={incident} />
      ))}
      {view.rollouts.map((rollout) => (
        <RolloutBox key={rollout.id} rollout={rollout} />
      ))}
      {view.notes.map((note) => (
        <p key={note} class="muted">
          {note}
        </p>
      ))}
      {!view.empty && (
        <dl class="counts">
          {states.map((state) => (
            <div key={state} class="card">
              <dt>
                <State state={state} />
              </dt>
              <dd aria-label={`${stateName(state)}: ${view.counts[state]}`}>{view.counts[state].toLocaleString("en")}</dd>
            </div>
          ))}
        </dl>
      )}
      {view.heat.rows.length > 0 && view.heat.columns.length > 0 && (
        <Panel title={w.which} caption={view.heat.caption}>
          <HeatMap heat={view.heat} />
        </Panel>
      )}
      {view.timeline && <TimelineChart timeline={view.timeline} />}
      {view.accuracy && <AccuracyPanel accuracy={view.accuracy} />}
    </>
  );
}
