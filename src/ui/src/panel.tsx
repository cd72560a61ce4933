import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { change, changed, clock, duration, errors, exactTime, level, quantile, rate } from "./format";
import { Icon } from "./icons";
import { baseRate, widthOf } from "./scene";
import { closeOne } from "./map";
import { cursor, edgeHistory, edgeId, go, graph, info, route, service } from "./state";
import type { EdgeView, Exemplar, Graph, NodeView, Operation, Point, Values } from "./types";

interface Series {
  className: string;
  of: (values: Values | null) => number | null;
}

/** A round number that is not below the greatest value. */
function ceiling(most: number): number {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * unit).find((n) => n >= most * 0.999)!;
}

const W = 378;
const H = 78;
const LEFT = 46;
const BASE = 60;

/** A small chart; all of them have one cursor. */
export function Chart({ points, series, unit, area, label }: { points: Point[]; series: Series[]; unit: (value: number) => string; area?: boolean; label: string }) {
  const top = ceiling(Math.max(0, ...series.flatMap((one) => points.map((p) => one.of(p.values) ?? 0))));
  const x = (i: number) => LEFT + (points.length < 2 ? 0 : (i / (points.length - 1)) * (W - LEFT - 2));
  const y = (value: number) => BASE - (value / top) * (BASE - 8);
  const path = (of: Series["of"]) => {
    let on = false;
    return points.map((p, i) => {
      const value = of(p.values);
      // Without traffic there is no latency: a gap, not a zero.
      if (value === null) {
        on = false;
        return "";
      }
      const step = `${on ? "L" : "M"}${x(i).toFixed(1)},${y(value).toFixed(1)}`;
      on = true;
      return step;
    }).join("");
  };
  const at = cursor.value === null ? -1 : points.findIndex((p) => p.t >= cursor.value!);
  const ticks = points.length > 1 ? [0.15, 0.5, 0.85].map((part) => Math.round(part * (points.length - 1))) : [0];
  const last = points[points.length - 1];
  const hear = (event: PointerEvent) => {
    const rect = (event.currentTarget as Element).getBoundingClientRect();
    const part = ((event.clientX - rect.left) / rect.width * W - LEFT) / (W - LEFT - 2);
    const i = Math.min(points.length - 1, Math.max(0, Math.round(part * (points.length - 1))));
    cursor.value = points[i]?.t ?? null;
  };
  return (
    <svg class="chart" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label} onPointerMove={hear} onPointerLeave={() => (cursor.value = null)}>
      {[0, top / 2, top].map((value) => (
        <g key={value}><line class="grid" x1={LEFT} x2={W} y1={y(value)} y2={y(value)} /><text class="axis" x={LEFT - 6} y={y(value) + 4} text-anchor="end">{unit(value)}</text></g>
      ))}
      {last && ticks.map((i) => points[i] && <text key={i} class="axis" x={x(i)} y={74} text-anchor="middle">{clock(points)(points[i]!.t)}</text>)}
      {series.map((one) => {
        const line = path(one.of);
        return (
          <g key={one.className} class={one.className}>
            {area && line && !line.slice(1).includes("M") && <path class="area" d={`${line}L${x(points.length - 1)},${BASE}L${x(0)},${BASE}Z`} />}
            <path class="line" d={line} />
            {at >= 0 && one.of(points[at]!.values) !== null && <circle class="spot" cx={x(at)} cy={y(one.of(points[at]!.values)!)} r={3} />}
          </g>
        );
      })}
      {at >= 0 && <line class="cursor" x1={x(at)} x2={x(at)} y1={4} y2={BASE} />}
    </svg>
  );
}

function Charts({ points, now }: { points: Point[]; now: Values | null }) {
  const at = cursor.value === null ? undefined : points.find((p) => p.t >= cursor.value!);
  const shown = at ? at.values : now;
  const when = at ? exactTime(at.t) : "";
  const head = (what: string, value: string, lvl = 0) => (
    <div class="chart-head"><span>{what}{when && <small> {when}</small>}</span><b class={`t${lvl}`}>{value}</b></div>
  );
  return (
    <section aria-label="History">
      {head("Rate", rate(shown))}
      <Chart points={points} unit={(v) => rate({ rate: v } as Values).replace("/s", "")} area label={`Rate, now ${rate(now)}`} series={[{ className: "s-rate", of: (v) => v?.rate ?? 0 }]} />
      {head("Errors", errors(shown), level(shown))}
      <Chart points={points} unit={(v) => (v === 0 ? "0" : `${(v * 100).toPrecision(2)} %`)} area label={`Error share, now ${errors(now)}`} series={[{ className: "s-errors", of: (v) => v?.errors ?? 0 }]} />
      {head("Latency, p50 and p95", shown ? `${quantile(shown, "p50")} · ${quantile(shown, "p95")}` : "–")}
      <Chart points={points} unit={(v) => (v === 0 ? "0" : duration(v))} label={`Latency, now p95 ${quantile(now, "p95")}`} series={[{ className: "s-p50", of: (v) => v?.p50 ?? null }, { className: "s-p95", of: (v) => v?.p95 ?? null }]} />
    </section>
  );
}

export type Column<T> = { key: string; title: string; of: (row: T) => number | string; num?: boolean };

/** Sorts rows, and says which column it was. */
export function sorted<T>(rows: T[], columns: Column<T>[], by: { key: string; down: boolean }): T[] {
  const column = columns.find((one) => one.key === by.key) ?? columns[0]!;
  const sign = by.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    return sign * (typeof x === "string" ? x.localeCompare(y as string) : x - (y as number));
  });
}

export function Headers<T>({ columns, by }: { columns: Column<T>[]; by: { value: { key: string; down: boolean } } }) {
  return (
    <thead>
      <tr>
        {columns.map((column) => {
          const mine = by.value.key === column.key;
          const turn = () => (by.value = { key: column.key, down: mine ? !by.value.down : !!column.num });
          return (
            <th key={column.key} scope="col" class={column.num ? "num" : ""} aria-sort={mine ? (by.value.down ? "descending" : "ascending") : "none"}>
              <button type="button" onClick={turn}>{mine && <span aria-hidden="true" class="arrow">{by.value.down ? "↓" : "↑"}</span>}{column.title}</button>
            </th>
          );
        })}
      </tr>
    </thead>
  );
}

const operations = signal({ key: "rate", down: true });
const OPERATIONS: Column<Operation>[] = [
  { key: "name", title: "Operation", of: (o) => o.name },
  { key: "rate", title: "Rate", of: (o) => o.now.rate, num: true },
  { key: "errors", title: "Errors", of: (o) => o.now.errors, num: true },
  { key: "p50", title: "p50", of: (o) => o.now.p50 ?? -1, num: true },
  { key: "p95", title: "p95", of: (o) => o.now.p95 ?? -1, num: true },
];
const most = signal(20);

function Operations({ all }: { all: Operation[] }) {
  if (!all.length) return null;
  const rows = sorted(all, OPERATIONS, operations.value);
  return (
    <section>
      <h3 id="operations">Operations <small>{all.length}</small></h3>
      <table class="ops" aria-labelledby="operations">
        <Headers columns={OPERATIONS} by={operations} />
        <tbody>
          {rows.slice(0, most.value).map((o) => (
            <tr key={`${o.kind}\n${o.name}`}>
              <th scope="row" title={`${o.name} (${o.kind || "no kind"})`}>{o.name || "(no name)"}{o.kind && o.kind !== "server" && <small> {o.kind}</small>}</th>
              <td>{rate(o.now)}</td>
              <td class={`t${level(o.now)}`}>{errors(o.now)}</td>
              <td>{quantile(o.now, "p50")}</td>
              <td>{quantile(o.now, "p95")}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > most.value && <button type="button" class="link" onClick={() => (most.value += 50)}>{rows.length - most.value} more</button>}
    </section>
  );
}

function Neighbors({ title, edges, end, g }: { title: string; edges: EdgeView[]; end: "client" | "server"; g: Graph }) {
  if (!edges.length) return null;
  const nodes = new Map(g.nodes.map((node) => [node.id, node]));
  const r0 = baseRate(g);
  const rows = [...edges].sort((a, b) => (b.now?.rate ?? 0) - (a.now?.rate ?? 0));
  return (
    <section>
      <h3>{title} <small>{edges.length}</small></h3>
      <ul class="neighbors">
        {rows.slice(0, 30).map((edge) => {
          const node = nodes.get(edge[end]);
          const what = change(edge.now, edge.then, g);
          return (
            <li key={edge[end]}>
              <button type="button" onClick={() => go({ sel: edge[end] })} class="who"><Icon name={node?.type ?? "service"} size={14} /><span>{node?.name ?? edge[end]}</span></button>
              {what && <span class={`badge ${what}`}>{what === "changed" ? changed(edge.now!, edge.then!, g) : what}</span>}
              <button type="button" class="bar" aria-label={`History of ${edge.client} → ${edge.server}`} onClick={() => go({ sel: edgeId(edge) })}>
                <i class={`e${level(edge.now)}`} style={{ width: `${Math.round((widthOf(edge.now, r0) / 6) * 44)}px` }} />
              </button>
              <span>{rate(edge.now)}</span>
              <span class={`t${level(edge.now)}`}>{errors(edge.now)}</span>
              <span>{quantile(edge.now, "p95")}</span>
            </li>
          );
        })}
      </ul>
      {rows.length > 30 && <button type="button" class="link" onClick={() => go({ view: "table" })}>{rows.length - 30} more in the table</button>}
    </section>
  );
}

function Exemplars({ all }: { all: Exemplar[] }) {
  if (!all.length) return null;
  const url = info.value?.trace_url ?? null;
  return (
    <section>
      <h3>Exemplars <small>{all.length}</small></h3>
      <ul class="exemplars">
        {all.map((one) => (
          <li key={one.trace_id + one.what}>
            {url
              ? <a href={url.replaceAll("{trace_id}", one.trace_id)} target="_blank" rel="noopener noreferrer">{one.trace_id.slice(0, 12)}…</a>
              : <code title={one.trace_id}>{one.trace_id}</code>}
            <span class={one.error ? "t3" : ""}>{one.error ? "error · " : ""}{duration(one.value)}</span>
            <span>{exactTime(one.ts)}</span>
            <span class="what" title={one.what}>{one.what}</span>
          </li>
        ))}
      </ul>
      {!url && <p class="hint">With <code>--trace-url</code> these are links.</p>}
    </section>
  );
}

const past = signal<Point[]>([]);

/** Nodes that can be opened, each with a note. */
function Others({ rows, g }: { rows: [string, string][]; g: Graph }) {
  return (
    <ul class="neighbors ends">
      {rows.map(([id, note]) => {
        const node = g.nodes.find((one) => one.id === id);
        return <li key={id + note}><button type="button" class="who" onClick={() => go({ sel: id })}><Icon name={node?.type ?? "service"} size={14} /><span>{node?.name ?? id}</span></button><span>{note}</span></li>;
      })}
    </ul>
  );
}

/** The others of the circle that all these nodes are in. */
function Cycle({ ids, g }: { ids: string[]; g: Graph }) {
  const cycle = g.cycles.find((one) => ids.every((id) => one.includes(id)));
  if (!cycle) return null;
  const others = cycle.filter((id) => !ids.includes(id));
  return (
    <section>
      <h3>Cycle <small>{cycle.length}</small></h3>
      <p class="hint">Calls can come back to where they began.</p>
      <Others rows={others.slice(0, 30).map((id) => [id, ""])} g={g} />
      {others.length > 30 && <p class="hint">{others.length - 30} more</p>}
    </section>
  );
}

function EdgePanel({ edge, g }: { edge: EdgeView; g: Graph }) {
  const { client, server } = edge;
  useEffect(() => {
    let mine = true;
    past.value = [];
    edgeHistory(client, server).then((found) => mine && (past.value = found.points), () => undefined);
    return () => {
      mine = false;
    };
  }, [client, server, g.kept?.[1]]);
  return (
    <>
      <Charts points={past.value} now={edge.now} />
      <section>
        <h3>Ends</h3>
        <Others rows={[[client, "Caller"], [server, "Called"]]} g={g} />
      </section>
      <Cycle ids={[client, server]} g={g} />
    </>
  );
}

function NodePanel({ node, g }: { node: NodeView; g: Graph }) {
  const known = service.value?.id === node.id ? service.value : null;
  const into = g.edges.filter((edge) => edge.server === node.id);
  const out = g.edges.filter((edge) => edge.client === node.id);
  return (
    <>
      <Charts points={known?.points ?? []} now={node.now} />
      <Operations all={known?.operations ?? []} />
      <Neighbors title="Called by" edges={into} end="client" g={g} />
      <Neighbors title="Calls" edges={out} end="server" g={g} />
      <Cycle ids={[node.id]} g={g} />
      <Exemplars all={known?.exemplars ?? []} />
    </>
  );
}

/** What is selected, in full. */
export function Panel() {
  const { sel } = route.value;
  const g = graph.value;
  const heading = useRef<HTMLHeadingElement>(null);
  const there = !!sel && !!g;
  // What a link opens leaves the focus at the beginning of the page.
  const arrived = useRef(sel);
  useEffect(() => {
    most.value = 20;
    if (there && sel !== arrived.current) heading.current?.focus({ preventScroll: true });
    if (sel !== arrived.current) arrived.current = null;
  }, [sel, there]);
  if (!sel || !g) return null;
  const edge = g.edges.find((one) => edgeId(one) === sel);
  const node = g.nodes.find((one) => one.id === sel);
  const name = (id: string) => g.nodes.find((one) => one.id === id)?.name ?? id;
  const title = edge ? `${name(edge.client)} → ${name(edge.server)}` : node?.name ?? sel;
  const sub = edge
    ? `${edge.type} · latency of the ${edge.side}`
    : node ? [node.namespace, node.type, `by ${node.of}`].filter(Boolean).join(" · ") : "not in this map";
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <header>
        <Icon name={edge ? "mark" : node?.type ?? "service"} size={20} />
        <div><h2 id="panel-title" ref={heading} tabIndex={-1} title={title}>{title}</h2><p>{sub}</p></div>
        {node && <button type="button" class="button" onClick={() => go({ focus: node.id, hops: 1, view: "map" })}><Icon name="focus" />Focus</button>}
        <button type="button" class="button square" aria-label="Close the panel" onClick={closeOne}><Icon name="close" /></button>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label="Details">
        {edge ? <EdgePanel edge={edge} g={g} /> : node ? <NodePanel node={node} g={g} /> : <p class="hint">Nothing of this name was called in what is kept.</p>}
      </div>
    </aside>
  );
}
