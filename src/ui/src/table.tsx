import { signal } from "@preact/signals";
import { change, changed, errors, level, quantile, rate } from "./format";
import { Icon } from "./icons";
import { Headers, sorted, type Column } from "./panel";
import { go, graph, query, route } from "./state";
import type { NodeView } from "./types";

interface Row {
  node: NodeView;
  into: number;
  out: number;
}

const by = signal({ key: "rate", down: true });
const COLUMNS: Column<Row>[] = [
  { key: "name", title: "Service", of: (r) => r.node.name },
  { key: "ns", title: "Namespace", of: (r) => r.node.namespace || r.node.group },
  { key: "type", title: "Type", of: (r) => r.node.type },
  { key: "rate", title: "Rate", of: (r) => r.node.now?.rate ?? 0, num: true },
  { key: "errors", title: "Errors", of: (r) => r.node.now?.errors ?? 0, num: true },
  { key: "p50", title: "p50", of: (r) => r.node.now?.p50 ?? -1, num: true },
  { key: "p95", title: "p95", of: (r) => r.node.now?.p95 ?? -1, num: true },
  { key: "in", title: "In", of: (r) => r.into, num: true },
  { key: "out", title: "Out", of: (r) => r.out, num: true },
];

/** Everything that the map shows, in rows. */
export function Table() {
  const g = graph.value!;
  const { ns, sel } = route.value;
  const into = new Map<string, number>();
  const out = new Map<string, number>();
  for (const edge of g.edges) {
    into.set(edge.server, (into.get(edge.server) ?? 0) + 1);
    out.set(edge.client, (out.get(edge.client) ?? 0) + 1);
  }
  const wanted = query.value.trim().toLowerCase();
  const rows = g.nodes
    .filter((node) => (ns === null || node.group === ns) && (!wanted || node.name.toLowerCase().includes(wanted)))
    .map((node) => ({ node, into: into.get(node.id) ?? 0, out: out.get(node.id) ?? 0 }));
  return (
    <div class="table" tabIndex={0} role="region" aria-label="Services">
      <table>
        <caption class="hidden">Services, {rows.length} rows</caption>
        <Headers columns={COLUMNS} by={by} />
        <tbody>
          {sorted(rows, COLUMNS, by.value).map(({ node, into, out }) => {
            const what = change(node.now, node.then, g);
            return (
              <tr key={node.id} class={node.id === sel ? "selected" : ""}>
                <th scope="row">
                  <button type="button" class="who" onClick={() => go({ sel: node.id })}><Icon name={node.type} size={14} /><span>{node.name}</span></button>
                  {what && <span class={`badge ${what}`}>{what === "changed" ? changed(node.now!, node.then!, g) : what}</span>}
                </th>
                <td class="left">{node.namespace || (node.type === "user" ? "" : node.group)}</td>
                <td class="left">{node.type}</td>
                <td>{rate(node.now)}</td>
                <td class={`t${level(node.now)}`}>{errors(node.now)}</td>
                <td>{quantile(node.now, "p50")}</td>
                <td>{quantile(node.now, "p95")}</td>
                <td>{into}</td>
                <td>{out}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {!rows.length && <p class="hint">No service has this name.</p>}
    </div>
  );
}
