//! The last step: the collected keys become files that load, without keys that have their defaults.

use std::collections::BTreeMap;
use std::path::Path;

use super::draft::{Draft, Rendered, Set, YamlValue, entry_of};
use super::tables::GENERATOR;
use super::tempo::INTERVAL;
use super::tenants::Tenant;
use super::values::duration;
use super::walk::Importer;
use super::{Fate, Finding, Imported, Product, Request};
use crate::config::{Loaded, Problem, Problems, Sources, load, show_text};

/// The name of a tenant's settings in messages.
const OVERRIDES_FILE: &str = "/overrides";
/// These decide whether there is anything to compute, and are compared as text.
const SWITCHES: [&str; 3] = ["span_metrics.enabled", "service_graphs.enabled", "host_info.enabled"];

/// Finishes an import.
pub(super) fn settle(
    mut importer: Importer,
    mut tenants: Vec<Tenant>,
    kind: Product,
    request: &Request<'_>,
) -> Imported {
    let defaults = values("").unwrap_or_default();
    let order: Vec<String> = defaults.keys().map(|(_, path)| path.clone()).collect();
    steps(&mut importer, &mut tenants);
    importer.draft.spread();
    tenants.iter_mut().for_each(|tenant| tenant.draft.spread());
    importer.draft.sort(&order);
    let mut main = std::mem::take(&mut importer.draft);
    repair(&mut main, &mut importer.list, &order, !tenants.is_empty());
    let everybody = effective(&main);
    let mut overrides = Vec::new();
    for mut tenant in tenants {
        tenant.draft.sort(&order);
        repair(&mut tenant.draft, &mut importer.list, &order, true);
        overrides.push((tenant.name, differences(&tenant.draft, &everybody, &main, &order)));
    }
    let default = |path: &str| defaults.iter().find(|((_, key), _)| key == path).map(|(_, value)| value.clone());
    main.sets.retain(|set| {
        matches!(set.value, YamlValue::Note(_))
            || everybody.get(&set.path).is_none_or(|value| Some(value) != default(&set.path).as_ref())
    });
    name_overrides(&mut main, &overrides, request);
    main.sort(&order);
    let mut list = importer.list;
    list.sort_by_key(|finding| (finding.line == 0, finding.file != request.file.name, finding.line));
    let overrides = (!overrides.is_empty()).then(|| overrides_text(&overrides, request));
    Imported { kind, config: head(kind, request) + &main.render(&[], 0).text, overrides, list }
}

/// The default interval is the step, that of a tenant a multiple of it.
fn steps(importer: &mut Importer, tenants: &mut [Tenant]) {
    const USUAL: i128 = 15_000_000_000;
    let ns = |set: &Set| duration(&set.value.flow()).unwrap_or(USUAL);
    let take = |draft: &mut Draft| {
        let found = draft.sets.iter().find(|set| set.path == INTERVAL).cloned();
        draft.remove(INTERVAL);
        found
    };
    let step = take(&mut importer.draft).map_or(USUAL, |set| {
        let step = ns(&set);
        importer.draft.put("time.step", set.value, &set.from, set.finding);
        step
    });
    for tenant in tenants {
        let set = take(&mut tenant.draft);
        let every = set.as_ref().map_or(USUAL, ns);
        if every == step {
            continue;
        }
        let from = set.as_ref().map_or("Tempo's default interval", |set| &set.from);
        let finding = set.as_ref().and_then(|set| set.finding);
        if every % step == 0 {
            let value = YamlValue::Flow(super::values::show_duration(every));
            tenant.draft.put("series.interval", value, from, finding);
        } else if let Some(row) = GENERATOR.rows.iter().find(|row| row.when == "(no multiple)") {
            let key = format!("overrides.{}: {}", tenant.name, row.path);
            let at = finding.and_then(|at| importer.list.get(at));
            let (file, line) = at.map_or((String::new(), 0), |finding| (finding.file.clone(), finding.line));
            let main = std::mem::replace(&mut importer.file, file);
            importer.find(&key, line, "", row.verdict.fate(), row.verdict.why());
            importer.file = main;
        }
    }
}

/// Removes what does not load, and records that in the list.
fn repair(draft: &mut Draft, list: &mut Vec<Finding>, order: &[String], switches: bool) {
    // Every round removes something.
    loop {
        let (text, lines) = check_text(draft, switches);
        let Err(problems) = checked(&text) else { return };
        let mut shorter: Vec<String> = Vec::new();
        let mut any = false;
        for problem in problems.list() {
            any |= take_out(draft, list, (problem, &lines), &mut shorter);
        }
        if !any {
            return;
        }
        draft.sort(order);
    }
}

/// The draft as a file that is checked.
fn check_text(draft: &Draft, switches: bool) -> (String, Vec<(usize, String)>) {
    let mut draft = draft.clone();
    if switches {
        let at = draft.sets.iter().position(|set| set.path.starts_with("overrides.")).unwrap_or(draft.sets.len());
        let (path, value) = ("overrides.file".to_owned(), YamlValue::Flow(OVERRIDES_FILE.to_owned()));
        draft.sets.insert(at, Set { path, value, from: String::new(), finding: None, lost: Vec::new() });
    }
    let Rendered { text, lines } = draft.render(&[], 0);
    (text, lines)
}

/// Removes the key that a problem is about, or only the entry of a list. `shorter` are the lists that have lost one in
/// this round: the positions in their problems are no longer valid.
fn take_out(
    draft: &mut Draft,
    list: &mut Vec<Finding>,
    (problem, lines): (&Problem, &[(usize, String)]),
    shorter: &mut Vec<String>,
) -> bool {
    let line = problem.position().map_or(0, |(line, _)| line);
    let named = lines.iter().find(|(_, path)| problem.path().starts_with(path.as_str()));
    let on_line = lines.iter().rev().find(|(first, _)| *first <= line);
    let Some((_, path)) = named.or(on_line) else { return false };
    let Some(set) = draft.sets.iter_mut().find(|set| set.path == *path) else { return false };
    if matches!(set.value, YamlValue::Note(_)) || shorter.contains(path) {
        return false;
    }
    if take_out_entry(set, list, problem) {
        shorter.push(path.clone());
        return true;
    }
    let why = format!("not accepted by spanmill: {}", problem.message());
    match set.finding.and_then(|at| list.get_mut(at)) {
        Some(finding) => {
            finding.fate = Fate::Refused;
            finding.why = why;
        }
        None => list.push(Finding {
            file: String::new(),
            line: 0,
            key: set.from.clone(),
            ours: set.path.clone(),
            fate: Fate::Refused,
            why,
        }),
    }
    // The wrong value may be a secret.
    let note = if entry_of(&set.path).is_some() { String::from("...") } else { set.value.flow() };
    set.value = YamlValue::Note(note);
    true
}

/// One wrong entry does not affect the others.
fn take_out_entry(set: &mut Set, list: &mut Vec<Finding>, problem: &Problem) -> bool {
    let rest = problem.path().strip_prefix(set.path.as_str()).and_then(|rest| rest.strip_prefix('['));
    let index: Option<usize> = rest.and_then(|rest| rest.split(']').next()).and_then(|index| index.parse().ok());
    let found = set.finding.and_then(|at| list.get(at));
    let (Some(index), Some(found)) = (index, found) else { return false };
    let Some(entries) = set.value.entries().filter(|entries| entries.len() > 1 && index < entries.len()) else {
        return false;
    };
    let entry = entries.remove(index);
    let again = entries.contains(&entry);
    let (fate, why) = if again {
        (Fate::Ignored, "appears twice".to_owned())
    } else {
        (Fate::Refused, format!("not accepted by spanmill: {}", problem.message()))
    };
    let key = format!("{}: {entry}", found.key);
    list.push(Finding { file: found.file.clone(), line: found.line, key, ours: set.path.clone(), fate, why });
    if !again {
        set.lost.push(entry);
    }
    true
}

fn checked(text: &str) -> Result<Loaded, Problems> {
    // Secrets and certificates are not read here; tenants come later.
    let read_file =
        |path: &Path| Ok(if path == Path::new(OVERRIDES_FILE) { "tenants: {}".to_owned() } else { "later".to_owned() });
    load(&Sources { file: Some(("spanmill.yaml", text)), env: &[], set: &[], read_file: &read_file })
}

/// Every key with its value, in the order of the reference file.
fn values(text: &str) -> Option<BTreeMap<(usize, String), String>> {
    let loaded = checked(text).ok()?;
    Some(loaded.effective.into_iter().enumerate().map(|(i, one)| ((i, one.path), one.value)).collect())
}

/// The effective values of a draft, key by key.
fn effective(draft: &Draft) -> BTreeMap<String, String> {
    let found = values(&check_text(draft, true).0).unwrap_or_default();
    let mut found: BTreeMap<String, String> = found.into_iter().map(|((_, path), value)| (path, value)).collect();
    // Secrets all look alike in a listing; here it counts which file they are in.
    for set in &draft.sets {
        if entry_of(&set.path).is_some() && !matches!(set.value, YamlValue::Note(_)) {
            found.insert(set.path.clone(), set.value.flow());
        }
    }
    found.remove("overrides.file");
    found
}

/// The settings of a tenant that differ from the defaults.
fn differences(tenant: &Draft, everybody: &BTreeMap<String, String>, main: &Draft, order: &[String]) -> Draft {
    let mut out = Draft::default();
    let own = effective(tenant);
    let off = SWITCHES.iter().all(|path| own.get(*path).is_some_and(|value| value == "false"));
    for (path, value) in &own {
        let inherited = everybody.get(path);
        let given = tenant.sets.iter().find(|set| set.path == *path);
        if inherited == Some(value) || (inherited.is_none() && value == "{}") || !differs(path) {
            continue;
        }
        match given {
            Some(set) => out.sets.push(set.clone()),
            // Where no metrics are made, nothing needs to be set.
            None if entry_of(path).is_none() && value != "{}" && !off => {
                out.put(
                    path,
                    YamlValue::Flow(value.clone()),
                    "not in this tenant's entry, which replaces the defaults in Tempo",
                    None,
                );
            }
            None => {}
        }
    }
    // An inherited entry of a map is removed by empty text.
    for set in main.sets.iter().filter(|set| entry_of(&set.path).is_some() && !matches!(set.value, YamlValue::Note(_)))
    {
        if differs(&set.path) && !own.contains_key(&set.path) {
            out.put(&set.path, YamlValue::Flow("\"\"".to_owned()), "not in this tenant's entry", None);
        }
    }
    name_receivers(&mut out, tenant);
    let inherited = |note: &&Set| main.sets.iter().any(|set| set.path == note.path && set.from == note.from);
    let notes = tenant.sets.iter().filter(|set| matches!(set.value, YamlValue::Note(_)));
    out.sets.extend(notes.filter(|note| !inherited(note)).cloned());
    out.sort(order);
    out
}

/// A tenant's list of receivers replaces that of all tenants: it names each, also those that are as for all.
fn name_receivers(out: &mut Draft, tenant: &Draft) {
    if out.receivers() == 0 {
        return;
    }
    for index in 0..tenant.receivers() {
        let path = format!("remote_write[{index}].name");
        if let Some(set) = tenant.sets.iter().find(|set| set.path == path) {
            out.put(&path, set.value.clone(), &set.from, set.finding);
        }
    }
}

/// Whether Tempo has the source of this key per tenant.
fn differs(path: &str) -> bool {
    let global = [
        "kafka.",
        "tenant.",
        "overrides.",
        "time.",
        "worker.",
        "admin.",
        "log.",
        "series.stale_after",
        "series.forget_after",
        "series.zero_offset",
    ];
    !global.iter().any(|start| path.starts_with(start)) || SWITCHES.contains(&path)
}

fn name_overrides(main: &mut Draft, overrides: &[(String, Draft)], request: &Request<'_>) {
    if overrides.is_empty() {
        return;
    }
    let (value, from) = match request.overrides_path {
        Some(path) => (YamlValue::Flow(show_text(path)), "settings per tenant"),
        None => (YamlValue::Note("overrides.yaml".to_owned()), "settings per tenant; --overrides-output writes them"),
    };
    main.put("overrides.file", value, from, None);
}

fn head(kind: Product, request: &Request<'_>) -> String {
    let whose = match kind {
        Product::Tempo => "Tempo's metrics-generator",
        Product::Collector => "the OpenTelemetry Collector",
    };
    let name: String = request.file.name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(
        "# Imported from {whose}, {name}. Contains only values that differ from spanmill's defaults; see \
             config/MIGRATION.md.\n"
    )
}

fn overrides_text(overrides: &[(String, Draft)], request: &Request<'_>) -> String {
    let mut out = String::from("# Settings per tenant that replace those above.\n");
    if let Some(input) = request.overrides {
        let name: String = input.name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(&format!(
            "# Imported from {name}. There, a tenant's entry replaced the defaults; here it is added to them.\n"
        ));
    }
    out.push_str("tenants:\n");
    for (name, draft) in overrides {
        let rendered = draft.render(&["tenants", name], 0).text;
        let body = rendered.split_once('\n').map_or("", |(_, body)| body);
        if body.is_empty() {
            out.push_str(&format!("  {}: {{}}  # no settings of its own\n", show_text(name)));
        } else {
            out.push_str(body);
        }
    }
    out
}
