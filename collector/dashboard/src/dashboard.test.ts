import assert from "node:assert/strict";
import { test } from "node:test";
import type { Timeline } from "./protocol";

// What the modules touch when they are loaded; a browser test covers the rest.
Object.defineProperty(globalThis, "navigator", { value: { language: "en" } });
Object.assign(globalThis, {
  location: { hash: "", href: "http://localhost/" },
  addEventListener: () => {},
  matchMedia: () => ({ matches: false }),
});

test("addresses name screens and what they need", async () => {
  const { parse, topicsOf } = await import("./route");
  assert.deepEqual(parse(""), { screen: "overview" });
  assert.deepEqual(parse("#/incidents/INC-7?x=1"), { screen: "incident", id: "INC-7" });
  assert.deepEqual(topicsOf(parse("#/rollouts/12")), ["overview", "rollout:12"]);
  assert.deepEqual(parse("#/nowhere"), { screen: "overview" });
});

test("a frame replaces its topic and nothing else", async () => {
  const { reduce } = await import("./live");
  const before = { overview: 1, incidents: 2 };
  assert.deepEqual(reduce(before, { t: "d", topic: "incidents", v: null }), { overview: 1, incidents: null });
  assert.equal(reduce(before, { t: "beat", srv_ms: 1 }), before);
});

test("ticks are round and inside", async () => {
  const { ticks } = await import("./charts/shift");
  assert.deepEqual(ticks(0, 0.23, 4), [0, 0.05, 0.1, 0.15, 0.2]);
  assert.deepEqual(ticks(-3, 3, 3), [-2, 0, 2]);
  assert.deepEqual(ticks(1, 1, 3), []);
});

test("lines of different times share one grid, gaps stay gaps", async () => {
  const { align } = await import("./charts/timeline");
  const series = [
    { name: "a", points: [[1000, 0.1], [2000, null]] },
    { name: "b", points: [[2000, 0.2], [3000, 0.3]] },
  ];
  assert.deepEqual(align({ series } as unknown as Timeline), [
    [1, 2, 3],
    [0.1, null, null],
    [null, 0.2, 0.3],
  ]);
});

test("states have names in both languages, unknown ones keep theirs", async () => {
  const { lang, stateName } = await import("./text");
  lang.value = "ko";
  assert.equal(stateName("offline"), "연결 끊김");
  lang.value = "en";
  assert.equal(stateName("offline"), "Offline");
  assert.equal(stateName("snoozed"), "snoozed");
});
