//! Files that hold a configuration among other things: values of Helm charts, objects of Kubernetes.

use super::tree::{Tree, TreeEntry, TreeValue};
use super::{Fate, Finding, Input};

/// Charts are not nested deeper than this in practice.
const DEPTH: usize = 4;
const CONNECTORS: [&str; 4] = ["span_metrics", "spanmetrics", "service_graph", "servicegraph"];
/// The reason for a key that belongs to the chart.
const CHART: &str = "the chart's own, not of the configuration";

/// The content.
#[derive(Debug)]
pub(super) struct Unwrapped {
    pub(super) tree: Tree,
    /// Settings of single tenants beside it.
    pub(super) tenants: Option<Tree>,
    /// The names of keys in the file: their prefixes there and in the configuration.
    pub(super) names: Vec<(String, String)>,
    /// The findings around it.
    pub(super) around: Vec<Finding>,
}

/// A place where a configuration lies.
struct ConfigSite<'a> {
    path: Vec<&'a str>,
    node: &'a Tree,
    shape: Shape,
}

/// In what form it lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As it is.
    Plain,
    /// Values of a chart of Tempo.
    Chart,
    /// Text in a Kubernetes object.
    Text,
}

/// Extracts a configuration from the file around it. A file that is one is left as it is.
pub(super) fn unwrap(tree: Tree, input: Input<'_>) -> Result<Unwrapped, Vec<String>> {
    let whole = is_chart(&tree) || !is_plain(&tree);
    let mut places = Vec::new();
    if whole {
        search(&tree, &mut Vec::new(), &mut places);
    }
    match places.as_slice() {
        [] => Ok(Unwrapped { tree, tenants: None, names: Vec::new(), around: Vec::new() }),
        [place] => {
            let mut out = match place.shape {
                Shape::Plain => plain(place),
                Shape::Chart => chart(place, input)?,
                Shape::Text => text(place, input)?,
            };
            let around = beside(&tree, &place.path, input);
            out.around.splice(0..0, around);
            Ok(out)
        }
        several => {
            let paths: Vec<String> = several.iter().map(|place| shown(&place.path)).collect();
            let name = input.name;
            Err(vec![format!(
                "{name}: contains several configurations, at {}; import each from a file of its own",
                paths.join(" and at ")
            )])
        }
    }
}

fn shown(path: &[&str]) -> String {
    if path.is_empty() { "its top".to_owned() } else { path.join(".") }
}

/// Whether a file begins as Tempo's or the Collector's does.
fn is_plain(tree: &Tree) -> bool {
    let names = ["connectors", "receivers", "exporters", "metrics_generator", "ingest", "overrides"];
    names.iter().any(|name| tree.get(name).is_some())
}

fn is_chart(tree: &Tree) -> bool {
    tree.get("metricsGenerator").is_some_and(|generator| !generator.entries().is_empty())
}

fn search<'a>(node: &'a Tree, path: &mut Vec<&'a str>, places: &mut Vec<ConfigSite<'a>>) {
    let connectors = node.get("connectors").map(Tree::entries).unwrap_or_default();
    let kind = |entry: &TreeEntry| entry.name.split('/').next().is_some_and(|kind| CONNECTORS.contains(&kind));
    let shape = if is_chart(node) {
        Some(Shape::Chart)
    } else if connectors.iter().any(kind) || node.get("metrics_generator").is_some() {
        Some(Shape::Plain)
    } else if node.text().is_some_and(holds_one) {
        Some(Shape::Text)
    } else {
        None
    };
    if let Some(shape) = shape {
        places.push(ConfigSite { path: path.clone(), node, shape });
        return;
    }
    if path.len() < DEPTH {
        for entry in node.entries() {
            path.push(&entry.name);
            search(&entry.tree, path, places);
            path.pop();
        }
    }
}

/// Whether a text is a file of Tempo or of the Collector itself.
fn holds_one(text: &str) -> bool {
    text.lines().count() > 1
        && Tree::parse(Input { name: "", text }).is_ok_and(|tree| {
            let mut inside = Vec::new();
            search(&tree, &mut Vec::new(), &mut inside);
            inside.iter().any(|place| place.path.is_empty() && place.shape == Shape::Plain)
        })
}

fn plain(place: &ConfigSite<'_>) -> Unwrapped {
    let names = vec![(String::new(), place.path.join("."))];
    Unwrapped { tree: place.node.clone(), tenants: None, names, around: Vec::new() }
}

/// An embedded text begins where its first line does.
fn text(place: &ConfigSite<'_>, input: Input<'_>) -> Result<Unwrapped, Vec<String>> {
    let mut tree = Tree::parse(Input { name: input.name, text: place.node.text().unwrap_or_default() })?;
    shift(&mut tree, place.node.line.saturating_sub(1));
    Ok(Unwrapped { tree, ..plain(place) })
}

fn shift(tree: &mut Tree, lines: usize) {
    tree.line += lines;
    match &mut tree.value {
        TreeValue::List(items) => items.iter_mut().for_each(|item| shift(item, lines)),
        TreeValue::Map(entries) => {
            for entry in entries {
                entry.line += lines;
                shift(&mut entry.tree, lines);
            }
        }
        TreeValue::Empty | TreeValue::Text(..) => {}
    }
}

/// The values of a chart, as the file that the chart makes of them.
fn chart(place: &ConfigSite<'_>, input: Input<'_>) -> Result<Unwrapped, Vec<String>> {
    let below = |path: &str| {
        [place.path.join("."), path.to_owned()].iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>().join(".")
    };
    let mut out = Unwrapped {
        tree: Tree { line: place.node.line, value: TreeValue::Map(Vec::new()) },
        tenants: None,
        names: Vec::new(),
        around: Vec::new(),
    };
    let mut entries = Vec::new();
    let told = |key: &str, line: usize, fate: Fate, why: &str| finding(input, &below(key), line, fate, why);
    for entry in place.node.entries() {
        let map = !entry.tree.entries().is_empty();
        let global = place.node.get("global_overrides").is_some();
        match entry.name.as_str() {
            "metricsGenerator" => entries.push(generator(entry, input, &below, &mut out)),
            "global_overrides" => {
                out.names.push(("overrides".to_owned(), below(&entry.name)));
                entries.push(TreeEntry { name: "overrides".to_owned(), ..entry.clone() });
            }
            "overrides" if map && !global => {
                out.names.push(("overrides".to_owned(), below(&entry.name)));
                entries.push(entry.clone());
            }
            "per_tenant_overrides" if map => out.tenants = Some(around_tenants(&entry.tree, entry.line)),
            "overrides" if entry.tree.text().is_some() => {
                let mut tree = Tree::parse(Input { name: input.name, text: entry.tree.text().unwrap_or_default() })?;
                shift(&mut tree, entry.tree.line.saturating_sub(1));
                out.tenants = Some(tree);
            }
            "config" | "structuredConfig" | "overrides" if !entry.tree.is_empty() => {
                let why = "the chart adds it to the file: import the result, as `helm template` prints it";
                out.around.push(told(&entry.name, entry.line, Fate::Refused, why));
            }
            name => out.around.push(told(name, entry.line, Fate::Ignored, CHART)),
        }
    }
    out.tree.value = TreeValue::Map(entries);
    let tenants = out.tenants.as_ref().and_then(|tree| tree.get("overrides")).map(Tree::entries).unwrap_or_default();
    let named = |entry: &TreeEntry| {
        (format!("overrides.{}", entry.name), below(&format!("per_tenant_overrides.{}", entry.name)))
    };
    let tenants: Vec<(String, String)> = tenants.iter().map(named).collect();
    // The longer names first.
    out.names.splice(0..0, tenants);
    Ok(out)
}

fn around_tenants(tree: &Tree, line: usize) -> Tree {
    let entry = TreeEntry { name: "overrides".to_owned(), line, tree: tree.clone() };
    Tree { line, value: TreeValue::Map(vec![entry]) }
}

/// `metricsGenerator` of a chart: below `config` in one, among other keys in another.
fn generator(entry: &TreeEntry, input: Input<'_>, below: &impl Fn(&str) -> String, out: &mut Unwrapped) -> TreeEntry {
    const THEIRS: [&str; 5] =
        ["processor", "registry", "storage", "traces_storage", "metrics_ingestion_time_range_slack"];
    let config = entry.tree.get("config").filter(|config| !config.entries().is_empty());
    let mut entries: Vec<TreeEntry> = config.map(|config| config.entries().to_vec()).unwrap_or_default();
    let shown = below(if config.is_some() { "metricsGenerator.config" } else { "metricsGenerator" });
    for inner in entry.tree.entries() {
        let key = below(&format!("metricsGenerator.{}", inner.name));
        match inner.name.as_str() {
            "config" if config.is_some() => {}
            "config" if !inner.tree.is_empty() => {
                let why = "is not a map: write out the result of the chart";
                out.around.push(finding(input, &key, inner.line, Fate::Refused, why));
            }
            "remoteWriteUrl" => {
                out.names.push(("metrics_generator.storage.remote_write[0].url".to_owned(), key));
                entries.push(receiver(inner));
            }
            "enabled" if inner.tree.text() == Some("false") => {
                let why = "then the chart runs no generator: do not run spanmill, unless you want to enable it";
                out.around.push(finding(input, &key, inner.line, Fate::Different, why));
            }
            name if config.is_none() && THEIRS.contains(&name) => entries.push(inner.clone()),
            _ => out.around.push(finding(input, &key, inner.line, Fate::Ignored, CHART)),
        }
    }
    out.names.push(("metrics_generator".to_owned(), shown));
    let tree = Tree { line: entry.line, value: TreeValue::Map(entries) };
    TreeEntry { name: "metrics_generator".to_owned(), line: entry.line, tree }
}

/// `storage: {remote_write: [{url: ...}]}`.
fn receiver(url: &TreeEntry) -> TreeEntry {
    let map = |name: &str, tree: Tree| TreeEntry { name: name.to_owned(), line: url.line, tree };
    let around = |value: TreeValue| Tree { line: url.line, value };
    let one = around(TreeValue::Map(vec![map("url", url.tree.clone())]));
    map("storage", around(TreeValue::Map(vec![map("remote_write", around(TreeValue::List(vec![one])))])))
}

/// The keys beside the path to a place.
fn beside(tree: &Tree, path: &[&str], input: Input<'_>) -> Vec<Finding> {
    let (mut out, mut node, mut above) = (Vec::new(), tree, String::new());
    for name in path {
        for entry in node.entries().iter().filter(|entry| entry.name != *name) {
            let key = format!("{above}{}", entry.name);
            // Another file of the same object.
            let other = entry.tree.text().is_some_and(|text| text.lines().count() > 1);
            let (fate, why) = if other {
                (Fate::Refused, "another file: write it out, and pass settings per tenant with --overrides-file")
            } else {
                (Fate::Ignored, "not part of the configuration")
            };
            out.push(finding(input, &key, entry.line, fate, why));
        }
        let Some(next) = node.get(name) else { break };
        above.push_str(name);
        above.push('.');
        node = next;
    }
    out
}

fn finding(input: Input<'_>, key: &str, line: usize, fate: Fate, why: &str) -> Finding {
    let (file, key, why) = (input.name.to_owned(), key.to_owned(), why.to_owned());
    Finding { file, line, key, ours: String::new(), fate, why }
}

/// The name of a key in the file.
pub(super) fn renamed(names: &[(String, String)], key: &str) -> Option<String> {
    names.iter().find_map(|(inner, shown)| {
        if inner.is_empty() {
            return (!shown.is_empty()).then(|| format!("{shown}.{key}"));
        }
        let rest = key.strip_prefix(inner.as_str())?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{shown}{rest}"))
    })
}
