// Made-up systems: services with heavy-tailed degrees, namespaces, stores, and some that come and go.

/** A small generator of numbers in [0, 1): the same on every machine. */
export function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const NAMESPACES = ["edge", "web", "mobile", "catalog", "identity", "orders", "payments", "pricing", "fulfilment", "content", "risk",
  "media", "ml", "notify", "search", "partner"];
const WORDS = ["api", "core", "query", "batch", "index", "profile", "sync", "token", "quote", "ledger", "review", "label", "image",
  "session", "route", "audit", "score", "bundle", "stock", "plan"];

const SHOP = [
  ["user", "frontend", 427, 0.003, 221], ["frontend", "checkout", 22.1, 0.026, 1300], ["frontend", "accounts", 69.1, 0, 23],
  ["frontend", "search", 98.8, 0.002, 154], ["frontend", "recommendation", 494, 0, 64], ["frontend", "ads", 298, 0.013, 40],
  ["frontend", "cart", 100, 0, 22], ["frontend", "catalog", 407, 0, 36], ["checkout", "orders-topic", 20.3, 0, 5.9],
  ["checkout", "payment", 21.3, 0.049, 1300], ["checkout", "shipping", 22.4, 0, 148], ["checkout", "currency", 43.9, 0, 3.1],
  ["checkout", "cart", 105, 0, 22], ["checkout", "fraud", 21, 0, 78], ["checkout", "inventory", 23.2, 0, 50],
  ["orders-topic", "orders", 21.9, 0, 28], ["orders-topic", "email", 21.2, 0.003, 120], ["payment", "acquirer.example", 22.8, 0.058, 1200],
  ["payment", "fraud", 22.7, 0, 78], ["shipping", "carrier-api.example", 22.1, 0.001, 141], ["accounts", "mongo-accounts", 85.4, 0, 6.3],
  ["cart", "redis-cart", 380, 0, 1.3], ["catalog", "postgres-catalog", 852, 0, 7.9], ["search", "catalog", 98, 0, 36],
  ["recommendation", "catalog", 396, 0, 36], ["fraud", "redis-cart", 16, 0, 1.3], ["orders", "postgres-orders", 60, 0, 12],
  ["inventory", "postgres-orders", 46, 0, 12],
];
const SHOP_GONE = [["checkout", "tax-legacy", 21, 0.01, 90]];

const kind = (name) => name === "user" ? "user" : /^(mongo|redis|postgres)-|^store-/.test(name) ? "database"
  : name.endsWith("-topic") ? "queue" : name.endsWith(".example") ? "external" : "service";

/** A world of so many services. */
export function world(services, seed = 1) {
  const random = dice(seed);
  const nodes = new Map();
  const add = (name, namespace) => nodes.set(name, { id: namespace ? `${namespace}/${name}` : name, name, namespace, type: kind(name) });
  const edges = [];
  if (services <= 15) {
    for (const [client, server, rate, errors, p95] of [...SHOP, ...SHOP_GONE]) {
      for (const end of [client, server]) if (!nodes.has(end)) add(end, "");
      edges.push({ client, server, rate, errors, p95, gone: server === "tax-legacy", fresh: client === "checkout" && server === "fraud" });
    }
  } else {
    const used = Math.min(NAMESPACES.length, Math.max(4, Math.round(Math.sqrt(services))));
    const names = [];
    for (let i = 0; i < services; i++) {
      const namespace = NAMESPACES[Math.floor(random() ** 1.3 * used)];
      const name = `${namespace}-${WORDS[i % WORDS.length]}${i >= WORDS.length ? `-${Math.floor(i / WORDS.length)}` : ""}`;
      add(name, namespace);
      names.push(name);
    }
    for (const name of ["user", ...Array.from({ length: 12 }, (_, i) => `store-${i}`), ...Array.from({ length: 5 }, (_, i) => `partner-${i}.example`), "events-topic"]) add(name, "");
    const others = [...nodes.keys()].filter((name) => kind(name) !== "service" && name !== "user");
    // A new one is called by those that call much already.
    const callers = [names[0]];
    edges.push({ client: "user", server: names[0], rate: 2000, errors: 0.003, p95: 180 });
    const seen = new Set();
    const call = (client, server) => {
      if (client === server || seen.has(`${client} ${server}`)) return;
      seen.add(`${client} ${server}`);
      edges.push({ client, server, rate: 10 ** (random() * 3.2), errors: random() < 0.05 ? random() * 0.08 : random() * 0.0008, p95: 10 ** (0.5 + random() * 2.4),
        gone: random() < 0.01, fresh: random() < 0.02 });
      callers.push(client, client, server);
    };
    // Teams call themselves most, and few others: those that lie a little deeper.
    const tier = (name) => NAMESPACES.indexOf(nodes.get(name).namespace);
    const deeper = (name) => {
      const reach = NAMESPACES[Math.min(used - 1, tier(name) + 1 + Math.floor(random() ** 2 * 3))];
      const there = names.filter((other) => nodes.get(other).namespace === reach);
      return there[Math.floor(random() ** 2 * there.length)] ?? name;
    };
    const first = new Map();
    for (const name of names) if (!first.has(tier(name))) first.set(tier(name), name);
    for (const name of names.slice(1)) {
      const own = callers.filter((other) => tier(other) === tier(name));
      if (own.length) call(own[Math.floor(random() * own.length)], name);
      else call([...first].filter(([at]) => at < tier(name)).map(([, other]) => other).pop() ?? names[0], name);
    }
    for (let i = 0; i < services * 0.25; i++) {
      const name = names[Math.floor(random() * services)];
      call(name, deeper(name));
    }
    for (let i = 0; i < services * 0.35; i++) {
      const name = names[Math.floor(random() * services)];
      call(name, others[(tier(name) * 7 + Math.floor(random() * 3)) % others.length]);
    }
  }
  return { nodes, edges };
}

const NOW = Date.UTC(2026, 6, 1, 14, 30);
const STEP = 60_000;
export const KEPT = [NOW - 26 * 3_600_000, NOW];

/** The same shape each day. */
const season = (t) => 1 - 0.35 * Math.cos(((t - NOW) / 86_400_000) * 2 * Math.PI + 0.6);

function valuesAt(edge, t) {
  const age = NOW - t;
  if (edge.gone && age < 3_600_000) return null;
  if (edge.fresh && age > 3 * 3_600_000) return null;
  const bad = age < 2 * 3_600_000 ? 1 : 0.15;
  const spread = 1 + 0.05 * Math.sin(t / 700_000 + edge.rate);
  const p95 = edge.p95 * (age < 2 * 3_600_000 && edge.errors > 0.02 ? 1.4 : 1) * spread;
  const values = { rate: edge.rate * season(t) * spread, errors: edge.errors * bad, p50: p95 / 6, p95 };
  return p95 / 6 < 5 ? { ...values, p50: 2.5, p50_le: 5 } : values;
}

function merged(all) {
  const some = all.filter(Boolean);
  if (!some.length) return null;
  const rate = some.reduce((sum, v) => sum + v.rate, 0);
  const mean = (of) => some.reduce((sum, v) => sum + of(v) * v.rate, 0) / rate;
  return { rate, errors: mean((v) => v.errors), p50: mean((v) => v.p50), p95: mean((v) => v.p95) };
}

const groupOf = (node) => node.namespace || { service: "", database: "databases", queue: "queues", external: "external", user: "user" }[node.type];

/** The answers of the API for a world. */
export class Api {
  constructor(services, seed) {
    this.world = world(services, seed);
    this.extra = 0;
    this.partial = [];
    this.cycles = [];
    this.empty = false;
    this.down = false;
    this.now = NOW;
  }

  /** Something new: a service that calls and is called. */
  grow() {
    const name = `fresh-${++this.extra}`;
    const [first] = [...this.world.nodes.values()].filter((node) => node.type === "service");
    this.world.nodes.set(name, { id: first.namespace ? `${first.namespace}/${name}` : name, name, namespace: first.namespace, type: "service" });
    this.world.edges.push({ client: first.name, server: name, rate: 5, errors: 0, p95: 20 });
    this.now += STEP;
  }

  edges(t) {
    return this.world.edges.map((edge) => ({ edge, values: valuesAt(edge, t) }));
  }

  graph(given) {
    const empty = { tenant: "shop-prod", at: 0, as_of: null, kept: null, window: 0, step: STEP, compare: null, partial: [], spans: 20, rate: [0, null], total: [], nodes: [], edges: [], cycles: [], groups: [], group_edges: [] };
    if (this.empty) return empty;
    const at = Number(given.get("at")) || this.now;
    const compare = given.get("compare") ? Number(given.get("compare")) : null;
    const then = compare === null || compare < KEPT[0] ? null : this.edges(compare);
    const now = this.edges(at);
    const { nodes } = this.world;
    const id = (name) => nodes.get(name).id;
    const type = (edge) => kind(edge.client) === "queue" || kind(edge.server) === "queue" ? "messaging" : kind(edge.server) === "database" ? "database" : kind(edge.server) === "external" || edge.client === "user" ? "virtual" : "request";
    const edges = now.map(({ edge, values }, i) => ({ client: id(edge.client), server: id(edge.server), type: type(edge), side: edge.client === "user" ? "server" : "client",
      now: values, then: then?.[i].values ?? null, first_seen: KEPT[0], last_seen: at }));
    const of = (all, name) => {
      const into = all.filter(({ edge }) => edge.server === name).map(({ values }) => values);
      const own = all.filter(({ edge }) => edge.client === name).map(({ values }) => values);
      const found = merged(into) ?? merged(own);
      return found && name === "user" ? { ...found, p50: null, p95: null } : found;
    };
    const views = [...nodes.values()].map((node) => ({ ...node, group: groupOf(node), of: "server spans", now: of(now, node.name), then: then ? of(then, node.name) : null }));
    const open = given.get("namespace");
    const place = (name) => {
      const node = nodes.get(name);
      return node.type === "user" || groupOf(node) === open ? node.id : `ns:${groupOf(node)}`;
    };
    const between = new Map();
    now.forEach(({ edge, values }, i) => {
      const ends = [place(edge.client), place(edge.server)];
      if (ends[0] === ends[1]) return;
      const key = ends.join("→");
      const one = between.get(key) ?? { ends, now: [], then: [], type: type(edge) };
      one.now.push(values);
      one.then.push(then?.[i].values ?? null);
      between.set(key, one);
    });
    const group_edges = [...between.values()].map(({ ends: [client, server], now, then, type }) => ({ client, server, type, side: "client", now: merged(now), then: merged(then), first_seen: KEPT[0], last_seen: at }));
    const names = [...new Set(views.filter((node) => node.type !== "user").map((node) => node.group))];
    const groups = names.map((name) => {
      const members = views.filter((node) => node.group === name);
      const kinds = [...new Set(members.map((node) => node.type))];
      return { id: `ns:${name}`, name, nodes: members.length, type: kinds.length === 1 ? kinds[0] : "service", now: merged(members.map((node) => node.now)), then: merged(members.map((node) => node.then)) };
    });
    const sum = (all) => all.reduce((total, { values }) => total + (values?.rate ?? 0), 0);
    const total = Array.from({ length: 96 }, (_, i) => {
      const t = KEPT[0] + ((i + 1) / 96) * (this.now - KEPT[0]);
      const failing = this.world.edges.filter((edge) => (valuesAt(edge, t)?.errors ?? 0) >= 0.01).length;
      return [t, 4000 * season(t), failing, failing > 3 ? 1 : 0];
    });
    return { ...empty, at, as_of: this.now, kept: [KEPT[0], this.now], window: 5 * STEP, compare: then ? compare : null, partial: this.partial,
      ...(compare !== null && !then ? { compare_missing: "nothing is kept of then" } : {}), spans: 9000, rate: [sum(now), then ? sum(then) : null], total, nodes: views, edges, cycles: this.cycles, groups, group_edges };
  }

  points(edges, range = 72) {
    return Array.from({ length: range }, (_, i) => {
      const t = this.now - (range - 1 - i) * 10 * STEP;
      return { t, values: merged(edges.map((edge) => valuesAt(edge, t))) };
    });
  }

  answer(path, given) {
    if (path === "/api/v1/tenants") return { tenants: ["shop-prod", "shop-test"], source: "test", trace_url: "https://traces.example/trace/{trace_id}", edge_delay: 130_000, finished: false, version: "0" };
    if (path === "/api/v1/service-graph") return this.graph(given);
    const named = (id) => [...this.world.nodes.values()].find((node) => node.id === id);
    if (path === "/api/v1/edges/history") {
      const [client, server] = [named(given.get("client")), named(given.get("server"))];
      const edges = this.world.edges.filter((edge) => edge.client === client?.name && edge.server === server?.name);
      return edges.length ? { client: client.id, server: server.id, step: 10 * STEP, points: this.points(edges) } : null;
    }
    const node = path.startsWith("/api/v1/services/") ? named(decodeURIComponent(path.slice("/api/v1/services/".length))) : undefined;
    if (!node) return null;
    const into = this.world.edges.filter((edge) => edge.server === node.name);
    const now = merged(into.map((edge) => valuesAt(edge, this.now)));
    const operations = now && node.type === "service" ? ["PlaceOrder", "Quote", "Voucher", "GET /healthz", "Status"].map((name, i) => ({ name: `${node.name}.v1/${name}`, kind: "server", now: { ...now, rate: now.rate / (i + 2), errors: now.errors * (i % 3) } })) : [];
    const exemplars = [0, 1, 2].map((i) => ({ trace_id: `${i}af7651916cd43dd8448eb211c80319c`.slice(0, 32), value: 120 * (i + 1), ts: this.now - i * 9000, what: `${node.name}.v1/Quote`, error: i === 1 }));
    return { id: node.id, name: node.name, namespace: node.namespace, type: node.type, of: "server spans", step: 10 * STEP, points: this.points(into), operations, exemplars };
  }
}
