import type { Graph, Values } from "./types";

/** Three digits at most, never `NaN`. */
function short(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value >= 100) return value.toFixed(0);
  if (value >= 1) return value.toFixed(1).replace(/\.0$/, value < 10 ? ".0" : "");
  return value === 0 ? "0" : value.toPrecision(2);
}

export function rate(values: Values | null): string {
  const value = values?.rate ?? 0;
  if (value >= 1e6) return `${short(value / 1e6)}M/s`;
  if (value >= 1e3) return `${short(value / 1e3)}k/s`;
  if (value > 0 && value < 0.01) return "<0.01/s";
  return `${short(value)}/s`;
}

export function duration(ms: number): string {
  if (ms < 0.001) return "0 ms";
  if (ms < 1) return `${short(ms * 1e3)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${(ms / 60_000).toFixed(1)} min`;
}

/** A quantile with what is known of it: the bound when it lies in the first or behind the last bucket. */
export function quantile(values: Values | null, which: "p50" | "p95"): string {
  if (!values) return "–";
  const [le, gt, value] = [values[`${which}_le`], values[`${which}_gt`], values[which]];
  if (le !== undefined) return `< ${duration(le)}`;
  if (gt !== undefined) return `> ${duration(gt)}`;
  return value === null ? "–" : duration(value);
}

/** The share of failures from 0.1 % on; what is less has a name of its own in tables. */
export function errors(values: Values | null): string {
  const share = (values?.errors ?? 0) * 100;
  if (share === 0) return "0 %";
  if (share < 0.1) return "<0.1 %";
  return share >= 9.95 ? `${share.toFixed(0)} %` : `${share.toFixed(1)} %`;
}

/** 0: under 0.1 %, then 1, 2, 3 from 0.1, 1 and 5 % on. */
export function level(values: Values | null): 0 | 1 | 2 | 3 {
  const share = values?.errors ?? 0;
  return share >= 0.05 ? 3 : share >= 0.01 ? 2 : share >= 0.001 ? 1 : 0;
}

export type Change = "new" | "gone" | "changed" | null;

/** What a thing did between two moments. The season is taken out: rates are compared as shares of all. */
export function change(now: Values | null, then: Values | null, graph: Graph): Change {
  if (graph.compare === null) return null;
  if (!now && !then) return null;
  if (!then) return "new";
  if (!now) return "gone";
  const ratio = relative(now, then, graph);
  const worse = now.errors >= 0.01 && now.errors >= 2 * then.errors;
  return ratio >= 1.5 || ratio <= 1 / 1.5 || worse ? "changed" : null;
}

export function relative(now: Values, then: Values, graph: Graph): number {
  const season = graph.rate[1] && graph.rate[0] ? graph.rate[0] / graph.rate[1] : 1;
  return now.rate / then.rate / season;
}

/** What has changed, in a word: `×2.1`, `errors ×6`. */
export function changed(now: Values, then: Values, graph: Graph): string {
  const ratio = relative(now, then, graph);
  if (ratio >= 1.5) return `×${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(1)}`;
  if (ratio <= 1 / 1.5) return `÷${1 / ratio >= 10 ? (1 / ratio).toFixed(0) : (1 / ratio).toFixed(1)}`;
  return then.errors > 0 ? `errors ×${(now.errors / then.errors).toFixed(0)}` : "errors";
}

export function difference(now: number | null | undefined, then: number | null | undefined): string {
  if (!now || !then) return "";
  const part = Math.round((now / then - 1) * 100);
  return part === 0 ? "±0 %" : `${part > 0 ? "+" : "−"}${Math.abs(part)} %`;
}

const minutes = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const time = (at: number) => minutes.format(at);
export const exactTime = (at: number) => seconds.format(at);

/** With seconds, where minutes would repeat themselves. */
export const scale = (ms: number) => (ms < 600_000 ? exactTime : time);
export const clock = (points: { t: number }[]) => scale((points[points.length - 1]?.t ?? 0) - (points[0]?.t ?? 0));

/** With the date, if it is not of today's data. */
export function moment(at: number, near: number): string {
  return Math.abs(at - near) > 20 * 3_600_000 ? `${days.format(at)} ${minutes.format(at)}` : minutes.format(at);
}

export function span(ms: number): string {
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 86_400_000) return `${Math.round(ms / 3_600_000)} h`;
  const n = Math.round(ms / 86_400_000);
  return n === 1 ? "1 day" : `${n} days`;
}

export const count = (n: number, what: string) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

/** The middle goes first: names tend to differ at their ends. */
export function cut(name: string, fits: (text: string) => boolean): string {
  if (fits(name)) return name;
  for (let keep = name.length - 1; keep > 4; keep--) {
    const head = Math.ceil(keep / 2);
    const text = `${name.slice(0, head)}…${name.slice(name.length - (keep - head))}`;
    if (fits(text)) return text;
  }
  return `${name.slice(0, 4)}…`;
}
