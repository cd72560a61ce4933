import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { clock, difference, errors, level, quantile, rate } from "./format";
import { Icon } from "./icons";
import { fit, pointer, zoom } from "./map";
import { baseRate, drawn, groupName, tidy, widthOf } from "./scene";
import { edgeHistory, go, graph, hover, route, serviceAt, size } from "./state";
import type { Point, Values } from "./types";

const past = signal<Point[]>([]);

/** What is under the pointer, in numbers. */
export function HoverCard() {
  const id = hover.value;
  const now = drawn.value;
  const edge = id ? now?.scene.edges.find((one) => one.id === id) : undefined;
  const node = id ? now?.scene.nodes.find((one) => one.id === id) : undefined;
  useEffect(() => {
    past.value = [];
    const ask = edge
      ? edge.from.startsWith("ns:") || edge.to.startsWith("ns:") || edge.quiet ? null : () => edgeHistory(edge.from, edge.to)
      : node?.kind === "node" ? () => serviceAt(node.id, route.peek().t) : null;
    if (!ask) return;
    let mine = true;
    const wait = setTimeout(() => ask().then((found) => mine && (past.value = found.points), () => undefined), 120);
    return () => {
      mine = false;
      clearTimeout(wait);
    };
  }, [id]);
  if (!edge && !(node && node.kind !== "more")) return null;
  const { now: values, then } = edge ? edge.edge : node!;
  const name = (one: string) => now?.scene.nodes.find((other) => other.id === one)?.name ?? groupName(one.replace(/^ns:/, ""));
  const title = edge ? <>{name(edge.from)} <span aria-hidden="true">→</span> {name(edge.to)}</> : node!.name;
  const of = edge
    ? `${edge.edge.type}, latency of the ${edge.edge.side}`
    : node!.kind === "group" ? "calls that enter" : `${node!.type}${node!.node?.namespace ? ` · ${node!.node.namespace}` : ""}, by ${node!.node?.of}`;
  const rows: [string, string, string, number][] = [
    ["Rate", rate(values), difference(values?.rate, then?.rate), 0],
    ["Errors", errors(values), difference(values?.errors, then?.errors), level(values)],
    ["p50", quantile(values, "p50"), difference(values?.p50, then?.p50), 0],
    ["p95", quantile(values, "p95"), difference(values?.p95, then?.p95), 0],
  ];
  const { width, height } = size.value;
  const [w, h] = [256, past.value.length > 1 ? 226 : 150];
  const left = Math.min(width - w - 12, pointer.value.x + 18);
  const top = pointer.value.y + 20 + h > height ? pointer.value.y - h - 16 : pointer.value.y + 20;
  return (
    <div class="hovercard" style={{ left: `${left}px`, top: `${Math.max(8, top)}px`, width: `${w}px` }} role="status">
      <div class="title">{title}</div>
      <div class="sub">{of}</div>
      <dl>
        {rows.map(([what, value, by, at]) => (
          <div key={what}><dt>{what}</dt><dd class={`t${at}`}>{value}</dd><dd class="by">{then ? by : ""}</dd></div>
        ))}
      </dl>
      {past.value.length > 1 && <Spark points={past.value} />}
    </div>
  );
}

function Spark({ points }: { points: Point[] }) {
  const most = (of: (v: Values | null) => number, least: number) => Math.max(least, ...points.map((p) => of(p.values)));
  const path = (of: (v: Values | null) => number, top: number) =>
    points.map((p, i) => `${i ? "L" : "M"}${((i / (points.length - 1)) * 222).toFixed(1)},${(40 - (of(p.values) / top) * 38).toFixed(1)}`).join("");
  const [calls, share] = [(v: Values | null) => v?.rate ?? 0, (v: Values | null) => v?.errors ?? 0];
  const rates = path(calls, most(calls, 1e-9));
  return (
    <div class="spark">
      <svg viewBox="0 0 222 42" width="224" height="42" aria-hidden="true">
        <path class="area" d={`${rates}L222,42L0,42Z`} />
        <path class="rate" d={rates} />
        <path class="share" d={path(share, most(share, 0.01))} />
      </svg>
      <div class="ends"><span>{clock(points)(points[0]!.t)}</span><span class="key rate">rate</span><span class="key share">error share</span><span>{clock(points)(points[points.length - 1]!.t)}</span></div>
    </div>
  );
}

export function Zoom() {
  return (
    <div class="zoom" role="group" aria-label="Zoom">
      <button type="button" aria-label="Zoom in" onClick={() => zoom(1.25)}><Icon name="plus" /></button>
      <button type="button" aria-label="Zoom out" onClick={() => zoom(0.8)}><Icon name="minus" /></button>
      <button type="button" aria-label="Fit the map (0)" onClick={fit}><Icon name="fit" /></button>
    </div>
  );
}

export function TopStrip() {
  const now = drawn.value;
  const g = graph.value;
  const { ns, hops, side, focus } = route.value;
  if (!now || !g) return null;
  const { scene } = now;
  const nodes = g.nodes.length;
  const name = (id: string) => g.nodes.find((node) => node.id === id)?.name ?? id;
  const text = {
    all: `${nodes} nodes`,
    groups: `${g.groups.length} namespaces, ${nodes} nodes`,
    group: `${scene.nodes.filter((node) => node.kind === "group").length} namespaces, ${scene.shown} nodes`,
    focus: `${scene.shown} nodes of ${nodes}${scene.beyond ? `, ${scene.beyond} beyond not shown` : ""}`,
  }[scene.kind];
  return (
    <div class="strip top">
      {ns !== null && <Pill icon="group" text={groupName(ns)} close={() => go({ ns: null, focus: null })} what="Close the namespace" />}
      {scene.focus && <Pill icon="focus" text={name(scene.focus)} {...(focus ? { close: () => go({ focus: null, hops: 1, side: false }) } : {})} what="End the focus" />}
      {scene.kind === "focus" && (
        <div class="segmented" role="group" aria-label="Hops">
          {[1, 2, 3].map((n) => <button key={n} type="button" aria-pressed={hops === n} onClick={() => go({ hops: n, focus: scene.focus })}>{n}</button>)}
        </div>
      )}
      {scene.kind === "focus" && <span>{hops === 1 ? "hop" : "hops"}</span>}
      <span class="counts">{text}</span>
      {scene.sides > 0 && (
        <button type="button" class="link" onClick={() => go({ side: !side, focus: scene.focus })}>
          {side ? "Hide" : "Show"} {scene.sides} {scene.kind === "focus" ? "side" : "lighter"} {scene.sides === 1 ? "edge" : "edges"}
        </button>
      )}
      {(now.added > 0 || now.kept > 0) && (
        <button type="button" class="link" onClick={tidy} title="Lays the map out anew">
          Tidy ({[now.added ? `${now.added} new` : "", now.kept ? `${now.kept} gone` : ""].filter(Boolean).join(", ")})
        </button>
      )}
    </div>
  );
}

function Pill({ icon, text, close, what }: { icon: string; text: string; close?: () => void; what: string }) {
  return (
    <span class="pill"><Icon name={icon} /><b>{text}</b>{close && <button type="button" aria-label={what} onClick={close}><Icon name="close" size={12} /></button>}</span>
  );
}

export function Legend() {
  const now = drawn.value;
  const g = graph.value;
  if (!now || !g) return null;
  const r0 = baseRate(g);
  const types = new Set(now.scene.nodes.map((node) => node.type));
  const rates = [r0, r0 * 10, r0 * 100];
  return (
    <div class="legend" aria-label="Legend" role="note">
      <span class="head">Error share</span>
      {["< 0.1 %", "0.1–1 %", "1–5 %", "≥ 5 %"].map((text, i) => <span key={text}><i class={`swatch e${i}`} />{text}</span>)}
      <span class="rule" />
      <span class="head">Rate</span>
      {rates.map((r) => {
        const values = { rate: r, errors: 0, p50: null, p95: null };
        return <span key={r}><i class="swatch e0" style={{ height: `${widthOf(values, r0)}px` }} />{rate(values)}</span>;
      })}
      <span class="more">
        <span class="rule" />
        <span><i class="swatch dashed" />Messaging</span>
        {(["service", "database", "queue", "external"] as const).filter((type) => types.has(type)).map((type) => (
          <span key={type}><Icon name={type} size={14} />{type[0]!.toUpperCase() + type.slice(1)}</span>
        ))}
      </span>
    </div>
  );
}
