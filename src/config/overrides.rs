//! The file of overrides: for some tenants, other values of some keys.
//!
//! A tenant starts from the defaults and replaces them key by key, maps entry by entry. All or nothing: one
//! mistake, and no tenant changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{AuthKeys, AuthType, Choice, Draft, DraftField};
use super::keys::{self, ConfigKey};
use super::layers::Layers;
use super::problem::{Location, Problem};
use super::read::Found;
use super::settings::{Auth, Config, Secret};
use super::suggest::nearest;
use super::syntax;
use super::tenants::Tenants;
use super::yaml::{Body, MapEntry, Node, Pos};
use super::{Effective, Problems, ReadFile};

/// Reads the text of an overrides file over the defaults.
///
/// # Errors
/// All problems, for all tenants.
pub fn load_overrides(
    defaults: &Config,
    text: &str,
    file_name: &str,
    read_file: &ReadFile<'_>,
) -> Result<Tenants, Problems> {
    read(defaults, text, file_name, read_file).map(|(tenants, _)| tenants)
}

/// The same, and the values of the file, tenant by tenant.
pub(super) fn read(
    defaults: &Config,
    text: &str,
    file_name: &str,
    read_file: &ReadFile<'_>,
) -> Result<(Tenants, Vec<Effective>), Problems> {
    let mut layers = Layers::new(file_name, read_file);
    let mut overridden = BTreeMap::new();
    let mut said = Vec::new();
    if let Some(tree) = layers.parse(text) {
        for entry in layers.tenants(&tree) {
            let config = layers.overrides_of(defaults, entry);
            said.extend(layers.said(&entry.name));
            overridden.insert(entry.name.clone(), Arc::new(config));
        }
    }
    let found = std::mem::take(&mut layers.problems);
    let found = found.into_iter().map(|problem| problem.with_excerpt(text, &layers.shown)).collect();
    match Problems::from_list(found) {
        Some(problems) => Err(problems),
        None => Ok((Tenants::new(Arc::new(defaults.clone()), overridden), said)),
    }
}

/// Lays `path=value` settings over the defaults and those of every tenant, and then some over those of single tenants.
///
/// # Errors
/// All problems.
pub fn set_over(base: &Tenants, set: &[String], overrides: &[(String, String)]) -> Result<Tenants, Problems> {
    let no_file = |_: &std::path::Path| Err(std::io::Error::other("settings of a case read no files"));
    let mut layers = Layers::new("", &no_file);
    let mut all = |tenant: Option<&str>, config: &Config, flags: &[&String]| {
        layers.begin(tenant, config);
        flags.iter().for_each(|flag| layers.flag(flag));
        Arc::new(layers.end())
    };
    let everybody: Vec<&String> = set.iter().collect();
    let defaults = all(None, base.defaults(), &everybody);
    let mut overridden: BTreeMap<String, Arc<Config>> = BTreeMap::new();
    for (name, config) in base.overridden() {
        overridden.insert(name.to_owned(), all(None, config, &everybody));
    }
    let names: BTreeSet<&String> = overrides.iter().map(|(tenant, _)| tenant).collect();
    for name in names {
        let flags: Vec<&String> = overrides.iter().filter(|(tenant, _)| tenant == name).map(|(_, flag)| flag).collect();
        let config = Arc::clone(overridden.get(name).unwrap_or(&defaults));
        overridden.insert(name.clone(), all(Some(name), &config, &flags));
    }
    // What these overrides do not set was checked before.
    let mut problems = layers.problems;
    problems.retain(Problem::is_given);
    problems.dedup();
    match Problems::from_list(problems) {
        Some(problems) => Err(problems),
        None => Ok(Tenants::new(defaults, overridden)),
    }
}

/// The value at `section.key` of a tree.
pub(super) fn at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    let Some((name, rest)) = path.split_first() else { return Some(node) };
    let Body::Map(entries) = &node.body else { return None };
    at(&entries.iter().find(|entry| entry.name == *name)?.value, rest)
}

// === impl Layers ===

impl Layers<'_> {
    /// The tenants of the file. An empty list must be explicit: a truncated file must not count as an empty one.
    fn tenants<'n>(&mut self, tree: &'n Node) -> Vec<&'n MapEntry> {
        const FORM: &str = "write `tenants:` and under it a section for each tenant, or `tenants: {}` for none";
        let Body::Map(entries) = &tree.body else {
            self.problem(Location::WholeFile, "", format!("holds no overrides; {FORM}"));
            return Vec::new();
        };
        let mut tenants = None;
        for entry in entries {
            self.shown.add(entry.start, entry.end);
            let message = match entry.name.as_str() {
                "tenants" if tenants.is_none() => {
                    tenants = Some(&entry.value);
                    continue;
                }
                "tenants" => "appears twice; keep one".to_owned(),
                name if nearest(name, ["tenants"].into_iter()).is_some() => {
                    "unknown key; did you mean `tenants`?".to_owned()
                }
                _ => "unknown key; overrides belong under `tenants:` and the name of a tenant".to_owned(),
            };
            self.problem(Location::File(entry.start), &entry.name, message);
        }
        match tenants.map(|node| (&node.body, node.start)) {
            Some((Body::Map(entries), _)) => self.named(entries),
            Some((Body::Refused, _)) => Vec::new(),
            Some((_, start)) => {
                self.problem(Location::File(start), "tenants", "must be a map of tenants, or `{}` for none");
                Vec::new()
            }
            None => {
                self.problem(Location::WholeFile, "", format!("holds no overrides; {FORM}"));
                Vec::new()
            }
        }
    }

    /// Those entries whose name can be a tenant's.
    fn named<'n>(&mut self, entries: &'n [MapEntry]) -> Vec<&'n MapEntry> {
        let mut seen = BTreeSet::new();
        let mut good = Vec::new();
        for entry in entries {
            self.shown.add(entry.start, entry.end);
            let wrong = if !seen.insert(&entry.name) {
                Err("appears twice; keep one".to_owned())
            } else if entry.name.is_empty() {
                Err("is empty; write the name of a tenant".to_owned())
            } else if entry.name == "*" {
                Err("is not a tenant; settings of all tenants belong in the main file".to_owned())
            } else {
                syntax::header_value(&entry.name)
            };
            match wrong {
                Ok(()) => good.push(entry),
                Err(message) => self.problem(Location::File(entry.start), &format!("tenants.{}", entry.name), message),
            }
        }
        good
    }

    /// The settings of one tenant.
    fn overrides_of(&mut self, defaults: &Config, entry: &MapEntry) -> Config {
        self.begin(Some(&entry.name), defaults);
        at(&entry.value, &["remote_write"]).into_iter().for_each(|section| self.forget_auth(section));
        self.section("", &entry.value);
        self.end()
    }

    /// The following settings are for this tenant, or defaults.
    fn begin(&mut self, tenant: Option<&str>, defaults: &Config) {
        self.tenant = tenant.map(str::to_owned);
        self.draft = Draft::of(defaults);
        self.places.clear();
        self.unread.clear();
    }

    /// All settings are read.
    fn end(&mut self) -> Config {
        let draft = self.draft.clone();
        let auth = if self.tenant.is_some() { self.check_tenant_of(&draft) } else { self.check() };
        let config = self.finish(auth);
        self.tenant = None;
        config
    }

    /// The rules about keys that a tenant can have of its own.
    fn check_tenant_of(&mut self, draft: &Draft) -> Auth {
        self.check_processors(draft);
        self.check_series_of(draft);
        self.check_endpoints()
    }

    /// Drops what a tenant's own authentication replaces: all keys if it has another type, and the other spelling of a
    /// secret.
    pub(super) fn forget_auth(&mut self, section: &Node) {
        let Some(given) = at(section, &["auth"]) else { return };
        let mut kind = AuthType::None;
        if let Some(Node { body: Body::Scalar(word, _), .. }) = at(given, &["type"])
            && kind.choose(word)
            && kind != self.draft.auth.kind
        {
            self.draft.auth = AuthKeys::default();
        }
        let auth = &mut self.draft.auth;
        if at(given, &["password"]).or_else(|| at(given, &["password_file"])).is_some() {
            (auth.password, auth.password_file) = (Secret::default(), None);
        }
        if at(given, &["token"]).or_else(|| at(given, &["token_file"])).is_some() {
            (auth.token, auth.token_file) = (Secret::default(), None);
        }
        if at(given, &["oauth2", "client_secret"]).or_else(|| at(given, &["oauth2", "client_secret_file"])).is_some() {
            (auth.oauth2.client_secret, auth.oauth2.client_secret_file) = (Secret::default(), None);
        }
    }

    /// The names of the entries of a map.
    pub(super) fn entries_of(&mut self, key: &ConfigKey) -> BTreeSet<String> {
        match (key.slot)(&mut self.draft) {
            DraftField::Labels(labels) => labels.keys().cloned().collect(),
            DraftField::Secrets(secrets) => secrets.keys().cloned().collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Removes the entries of a map that a tenant sets to empty text.
    pub(super) fn remove_empty(
        &mut self,
        key: &ConfigKey,
        inherited: &BTreeSet<String>,
        found: &[Found],
        place: &impl Fn(Pos) -> Location,
    ) {
        let mut removed = Vec::new();
        let mut keep = |name: &str, empty: bool| {
            removed.extend(empty.then(|| name.to_owned()));
            !empty
        };
        match (key.slot)(&mut self.draft) {
            DraftField::Labels(labels) => labels.retain(|name, value| keep(name, value.is_empty())),
            DraftField::Secrets(secrets) => secrets.retain(|name, value| keep(name, value.reveal().is_empty())),
            _ => {}
        }
        for name in removed.iter().filter(|name| !inherited.contains(*name)) {
            let suffix = format!(".{name}");
            if let Some(found) = found.iter().find(|found| found.suffix == suffix) {
                let message = "is empty, and there is no such entry to remove; write a value or remove it";
                self.problem(place(found.start), &format!("{}{suffix}", key.path), message);
            }
        }
    }

    /// The values in the file for the tenant that was read.
    fn said(&mut self, tenant: &str) -> Vec<Effective> {
        let mut said: Vec<Effective> = self.effective();
        // Those of several endpoints are only what is given.
        said.retain(|one| self.places.contains_key(&one.path) || one.path.starts_with("remote_write["));
        for key in keys::all().filter(|key| keys::per_tenant(key.path)) {
            // A removed entry has no value any more.
            let entry = |path: &str| path.strip_prefix(key.path).is_some_and(|rest| rest.starts_with('.'));
            let taken = self.places.keys().filter(|path| entry(path) && !said.iter().any(|one| one.path == **path));
            let taken: Vec<Effective> = taken.map(|path| self.one(path.clone(), "\"\"".to_owned())).collect();
            said.extend(taken);
        }
        for one in &mut said {
            one.path = format!("tenants.{tenant}.{}", one.path);
        }
        said
    }
}

#[cfg(test)]
mod tests;
