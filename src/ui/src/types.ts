/** What the API answers; see docs/openapi.yaml. */
export interface Values {
  rate: number;
  errors: number;
  p50: number | null;
  p95: number | null;
  p50_le?: number;
  p95_le?: number;
  p50_gt?: number;
  p95_gt?: number;
}

export type NodeType = "service" | "database" | "queue" | "external" | "user";

export interface NodeView {
  id: string;
  name: string;
  namespace: string;
  group: string;
  type: NodeType;
  of: string;
  now: Values | null;
  then: Values | null;
}

export interface EdgeView {
  client: string;
  server: string;
  type: "request" | "messaging" | "database" | "virtual";
  side: "client" | "server";
  now: Values | null;
  then: Values | null;
  first_seen: number;
  last_seen: number;
}

export interface GroupView {
  id: string;
  name: string;
  nodes: number;
  type: NodeType;
  now: Values | null;
  then: Values | null;
}

export interface Graph {
  tenant: string;
  at: number;
  as_of: number | null;
  kept: [number, number] | null;
  window: number;
  step: number;
  compare: number | null;
  compare_missing?: string;
  partial: string[];
  spans: number;
  rate: [number, number | null];
  total: [number, number, number, number][];
  nodes: NodeView[];
  edges: EdgeView[];
  cycles: string[][];
  groups: GroupView[];
  group_edges: EdgeView[];
}

export interface Point {
  t: number;
  values: Values | null;
}

export interface EdgeHistory {
  client: string;
  server: string;
  step: number;
  points: Point[];
}

export interface Operation {
  name: string;
  kind: string;
  now: Values;
}

export interface Exemplar {
  trace_id: string;
  value: number;
  ts: number;
  what: string;
  error: boolean;
}

export interface ServiceView {
  id: string;
  name: string;
  namespace: string;
  type: NodeType;
  of: string;
  step: number;
  points: Point[];
  operations: Operation[];
  exemplars: Exemplar[];
}

export interface Info {
  tenants: string[];
  source: string;
  trace_url: string | null;
  edge_delay: number;
  finished: boolean;
  version: string;
}
