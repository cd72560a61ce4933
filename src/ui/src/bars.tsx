import { computed, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { change, exactTime, moment, scale, span } from "./format";
import { Icon } from "./icons";
import { drawn, groupName } from "./scene";
import { fit } from "./map";
import { compareAt, go, graph, info, offline, query, refresh, route, size, theme } from "./state";
import type { NodeView } from "./types";

export function TopBar() {
  const g = graph.value;
  const told = info.value;
  const { tenant, ns, view } = route.value;
  const whose = tenant ?? g?.tenant ?? "";
  const tenants = [...new Set([...(told?.tenants ?? []), ...(whose ? [whose] : [])])];
  const groups = [...new Set([...(g?.groups.map((group) => group.name) ?? []), ...(ns === null ? [] : [ns])])].sort();
  return (
    <header class="topbar">
      <a class="mark" href="./" aria-label="spanmill, service map: start" onClick={(event) => {
        event.preventDefault();
        go({ ns: null, focus: null, hops: 1, side: false, sel: null, view: "map", t: null, cmp: null });
      }}><Icon name="mark" size={20} /><b>spanmill</b></a>
      <h1>Service map</h1>
      <Choice label="Tenant" value={whose} options={tenants.map((name) => [name, name])} choose={(to) => go({ tenant: to, ns: null, focus: null, sel: null })} />
      <Choice label="Namespace" value={ns === null ? "*" : `=${ns}`} options={[["*", "all"], ...groups.map((name) => [`=${name}`, groupName(name)] as [string, string])]}
        choose={(to) => go({ ns: to === "*" ? null : to.slice(1), focus: null })} />
      <Search />
      <div class="grow" />
      <div class="segmented" role="group" aria-label="View">
        <button type="button" aria-pressed={view === "map"} onClick={() => go({ view: "map" })}>Map</button>
        <button type="button" aria-pressed={view === "table"} onClick={() => go({ view: "table" })}>Table</button>
      </div>
      <Connection />
      <button type="button" class="button square" aria-label={theme.value === "dark" ? "Light colors" : "Dark colors"}
        onClick={() => go({ theme: theme.value === "dark" ? "light" : "dark" }, "replace")}>
        <Icon name={theme.value === "dark" ? "sun" : "moon"} />
      </button>
    </header>
  );
}

function Choice({ label, value, options, choose }: { label: string; value: string; options: [string, string][]; choose: (to: string) => void }) {
  return (
    <label class="choice">
      <span>{label}</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
        {options.map(([id, text]) => <option key={id} value={id} selected={id === value}>{text}</option>)}
      </select>
    </label>
  );
}

function Connection() {
  const g = graph.value;
  const off = offline.value;
  const { t } = route.value;
  const at = g?.as_of ?? g?.at;
  const state = off ? "Offline" : t !== null ? "Paused" : info.value?.finished ? "File" : g ? "Live" : "Loading";
  const shown = t !== null && !off ? g?.at : at;
  return (
    <div class={`connection ${state.toLowerCase()}`} role="status">
      <i class="dot" aria-hidden="true" /><b>{state}</b>
      {shown ? <span><span class="wide">data as of </span>{exactTime(shown)}</span> : null}
    </div>
  );
}

const opened = signal(false);
const chosen = signal(0);
const found = computed<NodeView[]>(() => {
  const wanted = query.value.trim().toLowerCase();
  const g = graph.value;
  if (!wanted || !g) return [];
  const rank = (node: NodeView) => {
    const name = node.name.toLowerCase();
    return name === wanted ? 0 : name.startsWith(wanted) ? 1 : name.includes(wanted) ? 2 : node.id.toLowerCase().includes(wanted) ? 3 : 9;
  };
  return g.nodes.filter((node) => rank(node) < 9).sort((a, b) => rank(a) - rank(b) || (b.now?.rate ?? 0) - (a.now?.rate ?? 0)).slice(0, 12);
});

function take(node: NodeView): void {
  opened.value = false;
  query.value = "";
  const here = drawn.value?.scene.nodes.some((one) => one.id === node.id);
  if (here || route.value.view === "table") go({ sel: node.id });
  else go({ focus: node.id, hops: 1, sel: node.id, ns: null });
}

function Search() {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const hear = (event: KeyboardEvent) => {
      const typing = (event.target as Element).closest("input, select, textarea");
      if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
      if (event.key === "/") {
        event.preventDefault();
        input.current?.focus();
        input.current?.select();
      } else if (event.key === "0") fit();
    };
    addEventListener("keydown", hear);
    return () => removeEventListener("keydown", hear);
  }, []);
  const list = opened.value ? found.value : [];
  const at = Math.min(chosen.value, list.length - 1);
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      chosen.value = (at + (event.key === "ArrowDown" ? 1 : -1) + list.length) % (list.length || 1);
    } else if (event.key === "Enter" && list[at]) {
      event.preventDefault();
      take(list[at]!);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (query.value) query.value = "";
      else input.current?.blur();
      opened.value = false;
    }
  };
  return (
    <div class="search">
      <Icon name="search" />
      <input ref={input} type="text" role="combobox" aria-label="Find a service" placeholder="Find a service" autocomplete="off" spellcheck={false}
        aria-expanded={list.length > 0} aria-controls="found" aria-autocomplete="list" {...(list[at] ? { "aria-activedescendant": `found-${at}` } : {})}
        value={query.value}
        onInput={(event) => {
          query.value = event.currentTarget.value;
          chosen.value = 0;
          opened.value = true;
        }}
        onFocus={() => (opened.value = true)} onBlur={() => (opened.value = false)} onKeyDown={onKey} />
      <kbd aria-hidden="true">/</kbd>
      <ul id="found" role="listbox" aria-label="Services found" hidden={list.length === 0}>
        {list.map((node, i) => (
          <li key={node.id} id={`found-${i}`} role="option" aria-selected={i === at} onPointerDown={(event) => {
            event.preventDefault();
            take(node);
          }}><Icon name={node.type} size={14} /><span>{node.name}</span><small>{node.namespace || node.group}</small></li>
        ))}
      </ul>
    </div>
  );
}

const OFFSETS: [string, number][] = [["1m", 60_000], ["5m", 300_000], ["15m", 900_000], ["1h", 3_600_000], ["6h", 21_600_000], ["1d", 86_400_000]];

/** Live, the time slider over what is kept, and what to compare with. */
export function TimeBar() {
  const g = graph.value;
  const { t, cmp } = route.value;
  const kept = g?.kept ?? null;
  if (!g || !kept) return <footer class="timebar"><button type="button" class="golive" disabled>Live</button></footer>;
  const live = g.as_of ?? kept[1];
  const at = t ?? live;
  const then = compareAt(cmp, at);
  const options = OFFSETS.filter(([id, ms]) => at - ms > kept[0] || cmp === id);
  const isMoment = cmp !== null && !OFFSETS.some(([id]) => id === cmp);
  const finished = info.value?.finished ?? false;
  return (
    <footer class="timebar">
      <button type="button" class="golive" aria-pressed={t === null} onClick={() => go({ t: null }, "replace")}>{finished ? "All" : "Live"}</button>
      <div class="clock"><b>{moment(at, live)}</b><span>{t === null ? (finished ? "the whole file" : "now") : `${span(live - at)} ago`}</span></div>
      <Slider kept={kept} at={at} then={then} />
      <label class="choice compare">
        <span>Compare with</span>
        <select value={cmp ?? ""} onChange={(event) => go({ cmp: event.currentTarget.value || null })}>
          <option value="" selected={!cmp}>nothing</option>
          {options.map(([id, ms]) => <option key={id} value={id} selected={cmp === id}>{span(ms)} before</option>)}
          {isMoment && <option value={cmp} selected>{then ? exactTime(then) : cmp}</option>}
        </select>
      </label>
      {g.compare !== null && <Counts />}
      {g.compare_missing && <span class="badge gone" role="status">{g.compare_missing}</span>}
    </footer>
  );
}

function Counts() {
  const g = graph.value!;
  const all = g.edges.map((edge) => change(edge.now, edge.then, g));
  const n = (what: string) => all.filter((one) => one === what).length;
  return (
    <div class="badges" role="status" aria-label="Edges that differ">
      {(["new", "gone", "changed"] as const).map((what) => n(what) > 0 && <span key={what} class={`badge ${what}`}>{n(what)} {what}</span>)}
      {all.every((one) => !one) && <span class="badge gone">no edge differs</span>}
    </div>
  );
}

function Slider({ kept, at, then }: { kept: [number, number]; at: number; then: number | null }) {
  const g = graph.value!;
  const [from, to] = kept;
  const step = Math.max(1, g.step);
  const part = (t: number) => `${Math.min(100, Math.max(0, ((t - from) / (to - from || 1)) * 100))}%`;
  const most = Math.max(1e-9, ...g.total.map(([, r]) => r));
  const wide = g.total.length > 1 ? g.total[1]![0] - g.total[0]![0] : to - from || 1;
  const failing = Math.max(6, ...g.total.map(([, , some]) => some));
  const ticks = [0, 0.25, 0.5, 0.75].map((p) => from + p * (to - from));
  const set = (t: number) => go({ t: t >= to - step / 2 ? null : Math.round(t / step) * step }, "replace");
  return (
    <div class="slider">
      <svg preserveAspectRatio="none" viewBox="0 0 1000 28" aria-hidden="true">
        {g.total.map(([end, r, some, many]) => {
          const left = Math.max(0, ((end - wide - from) / (to - from || 1)) * 1000);
          const width = Math.max(1, Math.min(1000, ((end - from) / (to - from || 1)) * 1000) - left - 1.2);
          const h = (r / most) * 26;
          const bad = some > 0 ? Math.max(3, (some / failing) * 16) : 0;
          return (
            <g key={end}>
              <rect class="bar" x={left} y={28 - h} width={width} height={h} />
              {bad > 0 && <rect class={many > 0 ? "bad e3" : "bad e2"} x={left} y={28 - bad} width={width} height={bad} />}
            </g>
          );
        })}
      </svg>
      {then !== null && <i class="mark" style={{ left: part(then) }} />}
      <i class="playhead" style={{ left: part(at) }} />
      <input type="range" aria-label="Moment" aria-valuetext={exactTime(at)} min={from} max={to} step={step} value={at}
        onInput={(event) => set(Number(event.currentTarget.value))}
        onPointerDown={(event) => {
          if (!event.shiftKey) return;
          event.preventDefault();
          const rect = event.currentTarget.getBoundingClientRect();
          const moment = from + ((event.clientX - rect.left) / rect.width) * (to - from);
          go({ cmp: new Date(Math.round(moment / step) * step).toISOString().replace(".000Z", "Z") });
        }} />
      <div class="ticks" aria-hidden="true">{size.value.width > 700 && ticks.map((t) => <span key={t} style={{ left: part(t) }}>{scale(to - from)(t)}</span>)}</div>
    </div>
  );
}

const ticking = signal(Date.now());

export function Banners() {
  const off = offline.value;
  const g = graph.value;
  useEffect(() => {
    if (!off) return;
    const timer = setInterval(() => (ticking.value = Date.now()), 500);
    return () => clearInterval(timer);
  }, [off]);
  if (off) {
    const wait = Math.max(0, Math.ceil((off.next - Math.max(ticking.value, Date.now())) / 1000));
    return (
      <div class="banner" role="alert">
        <Icon name="warn" size={18} />
        <p><b>{off.why === "no answer" ? "No answer from the server" : "The server refuses"}{g ? ` since ${exactTime(off.since)}` : ""}.</b> {off.why === "no answer" ? "" : `${off.why}. `}{g ? "The map shows what was known then. " : ""}<span aria-hidden="true">Next try in {wait} s.</span></p>
        <button type="button" class="button" onClick={() => void refresh()}>Try now</button>
      </div>
    );
  }
  if (g && g.nodes.length > 0 && g.edges.length === 0) {
    return (
      <div class="banner partial" role="status">
        <Icon name="warn" size={18} />
        <p><b>No edges yet.</b> Spans are arriving. An edge appears when both its spans have, or when the wait for the second is over: up to {span(info.value?.edge_delay ?? 0)} in all.</p>
      </div>
    );
  }
  if (g?.partial.length) {
    return (
      <div class="banner partial" role="status">
        <Icon name="warn" size={18} />
        <p><b>Numbers are at least what they are:</b> {g.partial.slice(0, 3).join("; ")}{g.partial.length > 3 ? ` and ${g.partial.length - 3} more` : ""}</p>
      </div>
    );
  }
  return null;
}

/** Nothing to show: which part is missing, and how long it may take. */
export function Empty() {
  const g = graph.value;
  const told = info.value;
  const spans = Math.round((g?.spans ?? 0) * 60);
  const whose = g?.tenant || "this tenant";
  return (
    <div class="empty">
      <svg viewBox="0 0 120 60" width="120" height="60" aria-hidden="true"><path d="M1 20h34v18H1ZM85 2h34v18H85ZM85 37h34v18H85ZM35 29c26 0 22-18 50-18M35 29c26 0 22 18 50 18" /></svg>
      <h2>{told?.finished ? "No spans in these files" : `No spans yet${g?.tenant ? ` for ${whose}` : ""}`}</h2>
      <p>An edge appears when both its spans have arrived, or when the wait for the second is over: up to <b>{span(told?.edge_delay ?? 0)}</b> in all.</p>
      <p>{spans > 0 ? <>Spans are arriving: <b>{spans.toLocaleString("en")}</b> in a minute, <b>0</b> edges.</> : "No spans are arriving: is a worker running, and does it read the topic?"}</p>
      <div><button type="button" class="button" onClick={() => void refresh()}>Look again</button></div>
    </div>
  );
}
