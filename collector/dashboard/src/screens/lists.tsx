import { State } from "../parts";
import type { IncidentCard, Listing, RolloutCard } from "../protocol";
import { words } from "../text";
import { RolloutBox } from "./overview";

export function IncidentsScreen({ view }: { view: Listing<IncidentCard> }) {
  return (
    <>
      <h1>{words().incidents}</h1>
      {view.empty && <p class="lead">{view.empty}</p>}
      <ul class="list">
        {view.items.map((incident) => (
          <li key={incident.id}>
            <a href={`#/incidents/${incident.id}`}>
              <State state={incident.state} /> <span class="muted">{incident.id}</span>
              <strong>{incident.title}</strong>
              <span class="muted">
                {incident.where} {incident.since}
              </span>
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

export function RolloutsScreen({ view }: { view: Listing<RolloutCard> }) {
  return (
    <>
      <h1>{words().rollouts}</h1>
      {view.empty && <p class="lead">{view.empty}</p>}
      {view.items.map((rollout) => (
        <RolloutBox key={rollout.id} rollout={rollout} />
      ))}
    </>
  );
}
