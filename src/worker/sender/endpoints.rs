//! Which receivers a tenant's samples go to: usually one, or several, each with its name.
//!
//! Tenants with the same `remote_write` settings share an endpoint. Other settings replace the routes as a whole, or not
//! at all; an endpoint that stays keeps its connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::Semaphore;

use crate::config::Config;
use crate::config::Tenants;
use crate::config::settings::{Auth, OnBacklog, OnStatus, RemoteWrite, Secret};
use crate::config::tokens::TokenEndpoint;
use crate::core::remotewrite::relabel::Relabeler;
use crate::core::remotewrite::{Backoff, Choice};
use crate::worker::telemetry::Telemetry;

use super::client::Client;
use super::concurrency::Concurrency;
use super::custom_buckets::CustomBucketsState;
use super::dialect::Dialect;
use super::exemplars::Exemplars;
use super::outage::Outage;
use super::outputs::Output;
use super::recipient::Recipient;
use super::{ExportError, millis};

/// Identifies endpoints for as long as the process lives.
pub(super) type EndpointId = u64;

/// One receiver, and the state of its connection.
pub(super) struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) client: Client,
    /// What it is, if no remote write.
    pub(super) output: Option<Output>,
    /// The version of remote write.
    pub(super) dialect: Dialect,
    pub(super) exemplars: Exemplars,
    pub(super) custom_buckets: CustomBucketsState,
    pub(super) backoff: Backoff,
    /// The user's choices for status codes, if not the defaults.
    pub(super) choices: BTreeMap<u16, Choice>,
    /// Which series it gets, and under which labels, if not all as they are.
    pub(super) relabeler: Option<Relabeler>,
    /// Requests in flight.
    pub(super) slots: Semaphore,
    /// Requests in flight to recipients that fail: they may hang, and must leave room for the others.
    pub(super) probes: Semaphore,
    pub(super) outage: Outage,
    recipients: Mutex<Recipients>,
    /// The settings that it was made from.
    pub(super) settings: RemoteWrite,
}

/// The tenants of an endpoint that shards currently send to.
#[derive(Default)]
struct Recipients {
    known: BTreeMap<Arc<str>, Weak<Recipient>>,
    /// With so many, the unused ones are removed.
    tidy_at: usize,
}

/// The endpoints of all tenants.
pub(super) struct Endpoints {
    routes: RwLock<Arc<Routes>>,
    next: AtomicU64,
}

/// The endpoints of every tenant.
pub(super) struct Routes {
    defaults: Route,
    overridden: BTreeMap<String, Route>,
}

/// The endpoints of one tenant.
struct Route {
    endpoints: Vec<Arc<Endpoint>>,
    named: Arc<[EndpointRoute]>,
}

/// One of the endpoints of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRoute {
    /// Its name.
    pub name: Arc<str>,
    /// The bytes that may wait for it in a shard while another one of the tenant's endpoints is further.
    pub max_backlog: usize,
    /// What happens beyond that.
    pub on_backlog: OnBacklog,
}

// === impl Endpoint ===

impl Endpoint {
    async fn new(id: EndpointId, settings: &RemoteWrite) -> Result<Self, ExportError> {
        let choice = |action: &OnStatus| match action {
            OnStatus::Wait => Choice::Wait,
            OnStatus::Reject => Choice::Reject,
        };
        Ok(Self {
            id,
            client: Client::new(settings).await?,
            output: Output::of(settings)?,
            dialect: Dialect::new(settings.protocol),
            exemplars: Exemplars::new(settings.exemplars),
            custom_buckets: CustomBucketsState::new(settings.convert_classic_histograms_to_nhcb),
            backoff: Backoff { min: millis(settings.min_backoff), max: millis(settings.max_backoff) },
            choices: settings.on_status.iter().map(|(status, action)| (*status, choice(action))).collect(),
            relabeler: Relabeler::new(&settings.write_relabel_configs).map_err(ExportError::Relabel)?,
            slots: Semaphore::new(settings.max_in_flight.max(1)),
            probes: Semaphore::new((settings.max_in_flight / 4).max(1)),
            outage: Outage::default(),
            recipients: Mutex::default(),
            settings: identity(settings),
        })
    }

    /// A tenant at this endpoint.
    pub(super) fn recipient(&self, telemetry: &Telemetry, tenant: &Arc<str>) -> Arc<Recipient> {
        let mut recipients = self.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recipients.known.get(tenant).and_then(Weak::upgrade) {
            return known;
        }
        if recipients.known.len() >= recipients.tidy_at {
            recipients.known.retain(|_, recipient| recipient.strong_count() > 0);
            recipients.tidy_at = (2 * recipients.known.len()).max(64);
        }
        let quarantine = millis(self.settings.quarantine);
        let concurrency = Concurrency::new(self.settings.min_in_flight, self.settings.max_in_flight);
        let concurrency = concurrency.shown_by(telemetry.in_flight(&self.settings.id()));
        let receivers = telemetry.receivers();
        let recipient = Arc::new(Recipient::new(receivers, self.client.shown(), tenant, quarantine, concurrency));
        recipients.known.insert(Arc::clone(tenant), Arc::downgrade(&recipient));
        recipient
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// One endpoint for all tenants.
    pub(super) async fn new(defaults: &RemoteWrite) -> Result<Self, ExportError> {
        let defaults = Route::to(vec![Arc::new(Endpoint::new(0, defaults).await?)]);
        let routes = Arc::new(Routes { defaults, overridden: BTreeMap::new() });
        Ok(Self { routes: RwLock::new(routes), next: AtomicU64::new(1) })
    }

    /// The active routes.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a tenant's samples go now: those for an endpoint of this name, or for the only or first one. `None` if the
    /// tenant does not have that one any more.
    pub(super) fn of(&self, tenant: &str, name: Option<&str>) -> Option<Arc<Endpoint>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).of(tenant).find(name).cloned()
    }

    /// All endpoints of a tenant.
    pub(super) fn of_tenant(&self, tenant: &str) -> Arc<[EndpointRoute]> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner).of(tenant).named)
    }

    /// Replaces the routes. With an error they stay as they are.
    pub(super) async fn replace(&self, tenants: &Tenants) -> Result<(), ExportError> {
        let mut known: Vec<Arc<Endpoint>> = self.routes().all().cloned().collect();
        let defaults = self.route(&mut known, tenants.defaults()).await?;
        let mut overridden = BTreeMap::new();
        for (tenant, config) in tenants.overridden() {
            let route = self.route(&mut known, config).await;
            let route = route.map_err(|e| ExportError::Tenant(tenant.to_owned(), Box::new(e)))?;
            overridden.insert(tenant.to_owned(), route);
        }
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Routes { defaults, overridden });
        Ok(())
    }

    async fn route(&self, known: &mut Vec<Arc<Endpoint>>, config: &Config) -> Result<Route, ExportError> {
        let mut endpoints = Vec::new();
        for settings in config.endpoints() {
            let endpoint = self.endpoint(known, settings).await;
            let named = |e| ExportError::Endpoint(settings.id(), Box::new(e));
            endpoints.push(if config.more_endpoints.is_empty() { endpoint? } else { endpoint.map_err(named)? });
        }
        Ok(Route::to(endpoints))
    }

    async fn endpoint(
        &self,
        known: &mut Vec<Arc<Endpoint>>,
        settings: &RemoteWrite,
    ) -> Result<Arc<Endpoint>, ExportError> {
        let wanted = identity(settings);
        if let Some(endpoint) = known.iter().find(|e| e.settings == wanted) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(Endpoint::new(self.next.fetch_add(1, Ordering::Relaxed), settings).await?);
        known.push(Arc::clone(&endpoint));
        Ok(endpoint)
    }
}

// === impl Routes ===

impl Routes {
    fn of(&self, tenant: &str) -> &Route {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        std::iter::once(&self.defaults).chain(self.overridden.values()).flat_map(|route| &route.endpoints)
    }
}

// === impl Route ===

impl Route {
    fn to(endpoints: Vec<Arc<Endpoint>>) -> Self {
        let route = |endpoint: &Arc<Endpoint>| EndpointRoute {
            name: endpoint.settings.id().into(),
            max_backlog: endpoint.settings.max_backlog,
            on_backlog: endpoint.settings.on_backlog,
        };
        Self { named: endpoints.iter().map(route).collect(), endpoints }
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<Endpoint>> {
        let Some(name) = name else { return self.endpoints.first() };
        let at = self.named.iter().position(|route| *route.name == *name)?;
        self.endpoints.get(at)
    }
}

/// The settings that identify a receiver: without those that only shape requests, and without the current content of a
/// file with a secret.
fn identity(settings: &RemoteWrite) -> RemoteWrite {
    let secret = |secret: &Secret| secret.file().map_or_else(|| secret.clone(), |file| Secret::of_file("", file));
    let auth = match &settings.auth {
        Auth::Basic { username, password } => Auth::Basic { username: username.clone(), password: secret(password) },
        Auth::Bearer(token) => Auth::Bearer(secret(token)),
        Auth::OAuth2(endpoint) => Auth::OAuth2(Box::new(TokenEndpoint {
            client_secret: secret(&endpoint.client_secret),
            ..(**endpoint).clone()
        })),
        other => other.clone(),
    };
    let headers = settings.headers.iter().map(|(name, value)| (name.clone(), secret(value))).collect();
    RemoteWrite { max_samples: 0, max_bytes: 0, auth, headers, ..settings.clone() }
}
