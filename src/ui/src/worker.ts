/** The layout of one scene, beside the page: columns and their order by dagre, or by hops; heights by least squares. */
import dagre from "@dagrejs/dagre";
import { finish, type Box, type Item, type Layout, type Line } from "./layout";

export interface Job {
  id: number;
  boxes: Box[];
  lines: Line[];
}

export interface Done {
  id: number;
  layout: Layout;
  ms: number;
}

const PASS = 6;

/** Columns and orders as dagre finds them, with the places at which long edges pass. */
function byDagre(boxes: Box[], lines: Line[]) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 14, edgesep: 8, ranksep: 80, ranker: boxes.length > 120 ? "tight-tree" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: 100, height: box.h });
  for (const line of lines) if (line.from !== line.to) graph.setEdge(line.from, line.to, {}, line.id);
  dagre.layout(graph);
  const xs = [...new Set(boxes.map((box) => Math.round(graph.node(box.id).x)))].sort((a, b) => a - b);
  const column = new Map(xs.map((x, i) => [x, i]));
  const at = (x: number) => column.get(Math.round(x));
  const order = new Map(boxes.map((box) => [box.id, graph.node(box.id).y as number]));
  const columns = new Map(boxes.map((box) => [box.id, at(graph.node(box.id).x)!]));
  const pass = (line: Line, c: number): number | null => {
    const points = (graph.edge(line.from, line.to, line.id) as { points?: { x: number; y: number }[] } | undefined)?.points ?? [];
    const [first, ...rest] = points;
    if (!first) return null;
    let before = first;
    // The bends that dagre leaves out lie on the line between those that it has.
    for (const point of rest) {
      const [low, high] = before.x <= point.x ? [before, point] : [point, before];
      const x = xs[c]!;
      if (low.x <= x && x <= high.x) return low.y + ((high.y - low.y) * (x - low.x)) / (high.x - low.x || 1);
      before = point;
    }
    return null;
  };
  return { columns, order, pass };
}

/** Orders columns that are given: by the mean place of the neighbors, back and forth. */
function byColumns(boxes: Box[], lines: Line[]) {
  const columns = new Map(boxes.map((box) => [box.id, box.column ?? 0]));
  const lists = new Map<number, string[]>();
  for (const box of boxes) lists.set(box.column ?? 0, [...(lists.get(box.column ?? 0) ?? []), box.id]);
  const order = new Map<string, number>();
  const number = (list: string[]) => list.forEach((id, i) => order.set(id, i - (list.length - 1) / 2));
  for (const list of lists.values()) number(list);
  const near = new Map<string, string[]>();
  for (const { from, to } of lines) {
    near.set(from, [...(near.get(from) ?? []), to]);
    near.set(to, [...(near.get(to) ?? []), from]);
  }
  const sorted = [...lists.keys()].sort((a, b) => a - b);
  for (let sweep = 0; sweep < 8; sweep++) {
    for (const c of sweep % 2 ? [...sorted].reverse() : sorted) {
      const list = lists.get(c)!;
      const mean = (id: string) => {
        const others = (near.get(id) ?? []).filter((other) => columns.get(other) !== c);
        return others.length ? others.reduce((sum, other) => sum + order.get(other)!, 0) / others.length : order.get(id)!;
      };
      const want = new Map(list.map((id) => [id, mean(id)]));
      list.sort((a, b) => want.get(a)! - want.get(b)!);
      number(list);
    }
  }
  return { columns, order, pass: () => null };
}

/** Columns by the least number of calls from a node without callers. Edges may stay within a column, or lead back. */
function byDepth(boxes: Box[], lines: Line[]): Box[] {
  const called = new Set(lines.filter((line) => line.from !== line.to).map((line) => line.to));
  const depth = new Map<string, number>();
  let front = boxes.filter((box) => !called.has(box.id)).map((box) => box.id);
  if (!front.length) front = [boxes[0]!.id];
  while (depth.size < boxes.length) {
    for (let at = 0; front.length; at++) {
      for (const id of front) depth.set(id, at);
      const next = lines.filter((line) => depth.get(line.from) === at && !depth.has(line.to)).map((line) => line.to);
      front = [...new Set(next)];
    }
    const left = boxes.find((box) => !depth.has(box.id));
    if (left) front = [left.id];
  }
  // A node without calls stands behind all its callers.
  const calls = new Set(lines.filter((line) => line.from !== line.to).map((line) => line.from));
  const behind = (id: string) => Math.max(...lines.filter((line) => line.to === id).map((line) => depth.get(line.from)!)) + 1;
  return boxes.map((box) => ({ ...box, column: calls.has(box.id) || !called.has(box.id) ? depth.get(box.id)! : behind(box.id) }));
}

/** With more columns than this nothing could be read any more. */
const MOST_COLUMNS = 9;

function arrange(boxes: Box[], lines: Line[]) {
  if (boxes.every((box) => box.column !== undefined)) return byColumns(boxes, lines);
  const found = byDagre(boxes, lines);
  const columns = new Set(found.columns.values()).size;
  return columns > MOST_COLUMNS ? byColumns(byDepth(boxes, lines), lines) : found;
}

function layout({ boxes, lines }: Job): Layout {
  if (!boxes.length) return { nodes: [], passes: {}, columns: [] };
  const { columns, order, pass } = arrange(boxes, lines);
  const known = new Map(boxes.map((box) => [box.id, box]));
  const lists: { item: Item; y: number }[][] = [];
  const place = (c: number, item: Item, y: number) => (lists[c] ??= []).push({ item, y });
  const items = new Map<string, Item>();
  for (const box of boxes) {
    const item: Item = { id: box.id, h: box.h, y: 0, near: [] };
    items.set(box.id, item);
    place(columns.get(box.id)!, item, order.get(box.id)!);
  }
  const chains = new Map<string, Item[]>();
  const join = (a: Item, b: Item, weight: number) => {
    a.near.push([b, weight]);
    b.near.push([a, weight]);
  };
  for (const line of lines) {
    const [from, to] = [columns.get(line.from), columns.get(line.to)];
    if (from === undefined || to === undefined || from === to) continue;
    const [left, right] = from < to ? [line.from, line.to] : [line.to, line.from];
    const [a, b] = [Math.min(from, to), Math.max(from, to)];
    const chain: Item[] = [];
    for (let c = a + 1; c < b; c++) {
      const part = (c - a) / (b - a);
      const item: Item = { id: `${line.id}\n${c}`, h: PASS, y: 0, near: [] };
      place(c, item, pass(line, c) ?? order.get(left)! * (1 - part) + order.get(right)! * part);
      chain.push(item);
    }
    const all = [items.get(left)!, ...chain, items.get(right)!];
    // A long edge is to be straight, rather than its ends near.
    for (let i = 1; i < all.length; i++) join(all[i - 1]!, all[i]!, chain.length ? (i > 1 && i < all.length - 1 ? 8 : 2) : 1);
    chains.set(line.id, chain);
  }
  const ordered = Array.from(lists, (list) => (list ?? []).sort((p, q) => p.y - q.y).map(({ item }) => item));
  return finish(known, ordered, chains);
}

onmessage = (event: MessageEvent<Job>) => {
  const began = performance.now();
  const done: Done = { id: event.data.id, layout: layout(event.data), ms: 0 };
  done.ms = performance.now() - began;
  postMessage(done);
};
