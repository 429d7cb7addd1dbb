// The address is the state: every screen is a link, under any path of a proxy.
import { signal } from "@preact/signals";

export type Route =
  | { screen: "overview" }
  | { screen: "incidents" }
  | { screen: "incident"; id: string }
  | { screen: "rollouts" }
  | { screen: "rollout"; id: string };

export function parse(hash: string): Route {
  const [screen, id] = hash.replace(/^#\/?/, "").split("?")[0]!.split("/");
  if (screen === "incidents" && id) return { screen: "incident", id: decodeURIComponent(id) };
  if (screen === "incidents") return { screen: "incidents" };
  if (screen === "rollouts" && id) return { screen: "rollout", id: decodeURIComponent(id) };
  if (screen === "rollouts") return { screen: "rollouts" };
  return { screen: "overview" };
}

/** The topics a screen needs. The overview is always one: the navigation counts incidents. */
export function topicsOf(route: Route): string[] {
  switch (route.screen) {
    case "overview":
      return ["overview"];
    case "incidents":
      return ["overview", "incidents"];
    case "incident":
      return ["overview", `incident:${route.id}`];
    case "rollouts":
      return ["overview", "rollouts"];
    case "rollout":
      return ["overview", `rollout:${route.id}`];
  }
}

export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});
