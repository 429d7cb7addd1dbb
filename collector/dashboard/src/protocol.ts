// The views and frames of docs/api.md, version 1.

export type Counts = Record<"total" | DeviceState, number>;
export type DeviceState = "normal" | "watch" | "drifting" | "updating" | "offline" | "learning";

export interface Timeline {
  title: string;
  caption: string;
  sentence: string;
  alert: number;
  alert_label: string;
  series: { name: string; points: [number, number | null][] }[];
  marks: { t_ms: number; label: string; kind: string }[];
  spans: { from_ms: number; to_ms: number | null; label: string }[];
}

export interface IncidentCard {
  id: string;
  state: "open" | "acknowledged" | "resolved";
  title: string;
  where: string;
  since: string;
  since_ms: number;
  sure: string;
  model: string;
  release: string;
}

export interface RolloutCard {
  id: string;
  title: string;
  state: string;
  state_label: string;
  sentence: string;
  installed: number;
  failed: number;
  total: number;
}

export interface Heat {
  caption: string;
  columns: string[];
  rows: { feature: string; cells: ({ share: number; devices: number; of: number; alert: boolean } | null)[] }[];
}

export interface Overview {
  state: string;
  headline: string;
  summary: string;
  counts: Counts;
  incidents: IncidentCard[];
  rollouts: RolloutCard[];
  heat: Heat;
  timeline: Timeline | null;
  accuracy: Accuracy | null;
  ingest: { windows: number; refused: number; silent: number; last_ms: number | null };
  notes: string[];
  empty: string | null;
}

export interface Plan {
  model: string;
  release: string;
  query: Record<string, unknown>;
}

export interface Action {
  code: "rollout" | "acknowledge";
  label: string;
  primary: boolean;
  enabled: boolean;
  why: string | null;
  plan?: Plan | null;
  rollout?: string | null;
}

export interface Bin {
  lo: number;
  hi: number;
  training: number;
  now: number;
  overflow: "low" | "high" | null;
}

export interface Shift {
  title: string;
  caption: string;
  feature: string;
  unit: string;
  bins: Bin[];
  median_training: number;
  median_now: number;
  arrow: string;
  n_training: number;
  n_now: number;
  sentence: string;
}

export interface Ranges {
  title: string;
  caption: string;
  bars: { label: string; share: number; before: number; hot: boolean }[];
}

export interface Ranked {
  title: string;
  caption: string;
  items: { feature: string; difference: number; text: string; alert: boolean }[];
}

export interface Accuracy {
  title: string;
  caption: string;
  items: {
    label: string;
    kind: "measured" | "estimated";
    text: string;
    labelled: number;
    correct: number;
    share: number;
    low: number | null;
    high: number | null;
    more: { label: string; text: string }[];
  }[];
}

export interface Incident extends IncidentCard {
  subtitle: string;
  facts: { code: string; label: string; text: string }[];
  actions: Action[];
  shift: Shift | null;
  shift_missing: string | null;
  ranges: Ranges | null;
  timeline: Timeline;
  ranked: Ranked | null;
  accuracy: Accuracy | null;
  devices: { id: string; site: string; state: DeviceState; effect: string | null; release: string }[];
  expert: { label: string; value: string }[];
  activity: { t_ms: number; text: string }[];
}

export interface Button {
  code: "pause" | "resume" | "abort";
  label: string;
  enabled: boolean;
  why: string | null;
  danger: boolean;
  confirm: { text: string; button: string } | null;
}

export interface Stage {
  n: number;
  percent: number;
  devices: number;
  installed: number;
  in_progress: number;
  failed: number;
  waiting: number;
  state: string;
  label: string;
}

export interface Rollout extends RolloutCard {
  model: string;
  release: string;
  from_release: string | null;
  incident: string | null;
  buttons: Button[];
  stages: Stage[];
  failures: { reason: string; devices: string[] }[];
  compare: Timeline | null;
  devices: { id: string; state: string; stage: number; reason: string | null }[];
  activity: { t_ms: number; text: string }[];
}

export interface Listing<T> {
  items: T[];
  empty: string | null;
}

export interface PlanAnswer {
  plan_hash: string;
  sentence: string;
  devices: number;
  device_ids: string[];
  stages: { n: number; percent: number; devices: number }[];
  command: string;
}

export type Frame =
  | { t: "hello"; epoch: string; proto: number }
  | { t: "d"; topic: string; v: unknown }
  | { t: "ev"; k: string; id: string; text: string; t_ms: number }
  | { t: "resync"; why: string }
  | { t: "beat"; srv_ms: number };
