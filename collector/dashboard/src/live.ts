// One socket. State topics are last-value-wins, so a lost connection needs no more than to subscribe again.
import { signal } from "@preact/signals";
import type { Frame } from "./protocol";
import { lang } from "./text";

export type Link = "connecting" | "live" | "stale" | "offline" | "token";

export const link = signal<Link>("connecting");
/** When the newest frame came, by this machine's clock. */
export const heard = signal(0);
/** The newest event, for screen readers. */
export const news = signal("");
/** Views by topic; undefined until the first one came, null when there is no such thing. */
export const views = signal<Record<string, unknown>>({});

const BEAT_MS = 15_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

let socket: WebSocket | null = null;
let topics: string[] = [];
let failures = 0;
let token: string | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

export const authorization = (): Record<string, string> => (token ? { Authorization: `Bearer ${token}` } : {});

/** What the views of a subscription become with one more frame. */
export function reduce(current: Record<string, unknown>, frame: Frame): Record<string, unknown> {
  return frame.t === "d" ? { ...current, [frame.topic]: frame.v } : current;
}

export function subscribe(wanted: string[]) {
  topics = wanted;
  // What is no longer asked for would only grow old.
  views.value = Object.fromEntries(Object.entries(views.peek()).filter(([topic]) => wanted.includes(topic)));
  send({ t: "sub", topics, lang: lang.peek(), pace_ms: document.hidden ? 5000 : 250 });
}

function send(message: unknown) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

export function connect() {
  clearTimeout(timer);
  const address = new URL("api/v1/live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  const mine = new WebSocket(address, "driftline.v1");
  socket = mine;
  mine.onopen = () => {
    if (token) send({ t: "auth", token });
    subscribe(topics);
  };
  mine.onmessage = (message) => {
    failures = 0;
    heard.value = Date.now();
    link.value = "live";
    const frame = JSON.parse(message.data as string) as Frame;
    if (frame.t === "resync") subscribe(topics);
    else if (frame.t === "ev") news.value = frame.text;
    else views.value = reduce(views.value, frame);
  };
  mine.onclose = (event) => {
    if (socket !== mine) return;
    socket = null;
    if (event.code === 4401) {
      link.value = "token";
      return;
    }
    failures += 1;
    link.value = failures > 3 ? "offline" : heard.value ? "stale" : "connecting";
    const wait = Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), LONGEST_WAIT_MS);
    timer = setTimeout(connect, wait * (0.5 + Math.random() / 2));
  };
}

export function useToken(value: string) {
  token = value;
  link.value = "connecting";
  connect();
}

/** Watches for silence, and comes back at once when the tab does. */
export function start() {
  connect();
  setInterval(() => {
    if (link.value === "live" && Date.now() - heard.value > 2 * BEAT_MS + 5_000) link.value = "stale";
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    send({ t: "pace", pace_ms: document.hidden ? 5000 : 250 });
    if (!document.hidden && !socket && link.value !== "token") connect();
  });
  addEventListener("online", () => !socket && link.value !== "token" && connect());
}

/** Carries out an action; throws the server's sentence. */
export async function act<T>(path: string, body: unknown): Promise<T> {
  const headers = { "Content-Type": "application/json", ...authorization() };
  const response = await fetch(new URL(`api/v1/${path}`, location.href.split("#")[0]), {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer?.error?.message ?? response.statusText);
  return answer as T;
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}
