import { batch, computed, effect, signal } from "@preact/signals";
import type { EdgeHistory, Graph, Info, Point, ServiceView } from "./types";

/** What the address of the page says. */
export interface Route {
  tenant: string | null;
  ns: string | null;
  focus: string | null;
  hops: number;
  side: boolean;
  sel: string | null;
  view: "map" | "table";
  /** Milliseconds; null: live. */
  t: number | null;
  /** A duration such as `6h`, or a moment. */
  cmp: string | null;
  theme: "light" | "dark" | null;
}

function read(): Route {
  const given = new URLSearchParams(location.search);
  const t = Date.parse(given.get("t") ?? "");
  const theme = given.get("theme");
  return {
    tenant: given.get("tenant"),
    ns: given.get("ns"),
    focus: given.get("focus"),
    hops: Math.min(3, Math.max(1, Number(given.get("hops")) || 1)),
    side: given.get("side") === "1",
    sel: given.get("sel"),
    view: given.get("view") === "table" ? "table" : "map",
    t: Number.isNaN(t) ? null : t,
    cmp: given.get("cmp"),
    theme: theme === "dark" || theme === "light" ? theme : null,
  };
}

function write(route: Route): string {
  const said = new URLSearchParams();
  const { tenant, ns, focus, hops, side, sel, view, t, cmp, theme } = route;
  if (tenant) said.set("tenant", tenant);
  if (ns !== null) said.set("ns", ns);
  if (focus) said.set("focus", focus);
  if (focus && hops !== 1) said.set("hops", String(hops));
  if (side) said.set("side", "1");
  if (sel) said.set("sel", sel);
  if (view !== "map") said.set("view", view);
  if (t !== null) said.set("t", new Date(t).toISOString().replace(".000Z", "Z"));
  if (cmp) said.set("cmp", cmp);
  if (theme) said.set("theme", theme);
  const text = said.toString();
  return text ? `?${text}` : location.pathname;
}

export const route = signal<Route>(read());

/** Scope and selection make an entry of the history; what moves while a key is held replaces it. */
export function go(patch: Partial<Route>, how: "push" | "replace" = "push"): void {
  const next = { ...route.value, ...patch };
  const address = write(next);
  if (address === write(route.value)) return;
  if (how === "push") history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  route.value = next;
}

addEventListener("popstate", () => {
  route.value = read();
});

export const info = signal<Info | null>(null);
export const graph = signal<Graph | null>(null);
/** Whose data `graph` is, so that another tenant's is not shown for it. */
export const loading = signal(true);
export const offline = signal<{ since: number; next: number; why: string } | null>(null);
export const hover = signal<string | null>(null);
export const cursor = signal<number | null>(null);
export const query = signal("");
export const service = signal<ServiceView | null>(null);

const dark = matchMedia("(prefers-color-scheme: dark)");
const prefersDark = signal(dark.matches);
dark.addEventListener("change", () => {
  prefersDark.value = dark.matches;
});
export const theme = computed(() => route.value.theme ?? (prefersDark.value ? "dark" : "light"));
effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export const size = signal({ width: innerWidth, height: innerHeight });
addEventListener("resize", () => {
  size.value = { width: innerWidth, height: innerHeight };
});

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The moment to compare with. */
export function compareAt(cmp: string | null, at: number): number | null {
  if (!cmp) return null;
  const before = /^(\d+)([mhd])$/.exec(cmp);
  if (before) return at - Number(before[1]) * UNITS[before[2]!]!;
  const moment = Date.parse(cmp);
  return Number.isNaN(moment) ? null : moment;
}

class Refused extends Error {
  constructor(readonly status: number, what: string) {
    super(what);
  }
}

async function ask<T>(path: string, given: Record<string, string | number | null>, signal?: AbortSignal): Promise<T> {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value !== null) asked.set(name, String(value));
  const text = asked.toString();
  // The browser keeps the answer with its tag and asks whether it still holds.
  const answer = await fetch(`api/v1/${path}${text ? `?${text}` : ""}`, { cache: "no-cache", signal: signal ?? null });
  if (!answer.ok) {
    const said = (await answer.json().catch(() => null)) as { error?: string } | null;
    throw new Refused(answer.status, said?.error ?? `HTTP ${answer.status}`);
  }
  return (await answer.json()) as T;
}

/** How often live data are asked for: about twice a point. */
const every = () => Math.min(15_000, Math.max(1_000, (graph.value?.step ?? 4_000) / 2));

let timer = 0;
let running: AbortController | null = null;
let failures = 0;

/** Asks for the graph now, and again when it is time. */
export async function refresh(): Promise<void> {
  clearTimeout(timer);
  running?.abort();
  const mine = new AbortController();
  running = mine;
  const timeout = setTimeout(() => mine.abort("timeout"), 20_000);
  try {
    const { tenant, ns, t, cmp } = route.value;
    // What is live decides what "6 h before" means; before the first answer nothing does.
    const same = tenant === null || graph.value?.tenant === tenant;
    const at = t ?? (same ? graph.value?.at ?? null : null);
    const compare = at === null ? null : compareAt(cmp, at);
    const [told, next] = await Promise.all([
      ask<Info>("tenants", {}, mine.signal),
      ask<Graph>("service-graph", { tenant, at: t, compare, namespace: ns }, mine.signal),
    ]);
    failures = 0;
    batch(() => {
      info.value = told;
      graph.value = next;
      loading.value = false;
      offline.value = null;
    });
    if (cmp && at === null && next.kept) schedule(0);
    else if (!told.finished || !next.kept) schedule(every());
  } catch (error) {
    if (mine.signal.aborted && mine.signal.reason !== "timeout") return;
    failures += 1;
    const wait = Math.min(30_000, 1_000 * 2 ** failures);
    const why = error instanceof Refused ? error.message : "no answer";
    offline.value = { since: offline.value?.since ?? graph.value?.as_of ?? Date.now(), next: Date.now() + wait, why };
    schedule(wait);
  } finally {
    clearTimeout(timeout);
  }
}

function schedule(ms: number): void {
  timer = setTimeout(() => {
    // A hidden page asks when it is shown again.
    if (!document.hidden) void refresh();
  }, ms) as unknown as number;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !(info.value?.finished ?? false)) void refresh();
});

/** What decides which graph is asked for. */
const wanted = computed(() => {
  const { tenant, ns, t, cmp } = route.value;
  return JSON.stringify([tenant, ns, t, cmp]);
});
let asked = "";
let settle = 0;
effect(() => {
  const now = wanted.value;
  if (now === asked) return;
  const first = asked === "";
  asked = now;
  clearTimeout(settle);
  // A slider that is dragged asks when it rests.
  settle = setTimeout(() => void refresh(), first ? 0 : 60) as unknown as number;
});

const RANGE = "12h";
const pasts = new Map<string, Promise<{ points: Point[] }>>();

/** Points of something, kept until there are newer data. */
function past<T extends { points: Point[] }>(path: string, given: Record<string, string | number | null>): Promise<T> {
  const key = JSON.stringify([path, given, graph.value?.kept?.[1]]);
  let found = pasts.get(key) as Promise<T> | undefined;
  if (!found) {
    if (pasts.size > 200) pasts.clear();
    found = ask<T>(path, given);
    found.catch(() => pasts.delete(key));
    pasts.set(key, found);
  }
  return found;
}

const whose = () => graph.value?.tenant ?? "";

/** An edge over time. */
export function edgeHistory(client: string, server: string): Promise<EdgeHistory> {
  return past("edges/history", { tenant: whose(), client, server, range: RANGE });
}

/** A service at the moment that is shown, and over time. */
export function serviceAt(id: string, t: number | null): Promise<ServiceView> {
  return past(`services/${id.split("/").map(encodeURIComponent).join("/")}`, { tenant: whose(), at: t, range: RANGE });
}

/** The selected service, asked for again with each graph. */
effect(() => {
  const { sel, t } = route.value;
  const known = graph.value;
  if (!sel || !known || sel.includes("→")) {
    service.value = null;
    return;
  }
  const mine = sel;
  serviceAt(sel, t).then(
    (found) => {
      if (route.peek().sel === mine) service.value = found;
    },
    () => {
      if (route.peek().sel === mine) service.value = null;
    },
  );
});

/** The edge of a selection `client→server`. */
export const edgeId = (edge: { client: string; server: string }) => `${edge.client}→${edge.server}`;
