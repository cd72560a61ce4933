/** Where things lie. Depends on structure and scope, never on values: a moment later, everything is where it was. */

export interface Box {
  id: string;
  w: number;
  h: number;
  /** The column, where the scope decides it. */
  column?: number;
}

export interface Line {
  id: string;
  from: string;
  to: string;
}

export interface Placed {
  id: string;
  x: number;
  y: number;
  w: number;
  h: number;
  column: number;
}

export interface Layout {
  nodes: Placed[];
  /** Heights at which long edges pass the columns between their ends. */
  passes: Record<string, number[]>;
  columns: { x: number; w: number }[];
}

export interface Item {
  id: string;
  h: number;
  y: number;
  /** Items of other columns that it should be level with, with weights. */
  near: [Item, number][];
}

/** Room between columns: bends and a chip with a number. */
export const GAP = 76;
/** Room between cards, and between an edge that passes and its neighbors. */
const BETWEEN = 15;
const PASS = 6;

const room = (a: Item, b: Item) => (a.h + b.h) / 2 + (a.h > PASS && b.h > PASS ? BETWEEN : 9);

/**
 * Moves the items of a column, in their order, as near as possible to where they want to be: weighted least squares with least
 * distances, by pooling neighbors that want to pass each other.
 */
function settle(column: Item[]): void {
  const pools: { want: number; weight: number; items: { item: Item; offset: number }[] }[] = [];
  let offset = 0;
  column.forEach((item, i) => {
    if (i > 0) offset += room(column[i - 1]!, item);
    const weight = item.near.reduce((sum, [, w]) => sum + w, 0) || 0.05;
    const mean = item.near.reduce((sum, [other, w]) => sum + other.y * w, 0) / (weight || 1);
    const want = (item.near.length ? mean : item.y) - offset;
    pools.push({ want, weight, items: [{ item, offset }] });
    while (pools.length > 1 && pools[pools.length - 2]!.want > pools[pools.length - 1]!.want) {
      const last = pools.pop()!;
      const into = pools[pools.length - 1]!;
      into.want = (into.want * into.weight + last.want * last.weight) / (into.weight + last.weight);
      into.weight += last.weight;
      into.items.push(...last.items);
    }
  });
  for (const pool of pools) for (const { item, offset } of pool.items) item.y = pool.want + offset;
}

/** Heights for ordered columns. */
export function heights(columns: Item[][]): void {
  for (const column of columns) {
    let y = 0;
    column.forEach((item, i) => {
      if (i > 0) y += room(column[i - 1]!, item);
      item.y = y;
    });
    column.forEach((item) => (item.y -= y / 2));
  }
  for (let sweep = 0; sweep < 40; sweep++) {
    const order = sweep % 2 ? [...columns].reverse() : columns;
    order.forEach(settle);
  }
}

/** Makes a layout of boxes in ordered columns. `chains` are the edges with the items that they pass. */
export function finish(boxes: Map<string, Box>, columns: Item[][], chains: Map<string, Item[]>): Layout {
  heights(columns);
  let x = 0;
  const nodes: Placed[] = [];
  const places = columns.map((column, i) => {
    const w = Math.max(60, ...column.map((item) => boxes.get(item.id)?.w ?? 0));
    const at = x;
    x += w + GAP;
    for (const item of column) {
      const box = boxes.get(item.id);
      if (box) nodes.push({ id: box.id, x: at + (w - box.w) / 2, y: item.y - box.h / 2, w: box.w, h: box.h, column: i });
    }
    return { x: at, w };
  });
  const passes: Record<string, number[]> = {};
  for (const [id, items] of chains) if (items.length) passes[id] = items.map((item) => item.y);
  return { nodes, passes, columns: places };
}

/** A height in a column that no card covers, as near to `want` as there is one. */
export function free(nodes: Placed[], column: number, want: number, h: number): number {
  const pad = h / 2 + BETWEEN - 3;
  const cards = nodes.filter((node) => node.column === column);
  const open = (y: number) => cards.every((card) => y + pad <= card.y || y - pad >= card.y + card.h);
  const candidates = [want, ...cards.flatMap((card) => [card.y - pad, card.y + card.h + pad])].filter(open);
  return candidates.reduce((best, y) => (Math.abs(y - want) < Math.abs(best - want) ? y : best), candidates[0] ?? want);
}

/**
 * Takes in what is new and moves nothing: a node goes into the column after its first caller, or before the first that it calls,
 * at the mean height of its neighbors, moved to the nearest free place.
 */
export function extend(layout: Layout, boxes: Box[], lines: Line[]): Layout {
  const known = new Map(layout.nodes.map((node) => [node.id, node]));
  const nodes = [...layout.nodes];
  const columns = [...layout.columns];
  let waiting = boxes.filter((box) => !known.has(box.id));
  while (waiting.length) {
    const next = waiting.find((box) => lines.some((l) => (l.to === box.id && known.has(l.from)) || (l.from === box.id && known.has(l.to))));
    const box = next ?? waiting[0]!;
    waiting = waiting.filter((other) => other !== box);
    const callers = lines.filter((l) => l.to === box.id).flatMap((l) => known.get(l.from) ?? []);
    const callees = lines.filter((l) => l.from === box.id).flatMap((l) => known.get(l.to) ?? []);
    const all = [...callers, ...callees];
    let column = box.column ?? (callers[0] ? callers[0].column + 1 : callees[0] ? Math.max(0, callees[0].column - 1) : 0);
    column = Math.min(column, columns.length);
    if (column === columns.length) {
      const last = columns[column - 1];
      columns.push({ x: last ? last.x + last.w + GAP : 0, w: box.w });
    }
    const want = all.length ? all.reduce((sum, n) => sum + n.y + n.h / 2, 0) / all.length : 0;
    const y = free(nodes, column, want, box.h);
    const place = columns[column]!;
    const placed = { id: box.id, x: place.x + (place.w - box.w) / 2, y: y - box.h / 2, w: box.w, h: box.h, column };
    nodes.push(placed);
    known.set(box.id, placed);
  }
  const passes = { ...layout.passes };
  for (const line of lines) {
    const [a, b] = [known.get(line.from), known.get(line.to)];
    if (!a || !b || passes[line.id]) continue;
    const [left, right] = a.column <= b.column ? [a, b] : [b, a];
    const through: number[] = [];
    for (let c = left.column + 1; c < right.column; c++) {
      const part = (c - left.column) / (right.column - left.column);
      through.push(free(nodes, c, (left.y + left.h / 2) * (1 - part) + (right.y + right.h / 2) * part, PASS));
    }
    if (through.length) passes[line.id] = through;
  }
  return { nodes, passes, columns };
}

export interface Routed {
  id: string;
  path: string;
  /** The middle of a straight part, for a chip. */
  x: number;
  y: number;
}

const bend = (x1: number, y1: number, x2: number, y2: number) => {
  const mid = (x1 + x2) / 2;
  return `C${mid},${y1} ${mid},${y2} ${x2},${y2}`;
};

/** The paths of all edges: level past every column that they cross, with bends in the gaps only. */
export function routes(layout: Layout, lines: Line[]): Map<string, Routed> {
  const nodes = new Map(layout.nodes.map((node) => [node.id, node]));
  const ports = new Map<string, number>();
  const sides = new Map<string, { line: Line; key: string; other: number }[]>();
  const put = (node: Placed, right: boolean, line: Line, end: string, other: number) => {
    const side = `${node.id}\n${right ? "r" : "l"}`;
    const list = sides.get(side) ?? [];
    list.push({ line, key: `${line.id}\n${end}`, other });
    sides.set(side, list);
  };
  const middle = (node: Placed) => node.y + node.h / 2;
  const drawn = lines.flatMap((line) => {
    const [from, to] = [nodes.get(line.from), nodes.get(line.to)];
    return from && to ? [{ line, from, to, passes: layout.passes[line.id] ?? [] }] : [];
  });
  for (const { line, from, to, passes } of drawn) {
    const back = from.column > to.column;
    const level = from.column === to.column;
    const near = back ? [...passes].reverse() : passes;
    put(from, !back, line, "from", near[0] ?? middle(to));
    put(to, back || level, line, "to", near[near.length - 1] ?? middle(from));
  }
  for (const [side, list] of sides) {
    const node = nodes.get(side.slice(0, side.lastIndexOf("\n")))!;
    list.sort((a, b) => a.other - b.other || (a.key < b.key ? -1 : 1));
    const gap = Math.min(9, (node.h - 14) / Math.max(1, list.length - 1));
    list.forEach(({ key }, i) => ports.set(key, middle(node) + (i - (list.length - 1) / 2) * gap));
  }
  const out = new Map<string, Routed>();
  for (const { line, from, to, passes } of drawn) {
    out.set(line.id, { id: line.id, ...route(layout, from, to, passes, ports.get(`${line.id}\nfrom`)!, ports.get(`${line.id}\nto`)!) });
  }
  return out;
}

const HEAD = 9;

function route(layout: Layout, from: Placed, to: Placed, passes: number[], y1: number, y2: number) {
  if (from.id === to.id) {
    const [x, y] = [from.x + from.w, from.y];
    return { path: `M${x - 26},${y}C${x - 26},${y - 26} ${x + 22},${y - 18} ${x + 4},${y + 12}`, x: x - 4, y: y - 18 };
  }
  if (from.column === to.column) {
    const x = Math.max(from.x + from.w, to.x + to.w);
    const out = x + 30;
    return {
      path: `M${from.x + from.w},${y1}C${out},${y1} ${out},${y2} ${to.x + to.w + HEAD},${y2}`,
      x: x + 22,
      y: (y1 + y2) / 2,
    };
  }
  const back = from.column > to.column;
  const sign = back ? -1 : 1;
  let x = back ? from.x : from.x + from.w;
  let y = y1;
  let path = `M${x},${y}`;
  const through = back ? [...passes].reverse() : passes;
  const spots: { x: number; y: number; slope: number }[] = [];
  const turn = (nx: number, ny: number) => {
    path += Math.abs(ny - y) < 0.5 ? `L${nx},${ny}` : bend(x, y, nx, ny);
    spots.push({ x: (x + nx) / 2, y: (y + ny) / 2, slope: Math.abs(ny - y) });
    [x, y] = [nx, ny];
  };
  through.forEach((py, i) => {
    const column = layout.columns[from.column + sign * (i + 1)];
    if (!column) return;
    turn(back ? column.x + column.w : column.x, py);
    const end = back ? column.x : column.x + column.w;
    path += `L${end},${py}`;
    spots.push({ x: (x + end) / 2, y: py, slope: -1 });
    x = end;
  });
  turn(back ? to.x + to.w + HEAD : to.x - HEAD, y2);
  const level = spots.filter((spot) => spot.slope < 0);
  const spot = level[Math.floor(level.length / 2)] ?? spots[Math.floor(spots.length / 2)]!;
  return { path, x: spot.x, y: spot.y };
}

/** The corners of everything. */
export function bounds(layout: Layout): { x: number; y: number; w: number; h: number } {
  const all = layout.nodes;
  if (!all.length) return { x: 0, y: 0, w: 1, h: 1 };
  const [x, y] = [Math.min(...all.map((n) => n.x)), Math.min(...all.map((n) => n.y), ...Object.values(layout.passes).flat())];
  const right = Math.max(...all.map((n) => n.x + n.w));
  const bottom = Math.max(...all.map((n) => n.y + n.h), ...Object.values(layout.passes).flat());
  return { x, y, w: right - x, h: bottom - y };
}
