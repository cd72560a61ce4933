//! `remote_write` as a list: several endpoints, each with the keys of the section.
//!
//! The first one stands where the only one would; each entry is read as the section is, one after the other, and named in
//! messages by its place in the list. A tenant's list replaces that of all tenants. Its entries begin with the settings of
//! the endpoint of the same name, if there is one, and with defaults otherwise.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use super::draft::{AuthKeys, Draft};
use super::keys::{ConfigKey, per_tenant};
use super::layers::Layers;
use super::overrides::at;
use super::problem::{Location, quoted};
use super::settings::{Auth, Config, OnStatus, RemoteWrite};
use super::yaml::{Body, Node};
use super::{Effective, keys, statuses};

/// The section, and the beginning of its keys.
pub(super) const SECTION: &str = "remote_write";
const KEYS: &str = "remote_write.";
/// So many bytes may a name have: it is in every step-close record, and a label of metrics.
const LONGEST_NAME: usize = 64;
/// More endpoints are a mistake.
pub(super) const MOST: usize = 16;

/// What an entry of the list sets.
#[derive(Debug, Clone, Default)]
pub(super) struct EndpointDraft {
    remote: RemoteWrite,
    auth: AuthKeys,
    on_status: BTreeMap<String, String>,
    places: BTreeMap<String, Location>,
    unread: BTreeSet<&'static str>,
    /// Its authentication, once it has been checked.
    checked: Option<Auth>,
}

/// Whether a key belongs to an endpoint.
pub(super) fn is_of_endpoint(path: &str) -> bool {
    path.starts_with(KEYS)
}

/// A path inside of the entry `index` of the list.
pub(super) fn indexed(path: &str, index: usize) -> String {
    match path.strip_prefix(SECTION) {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("{SECTION}[{index}]{rest}"),
        _ => path.to_owned(),
    }
}

/// The path of a key in an entry of the list, without the place of the entry.
pub(super) fn without_index(path: &str) -> Option<String> {
    let (index, rest) = path.strip_prefix(SECTION)?.strip_prefix('[')?.split_once(']')?;
    index.parse::<usize>().ok()?;
    Some(format!("{SECTION}{rest}"))
}

// === impl RemoteWrite ===

impl RemoteWrite {
    /// What identifies the endpoint among several: its name, or a hash of its address without the query, which may be
    /// secret.
    #[must_use]
    pub fn id(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let address = self.address();
        let address = address.split('?').next().unwrap_or_default();
        format!("{:016x}", xxh3_64(address.as_bytes()))
    }
}

// === impl Config ===

impl Config {
    /// All endpoints of remote write, in the order of the file.
    pub fn endpoints(&self) -> impl Iterator<Item = &RemoteWrite> {
        std::iter::once(&self.remote_write).chain(&self.more_endpoints)
    }
}

// === impl EndpointDraft ===

impl EndpointDraft {
    pub(super) fn of(remote: &RemoteWrite) -> Self {
        Self {
            auth: AuthKeys::of(&remote.auth),
            on_status: statuses::shown(&remote.on_status),
            remote: remote.clone(),
            ..Self::default()
        }
    }

    fn settings(&self) -> RemoteWrite {
        let on_status: BTreeMap<u16, OnStatus> = statuses::typed(&self.on_status);
        RemoteWrite { auth: self.checked.clone().unwrap_or(Auth::None), on_status, ..self.remote.clone() }
    }
}

// === impl Layers ===

impl Layers<'_> {
    /// The list of endpoints.
    pub(super) fn endpoints(&mut self, node: &Node, items: &[Node]) {
        if items.is_empty() {
            let message = "is an empty list; write an endpoint, or remove the key";
            return self.problem(Location::File(node.start), SECTION, message);
        }
        if items.len() > MOST {
            let message = format!("has {} endpoints; write up to {MOST}", items.len());
            return self.problem(Location::File(node.start), SECTION, message);
        }
        let inherited: Vec<EndpointDraft> = if self.tenant.is_some() { self.all_endpoints() } else { Vec::new() };
        let several = items.len() > 1;
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.endpoint_index = several.then_some(index);
            self.begin_endpoint(item, &inherited);
            match &item.body {
                Body::Map(_) => self.section(SECTION, item),
                Body::Refused => {}
                _ => {
                    let message = "must be an endpoint such as `{name: mimir, url: ...}`";
                    self.problem(Location::File(item.start), SECTION, message);
                }
            }
            read.push(self.take_endpoint());
        }
        self.endpoint_index = None;
        let mut read = read.into_iter();
        read.next().into_iter().for_each(|first| self.put_endpoint(first));
        self.draft.more = read.collect();
    }

    /// Whether `remote_write` has several entries, so that a key alone does not show which of them is meant.
    pub(super) fn has_several_endpoints(&self) -> bool {
        !self.draft.more.is_empty()
    }

    /// Records that a key cannot be set from outside of the list.
    pub(super) fn ambiguous(&mut self, place: Location, path: &str) {
        let message =
            "`remote_write` is a list of several endpoints; set the key in the file, in the entry that it is for";
        self.problem(place, path, message);
    }

    fn all_endpoints(&mut self) -> Vec<EndpointDraft> {
        let more = self.draft.more.clone();
        let first = self.take_endpoint();
        self.put_endpoint(first.clone());
        std::iter::once(first).chain(more).collect()
    }

    /// The settings that an entry begins with.
    fn begin_endpoint(&mut self, item: &Node, inherited: &[EndpointDraft]) {
        let name = match at(item, &["name"]).map(|node| &node.body) {
            Some(Body::Scalar(name, _)) => name.as_str(),
            _ => "",
        };
        let mut base = inherited.iter().find(|one| !name.is_empty() && one.remote.id() == name).cloned();
        if base.is_none()
            && let Some(first) = inherited.first()
        {
            // Keys that a tenant cannot have of its own are those of all tenants.
            let RemoteWrite { max_samples, max_bytes, min_backoff, max_backoff, min_in_flight, max_in_flight, .. } =
                first.remote;
            let usual = RemoteWrite::default();
            let remote =
                RemoteWrite { max_samples, max_bytes, min_backoff, max_backoff, min_in_flight, max_in_flight, ..usual };
            base = Some(EndpointDraft { remote, ..EndpointDraft::default() });
        }
        self.put_endpoint(base.unwrap_or_default());
        if self.tenant.is_some() {
            self.forget_auth(item);
        }
    }

    /// Takes what belongs to the present endpoint out of the draft.
    fn take_endpoint(&mut self) -> EndpointDraft {
        let is_of = |path: &String| is_of_endpoint(path);
        let mut places = BTreeMap::new();
        self.places.retain(|path, place| {
            let of = is_of(path);
            if of {
                places.insert(path.clone(), place.clone());
            }
            !of
        });
        let (unread, other) = std::mem::take(&mut self.unread).into_iter().partition(|path| is_of_endpoint(path));
        self.unread = other;
        EndpointDraft {
            remote: std::mem::take(&mut self.draft.config.remote_write),
            auth: std::mem::take(&mut self.draft.auth),
            on_status: std::mem::take(&mut self.draft.on_status),
            places,
            unread,
            checked: None,
        }
    }

    fn put_endpoint(&mut self, endpoint: EndpointDraft) {
        drop(self.take_endpoint());
        self.draft.config.remote_write = endpoint.remote;
        self.draft.auth = endpoint.auth;
        self.draft.on_status = endpoint.on_status;
        self.places.extend(endpoint.places);
        self.unread.extend(endpoint.unread);
    }

    /// Applies the rules of an endpoint to each; returns the authentication of the first.
    pub(super) fn check_endpoints(&mut self) -> Auth {
        let more = std::mem::take(&mut self.draft.more);
        if more.is_empty() {
            return self.check_endpoint();
        }
        let all = std::iter::once(self.take_endpoint()).chain(more);
        let mut checked: Vec<EndpointDraft> = Vec::new();
        for (index, endpoint) in all.enumerate() {
            self.endpoint_index = Some(index);
            self.put_endpoint(endpoint);
            let auth = self.check_endpoint();
            let id = self.draft.config.remote_write.id();
            if checked.iter().any(|before| before.remote.id() == id) {
                let named = !self.draft.config.remote_write.name.is_empty();
                let message = match named {
                    true => format!("{} is the name of an earlier endpoint; names must differ", quoted(&id)),
                    false => "has the address of an earlier endpoint; give each of them a `name`".to_owned(),
                };
                self.broken(&[if named { "remote_write.name" } else { "remote_write.url" }], message);
            }
            checked.push(EndpointDraft { checked: Some(auth), ..self.take_endpoint() });
        }
        self.endpoint_index = None;
        let mut checked = checked.into_iter();
        let first = checked.next().unwrap_or_default();
        let auth = first.checked.clone().unwrap_or(Auth::None);
        self.put_endpoint(first);
        self.draft.more = checked.collect();
        auth
    }

    fn check_endpoint(&mut self) -> Auth {
        let draft = self.draft.clone();
        let name = &draft.config.remote_write.name;
        if name.len() > LONGEST_NAME {
            self.broken(&["remote_write.name"], format!("is longer than {LONGEST_NAME} bytes; write a shorter one"));
        }
        self.check_remote_write(&draft);
        self.check_headers(&draft);
        self.check_auth(&draft)
    }

    /// The keys of all endpoints, with the place of each in the list.
    pub(super) fn effective_endpoints(&self) -> Vec<Effective> {
        let first = EndpointDraft {
            remote: self.draft.config.remote_write.clone(),
            auth: self.draft.auth.clone(),
            on_status: self.draft.on_status.clone(),
            places: self.places.clone(),
            ..EndpointDraft::default()
        };
        let mut out = Vec::new();
        for (index, endpoint) in std::iter::once(&first).chain(&self.draft.more).enumerate() {
            let mut draft = Draft { more: Vec::new(), ..self.draft.clone() };
            draft.config.remote_write = endpoint.remote.clone();
            draft.auth = endpoint.auth.clone();
            draft.on_status = endpoint.on_status.clone();
            let of_endpoint = |key: &&ConfigKey| is_of_endpoint(key.path);
            for one in self.effective_of(keys::all().filter(of_endpoint), &mut draft, &endpoint.places) {
                let given = endpoint.places.contains_key(&one.path);
                let shown = self.tenant.is_none() || given && per_tenant(&one.path);
                if shown {
                    out.push(Effective { path: indexed(&one.path, index), ..one });
                }
            }
        }
        out
    }
}

/// The settings of the further entries, if nothing is wrong with them.
pub(super) fn finished(more: &[EndpointDraft]) -> Vec<RemoteWrite> {
    more.iter().map(EndpointDraft::settings).collect()
}
