// Navigation, connection pill, and the screen that the address names.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { heard, link, news, useToken, views } from "./live";
import type { Incident, IncidentCard, Listing, Overview, Rollout, RolloutCard } from "./protocol";
import { type Route, route } from "./route";
import { IncidentScreen } from "./screens/incident";
import { IncidentsScreen, RolloutsScreen } from "./screens/lists";
import { OverviewScreen } from "./screens/overview";
import { RolloutScreen } from "./screens/rollout";
import { clock, lang, remember, theme, words } from "./text";

const tick = signal(Date.now());
setInterval(() => {
  tick.value = Date.now();
}, 1000);

function Pill() {
  const w = words();
  if (link.value === "live") {
    const age = Math.max(0, Math.round((tick.value - heard.value) / 1000));
    return (
      <span class="pill live">
        {w.live} · {w.updated(age)}
      </span>
    );
  }
  const old = heard.value > 0;
  return <span class="pill amber">{old ? w.reconnecting(clock(heard.value)) : w.connecting}</span>;
}

function Nav({ open }: { open: number }) {
  const w = words();
  const item = (href: string, screens: Route["screen"][], label: string) => (
    <a href={href} aria-current={screens.includes(route.value.screen) ? "page" : undefined}>
      {label}
    </a>
  );
  return (
    <nav aria-label="driftline">
      <strong class="brand">driftline</strong>
      {item("#/", ["overview"], w.overview)}
      {item("#/incidents", ["incidents", "incident"], open > 0 ? `${w.incidents} (${open})` : w.incidents)}
      {item("#/rollouts", ["rollouts", "rollout"], w.rollouts)}
    </nav>
  );
}

function TokenForm() {
  const w = words();
  const field = useRef<HTMLInputElement>(null);
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        if (field.current) useToken(field.current.value);
      }}
    >
      <p>{w.needsToken}</p>
      <label>
        {w.token} <input ref={field} type="password" autocomplete="off" required />
      </label>{" "}
      <button class="primary">{w.enter}</button>
    </form>
  );
}

/** A view that is on its way keeps its place; the skeleton's animation waits before it shows. */
function Loading() {
  return <div class="skeleton" aria-hidden="true" />;
}

function Screen() {
  const w = words();
  const all = views.value;
  const at = route.value;
  switch (at.screen) {
    case "overview":
      return all.overview ? <OverviewScreen view={all.overview as Overview} /> : <Loading />;
    case "incidents":
      return all.incidents ? <IncidentsScreen view={all.incidents as Listing<IncidentCard>} /> : <Loading />;
    case "rollouts":
      return all.rollouts ? <RolloutsScreen view={all.rollouts as Listing<RolloutCard>} /> : <Loading />;
    case "incident": {
      const view = all[`incident:${at.id}`];
      if (view === null) return <p class="lead">{w.noIncident}</p>;
      return view ? <IncidentScreen view={view as Incident} /> : <Loading />;
    }
    case "rollout": {
      const view = all[`rollout:${at.id}`];
      if (view === null) return <p class="lead">{w.noRollout}</p>;
      return view ? <RolloutScreen view={view as Rollout} /> : <Loading />;
    }
  }
}

export function App() {
  const w = words();
  const overview = views.value.overview as Overview | undefined;
  const old = link.value === "stale" || link.value === "offline";
  const at = JSON.stringify(route.value);
  useEffect(() => {
    scrollTo(0, 0);
  }, [at]);
  return (
    <div class={old ? "frame old" : "frame"}>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main")?.focus())}>
        {w.skip}
      </a>
      <Nav open={overview?.incidents.length ?? 0} />
      <div class="page">
        <header>
          <Pill />
          <button
            class="round"
            onClick={() => {
              theme.value = theme.value === "dark" ? "light" : "dark";
              remember("driftline.theme", theme.value);
            }}
          >
            {theme.value === "dark" ? w.light : w.dark}
          </button>
          <button
            class="round"
            lang={lang.value === "ko" ? "en" : "ko"}
            onClick={() => {
              lang.value = lang.value === "ko" ? "en" : "ko";
              remember("driftline.lang", lang.value);
            }}
          >
            {w.other}
          </button>
        </header>
        <main id="main" tabIndex={-1}>
          {link.value === "offline" && <p class="banner">{w.offline}</p>}
          {link.value === "token" ? <TokenForm /> : <Screen />}
        </main>
      </div>
      <div class="quiet" role="status">
        {news.value}
      </div>
    </div>
  );
}
