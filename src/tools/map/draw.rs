//! A graph as text for drawing programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::nodes::NodeType;
use super::sums::Values;
use super::views::Graph;

/// The graph in the language of Graphviz.
#[must_use]
pub fn dot(graph: &Graph) -> String {
    let mut out = String::from("digraph service_map {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for node in &graph.nodes {
        let shape = match node.kind {
            NodeType::Service => "box",
            NodeType::Database => "cylinder",
            NodeType::Queue => "cds",
            NodeType::External => "component",
            NodeType::User => "oval",
        };
        let label = format!("{}\\n{}", quoted(&node.name), words(node.now.as_ref()));
        put(&mut out, format_args!("  \"{}\" [label=\"{label}\", shape={shape}];\n", quoted(&node.id)));
    }
    for edge in &graph.edges {
        let style = if edge.kind == "messaging" { ", style=dashed" } else { "" };
        let (client, server) = (quoted(&edge.client), quoted(&edge.server));
        let label = words(edge.now.as_ref());
        put(&mut out, format_args!("  \"{client}\" -> \"{server}\" [label=\"{label}\"{style}];\n"));
    }
    out.push_str("}\n");
    out
}

/// The graph as a Mermaid flowchart.
#[must_use]
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    let names: BTreeMap<&str, usize> = graph.nodes.iter().map(|node| node.id.as_str()).zip(0..).collect();
    for (node, i) in graph.nodes.iter().zip(0..) {
        let (open, close) = match node.kind {
            NodeType::Service => ("[", "]"),
            NodeType::Database => ("[(", ")]"),
            NodeType::Queue => ("[[", "]]"),
            NodeType::External => ("{{", "}}"),
            NodeType::User => ("([", "])"),
        };
        let (name, values) = (entities(&node.name), words(node.now.as_ref()));
        put(&mut out, format_args!("  n{i}{open}\"{name}<br/>{values}\"{close}\n"));
    }
    for edge in &graph.edges {
        let (Some(client), Some(server)) = (names.get(&*edge.client), names.get(&*edge.server)) else { continue };
        let arrow = if edge.kind == "messaging" { "-.->" } else { "-->" };
        put(&mut out, format_args!("  n{client} {arrow}|\"{}\"| n{server}\n", words(edge.now.as_ref())));
    }
    out
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let written = out.write_fmt(what);
    debug_assert!(written.is_ok(), "a string takes everything");
}

fn words(values: Option<&Values>) -> String {
    let Some(values) = values else { return "0/s".to_owned() };
    let errors = if values.errors > 0.0 { format!(", {:.1} % errors", values.errors * 100.0) } else { String::new() };
    let p95 = match (values.p95_le, values.p95_gt, values.p95) {
        (Some(le), ..) => format!(", p95 < {le} ms"),
        (_, Some(gt), _) => format!(", p95 > {gt} ms"),
        (.., Some(p95)) => format!(", p95 {p95:.0} ms"),
        _ => String::new(),
    };
    format!("{:.2}/s{p95}{errors}", values.rate)
}

fn quoted(text: &str) -> String {
    let escaped: String = text.chars().filter(|c| !c.is_control()).collect();
    escaped.replace('\\', "\\\\").replace('"', "\\\"")
}

/// In labels, Mermaid knows entities by number.
fn entities(text: &str) -> String {
    let one =
        |c: char| if c.is_alphanumeric() || "-_./: ".contains(c) { c.to_string() } else { format!("#{};", c as u32) };
    text.chars().filter(|c| !c.is_control()).map(one).collect()
}
