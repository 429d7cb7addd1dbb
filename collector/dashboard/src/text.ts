// The frame's own words. Every sentence about the fleet comes from the collector.
import { signal } from "@preact/signals";

const en = {
  overview: "Overview",
  incidents: "Incidents",
  rollouts: "Rollouts",
  live: "Live",
  updated: (s: number) => `updated ${s} s ago`,
  reconnecting: (at: string) => `Reconnecting… showing data from ${at}`,
  connecting: "Connecting…",
  offline: "The collector cannot be reached. What you see is old, and nothing can be changed until it is back.",
  needsToken: "This collector wants a token. Type it to go on; it stays in this tab.",
  token: "Token",
  enter: "Enter",
  other: "한국어",
  dark: "Dark",
  light: "Light",
  look: "Look at the problem",
  follow: "Follow the rollout",
  which: "Which reading, at which site",
  noIncident: "There is no such incident.",
  noRollout: "There is no such rollout.",
  whatToDo: "What you can do",
  table: "Show the numbers as a table",
  before: "training",
  now: "now",
  range: "range",
  right: "right",
  expert: "For experts",
  devices: "Devices",
  device: "device",
  site: "site",
  state: "state",
  effect: "difference",
  model: "model",
  stage: "Stage",
  reason: "reason",
  activity: "What happened",
  failures: "What failed, and why",
  cancel: "Cancel",
  start: "Start the rollout",
  planning: "Working out which devices this concerns…",
  changed: "The fleet has changed in the meantime; this is the new plan.",
  command: "The same from a terminal",
  typeNumber: (n: number) => `Type ${n} to confirm`,
  retry: "Try again",
  failed: "That did not work",
  n: (n: number) => `n = ${n.toLocaleString("en")}`,
  skip: "Skip to content",
  normal: "Normal",
  watch: "Watch",
  drifting: "Drifting",
  updating: "Updating",
  offlineState: "Offline",
  learning: "Learning",
  open: "Open",
  acknowledged: "Acknowledged",
  resolved: "Resolved",
  waiting: "waiting",
  in_progress: "in progress",
  installed: "installed",
  failedState: "failed",
  returning: "returning",
  returned: "returned",
  skipped: "skipped",
  time: "time (UTC)",
  value: "value",
};

const ko: typeof en = {
  overview: "개요",
  incidents: "문제",
  rollouts: "단계적 배포",
  live: "실시간",
  updated: (s) => `${s}초 전 갱신`,
  reconnecting: (at) => `다시 연결하는 중… ${at}의 데이터`,
  connecting: "연결하는 중…",
  offline: "수집기에 연결할 수 없습니다. 지금 보이는 내용은 오래된 것이며, 다시 연결될 때까지 아무것도 바꿀 수 없습니다.",
  needsToken: "이 수집기는 토큰이 필요합니다. 입력한 토큰은 이 탭에만 남습니다.",
  token: "토큰",
  enter: "확인",
  other: "English",
  dark: "어둡게",
  light: "밝게",
  look: "문제 살펴보기",
  follow: "배포 지켜보기",
  which: "어느 입력값이, 어느 현장에서",
  noIncident: "그런 문제는 없습니다.",
  noRollout: "그런 배포는 없습니다.",
  whatToDo: "할 수 있는 일",
  table: "숫자를 표로 보기",
  before: "학습",
  now: "현재",
  range: "범위",
  right: "정답률",
  expert: "전문가용",
  devices: "장치",
  device: "장치",
  site: "현장",
  state: "상태",
  effect: "차이",
  model: "모델",
  stage: "단계",
  reason: "이유",
  activity: "지난 일",
  failures: "실패와 그 이유",
  cancel: "취소",
  start: "배포 시작",
  planning: "대상 장치를 확인하는 중…",
  changed: "그사이 장치 구성이 바뀌어 계획을 새로 만들었습니다.",
  command: "터미널에서 같은 일을 하려면",
  typeNumber: (n) => `확인하려면 ${n}을(를) 입력하세요`,
  retry: "다시 시도",
  failed: "실패했습니다",
  n: (n) => `n = ${n.toLocaleString("ko")}`,
  skip: "본문으로 건너뛰기",
  normal: "정상",
  watch: "주의",
  drifting: "변화",
  updating: "업데이트 중",
  offlineState: "연결 끊김",
  learning: "학습 중",
  open: "열림",
  acknowledged: "확인됨",
  resolved: "해결됨",
  waiting: "대기",
  in_progress: "진행 중",
  installed: "설치됨",
  failedState: "실패",
  returning: "되돌리는 중",
  returned: "되돌림",
  skipped: "건너뜀",
  time: "시각 (UTC)",
  value: "값",
};

export type Lang = "en" | "ko";
const stored = (key: string) => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // Storage may be forbidden; then choices last as long as the tab.
  }
};
export const remember = (key: string, value: string) => {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* see above */
  }
};

const asked = stored("driftline.lang") ?? navigator.language;
export const lang = signal<Lang>(asked.startsWith("ko") ? "ko" : "en");
export const theme = signal<"light" | "dark">(
  (stored("driftline.theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark"
    ? "dark"
    : "light",
);
export const words = () => (lang.value === "ko" ? ko : en);

/** The name of a state; an unknown one is shown as it came. */
export function stateName(state: string): string {
  const w = words() as unknown as Record<string, unknown>;
  const key = state === "offline" ? "offlineState" : state === "failed" ? "failedState" : state;
  const name = w[key];
  return typeof name === "string" ? name : state;
}

export const percent = (share: number) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`);

const clockFormat = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });
export const clock = (ms: number) => clockFormat.format(ms);
