//! The layers, in order of precedence: defaults, file, environment, flags. Remembers where each value came from.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, DraftField};
use super::endpoints;
use super::keys::{self, ConfigKey, env_name};
use super::problem::{Location, Problem, Shown};
use super::read::{node_of, read};
use super::suggest::nearest;
use super::yaml::{self, Body, Complaint, MapEntry, Node, Style};
use super::{ReadFile, Sources};

/// Why a tenant cannot have its own value.
const GLOBAL: &str = "applies to all tenants; write it in the main file";

/// The merged layers.
pub(super) struct Layers<'a> {
    pub(super) draft: Draft,
    /// Where each given value comes from; keys that are absent have their defaults.
    pub(super) places: BTreeMap<String, Location>,
    /// Keys whose value could not be read.
    pub(super) unread: BTreeSet<&'static str>,
    pub(super) problems: Vec<Problem>,
    /// False if the file could not be parsed.
    pub(super) complete: bool,
    /// What an excerpt of the file may show.
    pub(super) shown: Shown,
    pub(super) file: &'a str,
    /// The tenant whose overrides are being read, if any.
    pub(super) tenant: Option<String>,
    /// Which entry of `remote_write` is being read or checked, if it is a list of several.
    pub(super) endpoint_index: Option<usize>,
    pub(super) read_file: &'a ReadFile<'a>,
    /// The text of the file that `overrides.file` names.
    pub(super) overrides: Option<String>,
}

// === impl Layers ===

impl<'a> Layers<'a> {
    /// The defaults.
    pub(super) fn new(file: &'a str, read_file: &'a ReadFile<'a>) -> Self {
        Self {
            draft: Draft::default(),
            places: BTreeMap::new(),
            unread: BTreeSet::new(),
            problems: Vec::new(),
            complete: true,
            shown: Shown::default(),
            file,
            tenant: None,
            endpoint_index: None,
            read_file,
            overrides: None,
        }
    }

    /// Reads all layers.
    pub(super) fn read(sources: &Sources<'a>) -> Self {
        let mut layers = Self::new(sources.file.map_or("", |(name, _)| name), sources.read_file);
        if let Some((_, text)) = sources.file {
            layers.file(text);
        }
        for (name, value) in sources.env {
            layers.env(name, value);
        }
        for flag in sources.set {
            layers.flag(flag);
        }
        layers
    }

    pub(super) fn problem(&mut self, place: Location, path: &str, message: impl Into<String>) {
        let indexed = self.endpoint_index.map(|index| endpoints::indexed(path, index));
        let path = indexed.as_deref().unwrap_or(path);
        match &self.tenant {
            Some(tenant) if path.is_empty() => {
                self.problems.push(Problem::new(place, self.file, &format!("tenants.{tenant}"), message));
            }
            Some(tenant) => {
                self.problems.push(Problem::new(place, self.file, &format!("tenants.{tenant}.{path}"), message));
            }
            None => self.problems.push(Problem::new(place, self.file, path, message)),
        }
    }

    fn file(&mut self, text: &str) {
        match self.parse(text) {
            Some(tree) => self.section("", &tree),
            None => self.complete = false,
        }
    }

    /// The text as a tree, if it is one.
    pub(super) fn parse(&mut self, text: &str) -> Option<Node> {
        let (tree, complaints) = yaml::parse(text);
        for Complaint { at, message } in complaints {
            self.problem(Location::File(at), "", message);
        }
        tree
    }

    /// The keys that are legal in the text that is being read.
    fn among(&self) -> fn(&str) -> bool {
        if self.tenant.is_some() { keys::per_tenant } else { |_| true }
    }

    /// A section of the file, or the file itself if `path` is empty.
    pub(super) fn section(&mut self, path: &str, node: &Node) {
        match &node.body {
            Body::Map(entries) => {
                for (i, entry) in entries.iter().enumerate() {
                    self.shown.add(entry.start, entry.end);
                    let first = entries.iter().take(i).find(|other| other.name == entry.name);
                    self.entry(path, entry, first);
                }
            }
            // An empty section has its defaults.
            Body::Null | Body::Refused => {}
            Body::Scalar(..) | Body::List(_) => {
                let children = listed(path, self.among());
                self.problem(
                    Location::File(node.start),
                    path,
                    format!("must be a section with keys under it: {children}"),
                );
            }
        }
    }

    fn entry(&mut self, section: &str, entry: &MapEntry, first: Option<&MapEntry>) {
        let path = if section.is_empty() { entry.name.clone() } else { format!("{section}.{}", entry.name) };
        let key = keys::find(&path).filter(|_| !entry.name.contains('.'));
        let inner = keys::section(&path).filter(|_| !entry.name.contains('.'));
        if let Some(first) = first {
            let message = format!("appears twice, first on line {}; keep one", first.start.line);
            self.problem(Location::File(entry.start), &path, message);
        } else if (key.is_some() || inner.is_some()) && self.is_global(&path) {
            self.problem(Location::File(entry.start), &path, GLOBAL);
        } else if let Some(key) = key {
            self.show(key, &entry.value);
            self.put(key, &entry.value, Location::File);
        } else if let (Some(endpoints::SECTION), Body::List(items)) = (inner, &entry.value.body) {
            self.endpoints(&entry.value, items);
        } else if inner == Some(endpoints::SECTION) && self.has_several_endpoints() {
            let message = "is a list in the main file; write a list here, too, with the `name` of each endpoint";
            self.problem(Location::File(entry.start), &path, message);
        } else if let Some(inner) = inner {
            self.section(inner, &entry.value);
        } else {
            let message = format!("unknown key; {}", remedy(section, &entry.name, self.among()));
            self.problem(Location::File(entry.start), &path, message);
        }
    }

    /// Whether no tenant can have a value of its own there.
    fn is_global(&self, path: &str) -> bool {
        let inside = |key: &str| key == path || key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.tenant.is_some() && !keys::all().any(|key| inside(key.path) && keys::per_tenant(key.path))
    }

    /// Records which part of a value may be shown.
    fn show(&mut self, key: &ConfigKey, node: &Node) {
        let slot = (key.slot)(&mut self.draft);
        match (slot, &node.body) {
            (DraftField::Secret(_), _) => {}
            // A URL may carry credentials.
            (DraftField::Text(_), Body::Scalar(text, _)) if text.contains(['@', '?']) => {}
            (DraftField::Secrets(_), Body::Map(entries)) => {
                for entry in entries {
                    self.shown.add(entry.start, entry.end);
                }
            }
            (DraftField::Labels(_), Body::Map(entries)) => {
                for entry in entries {
                    self.shown.add(entry.start, entry.end);
                    self.shown.add(entry.value.start, entry.value.end);
                }
            }
            (DraftField::List(_) | DraftField::Buckets(_), Body::List(items)) => {
                for item in items.iter().filter(|item| matches!(item.body, Body::Scalar(..))) {
                    self.shown.add(item.start, item.end);
                }
            }
            (DraftField::Items(_), _) => self.shown.add_all(node),
            (DraftField::Secrets(_) | DraftField::Labels(_), _) => {}
            (_, Body::Scalar(..)) => self.shown.add(node.start, node.end),
            _ => {}
        }
    }

    pub(super) fn put(&mut self, key: &'static ConfigKey, node: &Node, place: impl Fn(yaml::Pos) -> Location) {
        let inherited = self.entries_of(key);
        let reading = read((key.slot)(&mut self.draft), node, self.read_file);
        if reading.found.iter().any(|found| found.suffix.is_empty()) {
            // Items of an earlier layer's list are gone with it.
            self.places.retain(|path, _| path.strip_prefix(key.path).is_none_or(|rest| !rest.starts_with('[')));
        } else {
            self.unread.insert(key.path);
        }
        if self.tenant.is_some() {
            self.remove_empty(key, &inherited, &reading.found, &place);
        }
        for found in reading.found {
            self.places.insert(format!("{}{}", key.path, found.suffix), place(found.start));
        }
        for wrong in reading.wrong {
            if let Some(message) = wrong.message {
                self.problem(place(wrong.at), &format!("{}{}", key.path, wrong.suffix), message);
            }
        }
    }

    fn env(&mut self, name: &str, value: &str) {
        let place = |_| Location::Env(name.to_owned());
        let Some(key) = keys::all().find(|key| env_name(key.path) == name) else {
            if !of_kubernetes(name) {
                let names: Vec<String> = keys::all().map(|key| env_name(key.path)).collect();
                let message = nearest(name, names.iter().map(String::as_str)).map_or_else(
                    || "no key has this name; remove it, or see the reference file for the keys".to_owned(),
                    |near| format!("no key has this name; did you mean `{near}`?"),
                );
                self.problem(place(()), "", message);
            }
            return;
        };
        if endpoints::is_of_endpoint(key.path) && self.has_several_endpoints() {
            return self.ambiguous(place(()), key.path);
        }
        self.text(key, value, || place(()));
    }

    pub(super) fn flag(&mut self, flag: &str) {
        let Some((path, value)) = flag.split_once('=') else {
            // The message does not repeat it: it may be a secret.
            self.problem(Location::Flag, "", "has no `=`; write `path=value`, as in `kafka.group=spanmill`");
            return;
        };
        let known = keys::find(path).is_some() || keys::section(path).is_some();
        if known && self.is_global(path) {
            self.problem(Location::Flag, path, GLOBAL);
            return;
        }
        if endpoints::is_of_endpoint(path) && self.has_several_endpoints() {
            return self.ambiguous(Location::Flag, path);
        }
        if let Some(key) = keys::find(path) {
            self.text(key, value, || Location::Flag);
            return;
        }
        let map = keys::all().find_map(|key| {
            let name = path.strip_prefix(key.path)?.strip_prefix('.')?;
            matches!((key.slot)(&mut Draft::default()), DraftField::Labels(_) | DraftField::Secrets(_))
                .then_some((key, name))
        });
        if let Some((key, _)) = map
            && self.is_global(key.path)
        {
            self.problem(Location::Flag, path, GLOBAL);
        } else if let Some((key, name)) = map {
            let at = yaml::Pos { line: 1, column: 1 };
            let value = Node { start: at, end: at, body: Body::Scalar(value.to_owned(), Style::Quoted) };
            let entry = MapEntry { name: name.to_owned(), start: at, end: at, value };
            self.put(key, &Node { start: at, end: at, body: Body::Map(vec![entry]) }, |_| Location::Flag);
        } else if let Some(section) = keys::section(path) {
            let message = format!("is a section; set one of its keys: {}", listed(section, self.among()));
            self.problem(Location::Flag, path, message);
        } else {
            let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
            self.problem(Location::Flag, path, format!("unknown key; {}", remedy(section, name, self.among())));
        }
    }

    /// A value that is only text.
    fn text(&mut self, key: &'static ConfigKey, value: &str, place: impl Fn() -> Location) {
        match node_of(&(key.slot)(&mut self.draft), value) {
            Ok(node) => self.put(key, &node, |_| place()),
            Err(message) => {
                self.unread.insert(key.path);
                self.problem(place(), key.path, message);
            }
        }
    }
}

/// The remedy for a key that does not exist.
fn remedy(section: &str, name: &str, among: fn(&str) -> bool) -> String {
    if (section, name) == ("remote_write.otlp", "temporality") {
        return super::outputs::TEMPORALITY.to_owned();
    }
    let siblings = keys::children(section, among);
    if let Some(near) = nearest(name, siblings.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    // Right name, wrong place: `brokers:` at the top, or `kafka.brokers:` written flat.
    let last = name.rsplit('.').next().unwrap_or(name);
    let elsewhere = keys::all().map(|key| key.path).filter(|path| among(path));
    let homes: Vec<&str> = elsewhere.filter(|path| path.rsplit('.').next() == Some(last)).collect();
    if let [home] = homes.as_slice()
        && let Some((parent, _)) = home.rsplit_once('.')
    {
        return format!("write `{last}` under `{}:`", parent.replace('.', ": "));
    }
    if siblings.is_empty() {
        return "see the reference file for the keys".to_owned();
    }
    format!("the keys here are {}", listed(section, among))
}

fn listed(section: &str, among: fn(&str) -> bool) -> String {
    keys::children(section, among).join(", ")
}

/// Kubernetes puts the addresses of a service named `spanmill...` into every pod: `SPANMILL_SERVICE_HOST`,
/// `SPANMILL_PORT_9464_TCP_ADDR` and so on. They are not settings.
fn of_kubernetes(name: &str) -> bool {
    let numbered = name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    numbered || name.ends_with("_PORT") || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}
