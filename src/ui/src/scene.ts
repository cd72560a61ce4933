import { signal } from "@preact/signals";
import { change, changed, type Change } from "./format";
import { bounds, extend, routes, type Box, type Layout, type Line, type Placed, type Routed } from "./layout";
import type { Route } from "./state";
import type { EdgeView, Graph, GroupView, NodeType, NodeView, Values } from "./types";
import type { Done } from "./worker";

/** Above this, a scene starts grouped, or around one service. */
export const MOST = 60;
const FIRST_HOP = 9;
const LATER_HOPS = 11;

export interface SceneNode {
  id: string;
  kind: "node" | "group" | "more";
  name: string;
  type: NodeType;
  now: Values | null;
  then: Values | null;
  change: Change;
  /** What stands beside a mark of change. */
  word: string;
  node?: NodeView;
  group?: GroupView;
  /** Of a group: the failure levels of its nodes, worst first. */
  cells?: number[];
}

export interface SceneEdge extends Line {
  edge: EdgeView;
  change: Change;
  word: string;
  quiet: boolean;
}

export interface Scene {
  key: string;
  kind: "all" | "groups" | "group" | "focus";
  /** What the focus is on, be it chosen or not. */
  focus: string | null;
  nodes: SceneNode[];
  edges: SceneEdge[];
  boxes: Box[];
  /** Nodes within the hops that have no place. */
  beyond: number;
  /** Edges that can be left out: in a focus those that stay within a column or jump, elsewhere the light ones of very many. */
  sides: number;
  shown: number;
}

let measure: CanvasRenderingContext2D | null = null;
export function textWidth(text: string, font = "600 13px"): number {
  measure ??= document.createElement("canvas").getContext("2d");
  if (!measure) return text.length * 7.2;
  measure.font = `${font} Inter, system-ui, sans-serif`;
  return measure.measureText(text).width;
}

/** Numbers of a usual length. What is written later makes no card wider. */
const NUMBERS = "88.8k/s · 888 ms · 8.8 %";

const weight = (edge: EdgeView) => edge.now?.rate ?? 0;
export const groupName = (name: string) => name || "no namespace";

/** What a focus shows is chosen once: the heaviest neighbors of that moment keep their places. */
const chosen = new Map<string, Map<string, number>>();
const busiest = new Map<string, string>();

function sceneNode(node: NodeView, graph: Graph): SceneNode {
  const what = change(node.now, node.then, graph);
  const word = what === "changed" ? changed(node.now!, node.then!, graph) : what ?? "";
  return { id: node.id, kind: "node", name: node.name, type: node.type, now: node.now, then: node.then, change: what, word, node };
}

function sceneGroup(group: GroupView, graph: Graph, members: NodeView[]): SceneNode {
  const what = change(group.now, group.then, graph);
  const word = what === "changed" ? changed(group.now!, group.then!, graph) : what ?? "";
  const share = (node: NodeView) => node.now?.errors ?? 0;
  const cells = members.map(share).sort((a, b) => b - a).map((e) => (e >= 0.05 ? 3 : e >= 0.01 ? 2 : e >= 0.001 ? 1 : 0));
  return {
    id: group.id, kind: "group", name: groupName(group.name), type: group.type, now: group.now, then: group.then,
    change: what, word, group, cells,
  };
}

function sceneEdge(edge: EdgeView, graph: Graph): SceneEdge {
  const what = change(edge.now, edge.then, graph);
  const word = what === "changed" ? changed(edge.now!, edge.then!, graph) : what ?? "";
  return { id: `${edge.client}→${edge.server}`, from: edge.client, to: edge.server, edge, change: what, word, quiet: !edge.now && what !== "gone" };
}

/** The node with the most neighbors: chosen once for a scope, so that the picture stays. */
function heaviest(scope: string, nodes: NodeView[], graph: Graph): string | null {
  const known = busiest.get(scope);
  if (known && nodes.some((node) => node.id === known)) return known;
  const services = nodes.filter((node) => node.type === "service");
  const degree = new Map<string, number>();
  for (const { client, server } of graph.edges) for (const end of [client, server]) degree.set(end, (degree.get(end) ?? 0) + 1);
  const best = (services.length ? services : nodes).reduce<NodeView | null>(
    (a, b) => (!a || (degree.get(b.id) ?? 0) > (degree.get(a.id) ?? 0) ? b : a), null);
  if (best) busiest.set(scope, best.id);
  return best?.id ?? null;
}

/** What is to be seen, of a graph and a scope. */
export function sceneOf(graph: Graph, route: Route, narrow: boolean): Scene {
  const scope = `${graph.tenant}\n${route.ns ?? "*"}`;
  const wide = narrow ? "n" : "w";
  const members = route.ns === null ? graph.nodes : graph.nodes.filter((node) => node.group === route.ns);
  const grouped = route.ns === null && graph.nodes.length > MOST;
  let focus = route.focus && graph.nodes.some((node) => node.id === route.focus) ? route.focus : null;
  // One namespace of very many: there is nothing to group by.
  if (!focus && ((grouped && graph.groups.length < 3) || (route.ns !== null && members.length > MOST))) {
    focus = heaviest(scope, members, graph);
  }
  if (focus) return focused(graph, route, focus, `${graph.tenant}\nfocus\n${focus}\n${route.hops}\n${route.side}\n${wide}`, narrow);
  let nodes: SceneNode[];
  let edges: EdgeView[];
  if (route.ns === null && !grouped) {
    nodes = graph.nodes.map((node) => sceneNode(node, graph));
    edges = graph.edges;
  } else {
    // Groups, and whatever is shown by itself: callers from outside, and the nodes of the open group.
    const ends = new Set(graph.group_edges.flatMap((edge) => [edge.client, edge.server]));
    const own = graph.nodes.filter((node) => (route.ns === null ? node.type === "user" : node.group === route.ns || (node.type === "user" && ends.has(node.id))));
    const groups = graph.groups.filter((group) => (route.ns === null ? true : group.name !== route.ns && ends.has(group.id)));
    const by = new Map<string, NodeView[]>();
    for (const node of graph.nodes) by.set(node.group, [...(by.get(node.group) ?? []), node]);
    const near = (edge: EdgeView) => route.ns === null || !edge.client.startsWith("ns:") || !edge.server.startsWith("ns:");
    edges = graph.group_edges.filter(near);
    const touched = new Set(edges.flatMap((edge) => [edge.client, edge.server]));
    nodes = [
      ...own.filter((node) => node.group === route.ns || touched.has(node.id)).map((node) => sceneNode(node, graph)),
      ...groups.filter((group) => route.ns === null || touched.has(group.id)).map((group) => sceneGroup(group, graph, by.get(group.name) ?? [])),
    ];
  }
  const kind = route.ns !== null ? "group" : grouped ? "groups" : "all";
  const boxes = boxesOf(nodes, narrow, null);
  const there = new Set(nodes.map((node) => node.id));
  const key = `${scope}\n${kind}\n${route.side}\n${wide}`;
  const all = edges.filter((edge) => there.has(edge.client) && there.has(edge.server));
  const { shown, light } = thinned(key, all, nodes.length, route.side);
  return {
    key, kind, focus: null, nodes, edges: shown.map((edge) => sceneEdge(edge, graph)), boxes, beyond: 0, sides: light,
    shown: members.length,
  };
}

/** Of each node the heaviest edge in and the two heaviest out, where all of them would be a felt. */
const heavy = new Map<string, Set<string>>();
const DENSE = 2.2;

function thinned(key: string, edges: EdgeView[], nodes: number, all: boolean): { shown: EdgeView[]; light: number } {
  const dense = edges.length > DENSE * nodes + 4;
  if (!dense && !heavy.has(key)) return { shown: edges, light: 0 };
  const id = (edge: EdgeView) => `${edge.client}→${edge.server}`;
  let kept = heavy.get(key);
  if (!kept) {
    kept = new Set();
    const seen = new Map<string, number>();
    for (const edge of [...edges].sort((a, b) => weight(b) - weight(a) || (id(a) < id(b) ? -1 : 1))) {
      const [out, into] = [`${edge.client} out`, `${edge.server} in`];
      const [n, m] = [seen.get(out) ?? 0, seen.get(into) ?? 0];
      if (n < 2 || m < 1) kept.add(id(edge));
      seen.set(out, n + 1);
      seen.set(into, m + 1);
    }
    if (heavy.size > 60) heavy.clear();
    heavy.set(key, kept);
  }
  const shown = all ? edges : edges.filter((edge) => kept!.has(id(edge)));
  return { shown, light: edges.length - edges.filter((edge) => kept!.has(id(edge))).length };
}

function focused(graph: Graph, route: Route, focus: string, key: string, narrow: boolean): Scene {
  const out = new Map<string, EdgeView[]>();
  const into = new Map<string, EdgeView[]>();
  for (const edge of graph.edges) {
    out.set(edge.client, [...(out.get(edge.client) ?? []), edge]);
    into.set(edge.server, [...(into.get(edge.server) ?? []), edge]);
  }
  let columns = chosen.get(key);
  const more = new Map<string, { column: number; of: string; n: number; edge: EdgeView }>();
  let beyond = 0;
  const pick = !columns;
  columns ??= new Map([[focus, 0]]);
  for (const sign of [-1, 1]) {
    let front = [focus];
    for (let hop = 1; hop <= route.hops; hop++) {
      const found = new Map<string, EdgeView>();
      for (const id of front) {
        for (const edge of (sign < 0 ? into : out).get(id) ?? []) {
          const other = sign < 0 ? edge.client : edge.server;
          const known = found.get(other);
          const place = columns.get(other);
          if ((place === undefined || place === sign * hop) && (!known || weight(edge) > weight(known))) found.set(other, edge);
        }
      }
      const all = [...found].sort(([a, x], [b, y]) => weight(y) - weight(x) || (a < b ? -1 : 1));
      const most = hop === 1 ? FIRST_HOP : LATER_HOPS;
      if (pick) for (const [id] of all.slice(0, most)) columns.set(id, sign * hop);
      const left = all.filter(([id]) => columns!.get(id) === undefined);
      if (hop === 1 && left.length) {
        more.set(`more:${sign}`, { column: sign, of: focus, n: left.length, edge: left[0]![1] });
      } else {
        beyond += left.length;
      }
      front = all.filter(([id]) => columns!.get(id) === sign * hop).map(([id]) => id);
    }
  }
  if (pick) {
    if (chosen.size > 100) chosen.clear();
    chosen.set(key, columns);
  }
  const nodes = graph.nodes.filter((node) => columns!.has(node.id)).map((node) => sceneNode(node, graph));
  const there = new Map(nodes.map((node) => [node.id, columns!.get(node.id)!]));
  const all = graph.edges.filter((edge) => there.has(edge.client) && there.has(edge.server));
  const isMain = (edge: EdgeView) => there.get(edge.server)! - there.get(edge.client)! === 1;
  const sides = all.filter((edge) => !isMain(edge)).length;
  const edges = all.filter((edge) => route.side || isMain(edge)).map((edge) => sceneEdge(edge, graph));
  for (const [id, { column, of, n, edge }] of more) {
    nodes.push({ id, kind: "more", name: `+ ${n} more`, type: "service", now: null, then: null, change: null, word: "" });
    there.set(id, column);
    const ends = column < 0 ? { from: id, to: of } : { from: of, to: id };
    edges.push({ id: `${ends.from}→${ends.to}`, ...ends, edge: { ...edge, now: null, then: null }, change: null, word: "", quiet: true });
  }
  const first = Math.min(...there.values());
  const boxes = boxesOf(nodes, narrow, (id) => there.get(id)! - first);
  return { key, kind: "focus", focus, nodes, edges, boxes, beyond, sides, shown: nodes.length - more.size };
}

function boxesOf(nodes: SceneNode[], narrow: boolean, column: ((id: string) => number) | null): Box[] {
  const widest = Math.max(0, ...nodes.filter((node) => node.kind === "node").map((node) => textWidth(node.name)));
  const numbers = narrow ? 0 : textWidth(NUMBERS, "500 11px") + 58;
  const w = Math.round(Math.min(narrow ? 176 : 236, Math.max(narrow ? 132 : 164, numbers, widest + 60)));
  return nodes.map((node) => ({
    id: node.id,
    w: node.kind === "group" ? 176 : node.type === "user" && node.kind === "node" ? 144 : w,
    h: node.kind === "group" ? 98 : node.kind === "more" ? 30 : 52,
    ...(column ? { column: column(node.id) } : {}),
  }));
}

/** A scene with its places. */
export interface Drawn {
  scene: Scene;
  layout: Layout;
  places: Map<string, Placed>;
  routes: Map<string, Routed>;
  box: { x: number; y: number; w: number; h: number };
  /** Nodes that were put beside their neighbors since the layout was made. */
  added: number;
  /** Nodes that keep a place and are gone. */
  kept: number;
  ms: number;
}

export const drawn = signal<Drawn | null>(null);

interface Kept {
  layout: Layout;
  made: Set<string>;
  ms: number;
}

const layouts = new Map<string, Kept>();
let worker: Worker | null = null;
let job = 0;
const waiting = new Map<number, (done: Done) => void>();

/** Starts the worker, which may load while the first answer is on its way. */
export function prepare(): Worker {
  if (worker) return worker;
  worker = new Worker("layout.js");
  worker.onmessage = (event: MessageEvent<Done>) => {
    waiting.get(event.data.id)?.(event.data);
    waiting.delete(event.data.id);
  };
  return worker;
}

function run(boxes: Box[], lines: Line[]): Promise<Done> {
  const id = ++job;
  const plain = lines.map(({ id, from, to }) => ({ id, from, to }));
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    prepare().postMessage({ id, boxes, lines: plain });
  });
}

let latest = "";

/** Shows a scene: at the places that it has, or as soon as it has some. */
export async function show(scene: Scene): Promise<void> {
  latest = scene.key;
  let kept = layouts.get(scene.key);
  if (!kept) {
    const done = await run(scene.boxes, scene.edges);
    kept = layouts.get(scene.key) ?? { layout: done.layout, made: new Set(scene.boxes.map((box) => box.id)), ms: done.ms };
    if (layouts.size > 60) layouts.clear();
    layouts.set(scene.key, kept);
    // Meanwhile another scope was chosen.
    if (latest !== scene.key) return;
  }
  const there = new Set(kept.layout.nodes.map((node) => node.id));
  const isNew = scene.boxes.some((box) => !there.has(box.id));
  const ends = new Map(kept.layout.nodes.map((node) => [node.id, node.column]));
  const isLong = (line: Line) => Math.abs((ends.get(line.from) ?? 0) - (ends.get(line.to) ?? 0)) > 1 && !kept!.layout.passes[line.id];
  if (isNew || scene.edges.some(isLong)) kept.layout = extend(kept.layout, scene.boxes, scene.edges);
  const { layout } = kept;
  const ids = new Set(scene.nodes.map((node) => node.id));
  const paths = routes(layout, scene.edges);
  const box = bounds(layout);
  // Edges within the last column, with their chips.
  for (const path of paths.values()) box.w = Math.max(box.w, path.x + 34 - box.x);
  drawn.value = {
    scene,
    layout,
    places: new Map(layout.nodes.map((node) => [node.id, node])),
    routes: paths,
    box,
    added: scene.nodes.filter((node) => !kept!.made.has(node.id)).length,
    kept: layout.nodes.filter((node) => !ids.has(node.id)).length,
    ms: kept.ms,
  };
}

/** Lays the scene out anew: what is new finds its column, what is gone leaves its place. */
export function tidy(): void {
  const now = drawn.value;
  if (!now) return;
  layouts.delete(now.scene.key);
  chosen.delete(now.scene.key);
  heavy.delete(now.scene.key);
  void show(now.scene);
}

/** Width of an edge by its rate; `r0` is a rate of the scene that is low. */
export function widthOf(values: Values | null, r0: number): number {
  return Math.min(6, Math.max(1, 0.9 + 1.25 * Math.log10(1 + (values?.rate ?? 0) / r0)));
}

/** A rate so that the widths of the whole graph differ: a fortieth of the greatest, in round numbers. */
export function baseRate(graph: Graph): number {
  const most = Math.max(0.04, ...graph.edges.map(weight));
  return 10 ** Math.round(Math.log10(most / 100));
}
