//! The Collector's filter processor, whose conditions become filter policies.

use super::Fate;
use super::draft::YamlValue;
use super::ottl;
use super::table::At;
use super::tables::FILTER;
use super::tree::{Tree, TreeEntry};
use super::walk::{Fact, Importer};

const POLICIES: [(Fact, &str); 2] =
    [(Fact::FilteredSpans, "span_metrics.filter_policies"), (Fact::FilteredEdges, "service_graphs.filter_policies")];

/// Reads a filter, if it stands before the connectors `spans` or `edges`.
pub(super) fn read(importer: &mut Importer, file: &Tree, entry: &TreeEntry, [spans, edges]: [Option<&str>; 2]) {
    let pipelines = file.get("service").and_then(|s| s.get("pipelines")).map(Tree::entries).unwrap_or_default();
    let lists = |pipeline: &TreeEntry, list: &str, name: &str| {
        pipeline.tree.get(list).map(Tree::items).unwrap_or_default().iter().any(|item| item.text() == Some(name))
    };
    let (mut before, mut partly) = (false, false);
    for (fact, connector) in [(Fact::FilteredSpans, spans), (Fact::FilteredEdges, edges)] {
        importer.facts.remove(&fact);
        let Some(connector) = connector else { continue };
        let leading: Vec<&TreeEntry> = pipelines.iter().filter(|p| lists(p, "exporters", connector)).collect();
        let filtered = leading.iter().filter(|pipeline| lists(pipeline, "processors", &entry.name)).count();
        before |= filtered > 0;
        partly |= filtered > 0 && filtered < leading.len();
        if filtered == leading.len() && filtered > 0 {
            importer.facts.insert(fact);
        }
    }
    let key = format!("processors.{}", entry.name);
    if !before {
        return;
    }
    if POLICIES.iter().any(|(fact, _)| importer.facts.contains(fact)) {
        importer.children(&FILTER, "", &key, &entry.tree);
    }
    if partly {
        importer.case(&FILTER, "traces.span", "(in some pipelines only)", &key, entry.line);
    }
}

/// Conditions on spans: texts, or texts with their context.
pub(super) fn conditions(importer: &mut Importer, at: &At<'_>) {
    for (i, item) in at.tree.items().iter().enumerate() {
        let key = format!("{}[{i}]", at.key);
        let context = item.get("context").and_then(Tree::text).unwrap_or("span");
        match item.get("conditions") {
            Some(conditions) if context == "span" => {
                for (j, condition) in conditions.items().iter().enumerate() {
                    one(importer, at, &format!("{key}.conditions[{j}]"), condition);
                }
            }
            Some(_) => importer.case(&FILTER, "traces.spanevent.**", "", &key, item.line),
            None => one(importer, at, &key, item),
        }
    }
    if at.tree.items().is_empty() {
        importer.said(at);
    }
}

fn one(importer: &mut Importer, at: &At<'_>, key: &str, condition: &Tree) {
    let Some(text) = condition.text() else {
        return importer.find(key, condition.line, "", Fate::Refused, "is not a condition");
    };
    let policies = match ottl::policies(text) {
        Ok(policies) => policies,
        Err(why) => {
            let why =
                format!("{why}: no filter policy can express it, so these spans are counted; filter them before Kafka");
            return importer.find(key, condition.line, "", Fate::Refused, &why);
        }
    };
    let at = &At { table: at.table, row: at.row, tree: condition, key, line: condition.line };
    let regex = policies.iter().any(|policy| policy.regex);
    let row = FILTER.case("traces.span", "(a regular expression)").filter(|_| regex).unwrap_or(at.row);
    let paths = POLICIES.iter().filter(|(fact, _)| importer.facts.contains(fact)).map(|(_, path)| *path);
    let paths: Vec<&str> = paths.collect();
    importer.find(key, condition.line, &paths.join(", "), row.verdict.fate(), row.verdict.why());
    for path in paths {
        let mut all = match importer.draft.get(path) {
            Some(YamlValue::Items(items)) => items.clone(),
            _ => Vec::new(),
        };
        all.extend(policies.iter().map(|policy| policy.text.clone()));
        importer.set(path, YamlValue::Items(all), at);
    }
}
