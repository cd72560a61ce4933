import { computed, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { cut, errors, level, quantile, rate, time } from "./format";
import { Icon } from "./icons";
import { baseRate, drawn, textWidth, widthOf, type Drawn, type SceneEdge, type SceneNode } from "./scene";
import { edgeId, go, graph, hover, route, size } from "./state";
import type { Graph, Values } from "./types";

interface View {
  x: number;
  y: number;
  k: number;
}

/** Strips above and below that are kept free of nodes. */
const TOP = 48;
const BOTTOM = 50;
const EDGE = 28;

export const view = signal<View>({ x: 0, y: 0, k: 1 });
const stage = signal({ w: 0, h: 0 });
export const pointer = signal({ x: 0, y: 0 });
/** The node that has the tab stop. */
const active = signal<string | null>(null);
/** Moved by hand: then nothing but a wish changes the view. */
let fitted = "";

const clamp = (k: number) => Math.min(2.5, Math.max(0.12, k));

export function fit(): void {
  const now = drawn.value;
  const { w, h } = stage.value;
  if (!now || !w) return;
  const { box } = now;
  const k = clamp(Math.min(1.1, (w - 2 * EDGE) / box.w, (h - TOP - BOTTOM - 2 * 12) / box.h));
  view.value = { k, x: (w - box.w * k) / 2 - box.x * k, y: TOP + (h - TOP - BOTTOM - box.h * k) / 2 - box.y * k };
}

export function zoom(factor: number, at?: { x: number; y: number }): void {
  const { x, y, k } = view.value;
  const to = clamp(k * factor);
  const { x: px, y: py } = at ?? { x: stage.value.w / 2, y: stage.value.h / 2 };
  view.value = { k: to, x: px - ((px - x) / k) * to, y: py - ((py - y) / k) * to };
}

/** Pans only as far as a node is covered or outside. */
function reveal(id: string, covered: number): void {
  const place = drawn.value?.places.get(id);
  if (!place) return;
  const { x, y, k } = view.value;
  const { w, h } = stage.value;
  const [left, top] = [place.x * k + x, place.y * k + y];
  const [right, bottom] = [left + place.w * k, top + place.h * k];
  const dx = right > w - covered - 16 ? w - covered - 16 - right : left < 16 ? 16 - left : 0;
  const dy = bottom > h - BOTTOM ? h - BOTTOM - bottom : top < TOP ? TOP - top : 0;
  if (dx || dy) view.value = { x: x + dx, y: y + dy, k };
}

export const PANEL = 420;
export const overlays = computed(() => size.value.width < 1060);

/** What belongs to a hovered or selected thing. */
function related(id: string | null, now: Drawn): Set<string> | null {
  if (!id) return null;
  const found = new Set<string>([id]);
  for (const edge of now.scene.edges) {
    if (edge.id === id) return new Set([id, edge.from, edge.to]);
    if (edge.from === id || edge.to === id) for (const one of [edge.id, edge.from, edge.to]) found.add(one);
  }
  return now.places.has(id) ? found : null;
}

export function open(node: SceneNode): void {
  if (node.kind === "group") go({ ns: node.group!.name, focus: null, sel: null });
  else if (node.kind === "more") go({ hops: route.value.hops, view: "table" });
  else go({ sel: node.id });
}

export function closeOne(): void {
  const { sel, focus, ns } = route.value;
  if (sel) {
    const back = sel;
    go({ sel: null });
    requestAnimationFrame(() => focusNode(back));
  } else if (focus) go({ focus: null, hops: 1, side: false });
  else if (ns !== null) go({ ns: null });
}

export function focusNode(id: string): void {
  active.value = id;
  requestAnimationFrame(() => document.querySelector<SVGElement>(`[data-node="${CSS.escape(id)}"]`)?.focus());
}

function move(from: string, key: string): void {
  const now = drawn.value!;
  const weigh = (edge: SceneEdge) => edge.edge.now?.rate ?? 0;
  const best = (edges: SceneEdge[]) => edges.reduce<SceneEdge | null>((a, b) => (!a || weigh(b) > weigh(a) ? b : a), null);
  const place = now.places.get(from)!;
  let to: string | undefined;
  if (key === "ArrowRight") to = best(now.scene.edges.filter((edge) => edge.from === from && edge.to !== from))?.to;
  else if (key === "ArrowLeft") to = best(now.scene.edges.filter((edge) => edge.to === from && edge.from !== from))?.from;
  else {
    const shown = new Set(now.scene.nodes.map((node) => node.id));
    const column = now.layout.nodes.filter((node) => node.column === place.column && shown.has(node.id)).sort((a, b) => a.y - b.y);
    const at = column.findIndex((node) => node.id === from) + (key === "ArrowDown" ? 1 : -1);
    to = column[at]?.id;
  }
  if (!to) return;
  reveal(to, 0);
  focusNode(to);
}

function onKey(event: KeyboardEvent, node: SceneNode): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.startsWith("Arrow")) move(node.id, event.key);
  else if (event.key === "Enter" || event.key === " ") open(node);
  else if (event.key === "f" || event.key === "F") {
    if (node.kind === "node") go({ focus: node.id, hops: 1 });
    else return;
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function sentence(node: SceneNode, g: Graph, now: Drawn): string {
  if (node.kind === "more") return "neighbors that have no place here; opens the table";
  const inward = now.scene.edges.filter((edge) => edge.to === node.id).length;
  const outward = now.scene.edges.filter((edge) => edge.from === node.id).length;
  const kind = node.kind === "group" ? `namespace with ${node.group!.nodes} nodes` : node.type;
  const values = node.now ? `${rate(node.now)}, errors ${errors(node.now)}, p95 ${quantile(node.now, "p95")}` : "no traffic";
  const mark = node.change ? `, ${node.change} since ${time(g.compare!)}` : "";
  return `${kind}, ${values}, called by ${inward}, calls ${outward}${mark}`;
}

function ring(values: Values | null): string {
  const share = Math.min(1, (values?.errors ?? 0) / 0.2);
  if ((values?.errors ?? 0) < 0.001) return "";
  const [cx, cy, r] = [26, 26, 13];
  const angle = Math.max(0.06, share) * 2 * Math.PI - 0.0001;
  const [x, y] = [cx + r * Math.sin(angle), cy - r * Math.cos(angle)];
  return `M${cx},${cy - r}A${r},${r} 0 ${angle > Math.PI ? 1 : 0} 1 ${x},${y}`;
}

function outline(node: SceneNode, w: number, h: number) {
  if (node.type === "database") {
    const d = `M0.5,6C0.5,2.6 ${w - 0.5},2.6 ${w - 0.5},6V${h - 5}C${w - 0.5},${h - 1} 0.5,${h - 1} 0.5,${h - 5}Z`;
    return <><path class="card" d={d} /><path class="lid" d={`M0.5,6C0.5,9.4 ${w - 0.5},9.4 ${w - 0.5},6`} /></>;
  }
  if (node.type === "queue") {
    const d = `M7,0.5H${w - 7}C${w - 1},0.5 ${w - 1},${h - 0.5} ${w - 7},${h - 0.5}H7C1,${h - 0.5} 1,0.5 7,0.5Z`;
    return <><path class="card" d={d} /><path class="lid" d={`M${w - 7},0.5C${w - 13},0.5 ${w - 13},${h - 0.5} ${w - 7},${h - 0.5}`} /></>;
  }
  return <rect class="card" x={0.5} y={0.5} width={w - 1} height={h - 1} rx={node.type === "user" ? h / 2 : 8} />;
}

const narrow = computed(() => size.value.width < 1100);

function Card({ node, w, h }: { node: SceneNode; w: number; h: number }) {
  const room = w - 60;
  const name = cut(node.name, (text) => textWidth(text) <= room + 2);
  const at = level(node.now);
  const gone = node.change === "gone" || (!node.now && node.kind === "node");
  if (node.kind === "more") {
    return <><rect class="card more" x={0.5} y={0.5} width={w - 1} height={h - 1} rx={8} /><text class="num" x={w / 2} y={h / 2 + 4} text-anchor="middle">{node.name}</text></>;
  }
  const second = node.type === "user" ? "" : ` · ${quantile(node.now, "p95")}`;
  const share = at > 0 ? errors(node.now) : "";
  const line = narrow.value && share ? rate(node.now) : rate(node.now) + second;
  return (
    <>
      {outline(node, w, h)}
      <circle class="ring" cx={26} cy={26} r={13} />
      <path class={`arc e${at}`} d={ring(node.now)} />
      <g class={at > 1 ? `glyph e${at}` : "glyph"}><Icon name={node.type} x={18.5} y={18.5} size={15} /></g>
      <text class={`name${gone ? " faint" : ""}`} x={48} y={23}>{name}</text>
      <text class="num" x={48} y={39}>
        {line}
        {share && <tspan class={`err t${at}`}>{` · ${share}`}</tspan>}
      </text>
      {node.change && <Chip x={w - 18} y={0} text={node.word} kind={node.change} />}
    </>
  );
}

function GroupCard({ node, w, h }: { node: SceneNode; w: number; h: number }) {
  const at = level(node.now);
  const group = node.group!;
  const kind = { service: "service", database: "store", queue: "queue", external: "peer", user: "user" }[group.type];
  const most = 42;
  const cells = node.cells!.slice(0, most);
  const label = `${group.nodes} ${kind}${group.nodes === 1 ? "" : "s"}`;
  const name = cut(node.name, (text) => textWidth(text) <= w - 34 - label.length * 6);
  return (
    <>
      <rect class="stack" x={4.5} y={4.5} width={w - 1} height={h - 1} rx={9} />
      <rect class="card" x={0.5} y={0.5} width={w - 1} height={h - 1} rx={9} />
      <text class="name" x={13} y={24}>{name}</text>
      <text class="num count" x={w - 13} y={24} text-anchor="end">{label}</text>
      {cells.map((e, i) => <rect key={i} class={`cell e${e}`} x={13 + (i % 14) * 10.7} y={37 + Math.floor(i / 14) * 10.5} width={7} height={7} rx={1.5} />)}
      <text class="num" x={13} y={h - 12}>{`${rate(node.now)} · ${quantile(node.now, "p95")}`}</text>
      <text class={`num err t${at}`} x={w - 13} y={h - 12} text-anchor="end">{node.now && node.now.errors > 0 ? errors(node.now) : ""}</text>
      {node.change && <Chip x={w - 24} y={0} text={node.word} kind={node.change} />}
    </>
  );
}

function Chip({ x, y, text, kind }: { x: number; y: number; text: string; kind: string }) {
  const w = text.length * 6.1 + 12;
  return (
    <g class={`chip ${kind}`} transform={`translate(${x - w / 2},${y - 8})`}>
      <rect width={w} height={16} rx={8} />
      <text x={w / 2} y={11.7} text-anchor="middle">{text}</text>
    </g>
  );
}

function Edge({ edge, now, r0, on }: { edge: SceneEdge; now: Drawn; r0: number; on: boolean | null }) {
  const path = now.routes.get(edge.id);
  if (!path) return null;
  const at = level(edge.edge.now);
  const width = widthOf(edge.edge.now ?? edge.edge.then, r0);
  const kind = edge.change === "new" || edge.change === "gone" ? edge.change : `e${at}`;
  const dashed = edge.edge.type === "messaging" ? " messaging" : "";
  const dim = on === false ? " dim" : "";
  return (
    <g
      class={`edge ${kind}${dashed}${dim}${edge.quiet ? " quiet" : ""}`}
      data-edge={edge.id}
      onPointerEnter={(event) => {
        pointer.value = { x: event.clientX, y: event.clientY };
        hover.value = edge.id;
      }}
      onPointerLeave={() => (hover.value = null)}
      onClick={() => edge.edge.client.startsWith("ns:") || edge.edge.server.startsWith("ns:") || edge.to.startsWith("more:") || go({ sel: edgeId(edge.edge) })}
    >
      <path class="hit" d={path.path} />
      <path class="line" d={path.path} stroke-width={width} marker-end={`url(#head-${kind})`} />
    </g>
  );
}

/** The number of an edge, above all lines. */
function EdgeChip({ edge, now, on }: { edge: SceneEdge; now: Drawn; on: boolean | null }) {
  const path = now.routes.get(edge.id);
  const at = level(edge.edge.now);
  const chip = edge.change ? edge.word : at > 1 ? errors(edge.edge.now) : "";
  if (!path || !chip) return null;
  return <g class={on === false ? "dim" : ""}><Chip x={path.x} y={path.y} text={chip} kind={edge.change ?? `e${at}`} /></g>;
}

const HEADS = ["e0", "e1", "e2", "e3", "new", "gone"];

export function ServiceMap() {
  const svg = useRef<SVGSVGElement>(null);
  const now = drawn.value;
  const g = graph.value;
  useEffect(() => {
    const element = svg.current!;
    const observer = new ResizeObserver(() => {
      const { clientWidth: w, clientHeight: h } = element.parentElement!;
      const before = stage.peek();
      stage.value = { w, h };
      // Opening the panel never changes the zoom: only the window's size does.
      if (before.h !== h || !before.w) fitted = "";
      refit();
      const { sel } = route.peek();
      if (sel) reveal(sel, overlays.peek() ? PANEL : 0);
    });
    observer.observe(element.parentElement!);
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const rect = element.getBoundingClientRect();
      const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      zoom(2 ** (-step / (event.ctrlKey ? 90 : 360)), { x: event.clientX - rect.left, y: event.clientY - rect.top });
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      observer.disconnect();
      element.removeEventListener("wheel", wheel);
      fitted = "";
    };
  }, []);
  const width = size.value.width;
  useEffect(() => {
    refit(width);
  }, [now?.scene.key, width]);
  const { sel } = route.value;
  useEffect(() => {
    if (sel) reveal(sel, overlays.value ? PANEL : 0);
  }, [sel, now?.scene.key]);
  const drag = useDrag();
  if (!now || !g) return <svg ref={svg} class="map" aria-hidden="true" />;
  const hot = related(hover.value, now);
  const picked = hot ? null : related(sel, now);
  const on = (id: string) => (hot ? hot.has(id) : picked ? picked.has(id) : null);
  const { x, y, k } = view.value;
  const r0 = baseRate(g);
  const first = now.scene.nodes.some((node) => node.id === active.value) ? active.value : now.scene.nodes[0]?.id;
  const detail = k < 0.52 ? "far" : k < 0.8 ? "mid" : "near";
  const order = [...now.scene.edges].sort((a, b) => Number(on(a.id) ?? 0) - Number(on(b.id) ?? 0));
  return (
    <svg ref={svg} class={`map ${detail} ${hot ? "hot" : picked ? "picked" : ""}`} role="group" aria-label="Service map" {...drag}>
      <defs>
        {HEADS.map((kind) => (
          <marker key={kind} id={`head-${kind}`} class={`head ${kind}`} viewBox="0 0 10 10" refX="1" refY="5" markerWidth="10" markerHeight="10" markerUnits="userSpaceOnUse" orient="auto">
            <path d="M0,0.5L10,5L0,9.5Z" />
          </marker>
        ))}
        <pattern id="dots" width={24} height={24} patternUnits="userSpaceOnUse" patternTransform={`translate(${x},${y})`}>
          <circle class="dot" cx={1} cy={1} r={1} />
        </pattern>
      </defs>
      <rect class="ground" width="100%" height="100%" fill="url(#dots)" onClick={() => sel && go({ sel: null })} />
      <g transform={`translate(${x},${y}) scale(${k})`}>
        {order.map((edge) => <Edge key={edge.id} edge={edge} now={now} r0={r0} on={on(edge.id)} />)}
        {order.map((edge) => <EdgeChip key={edge.id} edge={edge} now={now} on={on(edge.id)} />)}
        {now.scene.nodes.map((node) => {
          const place = now.places.get(node.id);
          if (!place) return null;
          const lit = on(node.id);
          return (
            <g
              key={node.id}
              class={`node is-${node.kind} ${node.type} l${level(node.now)}${lit === false ? " dim" : ""}${node.change === "gone" ? " gone" : ""}${node.id === now.scene.focus ? " focused" : ""}${node.id === sel ? " selected" : ""}${!node.now && node.kind === "node" ? " idle" : ""}`}
              transform={`translate(${place.x},${place.y})`}
              data-node={node.id}
              role="button"
              tabIndex={node.id === first ? 0 : -1}
              aria-description={sentence(node, g, now)}
              onFocus={() => (active.value = node.id)}
              onKeyDown={(event) => onKey(event, node)}
              onClick={() => {
                active.value = node.id;
                open(node);
              }}
              onPointerEnter={(event) => {
                pointer.value = { x: event.clientX, y: event.clientY };
                hover.value = node.id;
              }}
              onPointerLeave={() => (hover.value = null)}
            >
              {node.kind === "group" ? <GroupCard node={node} w={place.w} h={place.h} /> : <Card node={node} w={place.w} h={place.h} />}
            </g>
          );
        })}
      </g>
    </svg>
  );
}

function refit(width?: number): void {
  const now = drawn.peek();
  const key = `${now?.scene.key}\n${width ?? size.peek().width}`;
  if (!now || fitted === key || !stage.peek().w) return;
  fitted = key;
  fit();
}

/** Dragging the ground moves the map; two fingers zoom it. */
function useDrag() {
  const held = useRef(new Map<number, { x: number; y: number }>());
  return {
    onPointerDown: (event: PointerEvent) => {
      if (!(event.target as Element).classList.contains("ground")) return;
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      held.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
    },
    onPointerMove: (event: PointerEvent) => {
      const before = held.current.get(event.pointerId);
      if (!before) return;
      const at = { x: event.clientX, y: event.clientY };
      const others = [...held.current].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      held.current.set(event.pointerId, at);
      const other = others[0];
      if (other) {
        const rect = (event.currentTarget as Element).getBoundingClientRect();
        const apart = (p: { x: number; y: number }) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
        zoom(apart(at) / apart(before), { x: (at.x + other.x) / 2 - rect.left, y: (at.y + other.y) / 2 - rect.top });
      } else {
        const { x, y, k } = view.value;
        view.value = { x: x + at.x - before.x, y: y + at.y - before.y, k };
      }
    },
    onPointerUp: (event: PointerEvent) => held.current.delete(event.pointerId),
    onPointerCancel: (event: PointerEvent) => held.current.delete(event.pointerId),
  };
}
