//! Which receiver a tenant's samples go to.
//!
//! Tenants with the same `remote_write` settings share an endpoint. Other settings replace the routes as a whole, or not
//! at all; an endpoint that stays keeps its connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Tenants;
use crate::config::settings::RemoteWrite;
use crate::remotewrite::Backoff;

use super::client::Client;
use super::{ExportError, millis};

/// Tells endpoints apart for as long as the process lives.
pub type EndpointId = u64;

/// One receiver, and how it is spoken to.
pub(super) struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) client: Client,
    pub(super) backoff: Backoff,
    /// The settings that it was made from.
    settings: RemoteWrite,
}

/// The endpoints of all tenants.
pub(super) struct Endpoints {
    routes: RwLock<Arc<Routes>>,
    next: AtomicU64,
}

/// Who goes where.
pub(super) struct Routes {
    defaults: Arc<Endpoint>,
    overridden: BTreeMap<String, Arc<Endpoint>>,
}

// === impl Endpoint ===

impl Endpoint {
    async fn new(id: EndpointId, settings: RemoteWrite) -> Result<Self, ExportError> {
        let client = Client::new(&settings).await?;
        let backoff = Backoff { min: millis(settings.min_backoff), max: millis(settings.max_backoff) };
        Ok(Self { id, client, backoff, settings })
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// One endpoint for everybody.
    pub(super) async fn new(defaults: &RemoteWrite) -> Result<Self, ExportError> {
        let defaults = Arc::new(Endpoint::new(0, identity(defaults)).await?);
        let routes = Arc::new(Routes { defaults, overridden: BTreeMap::new() });
        Ok(Self { routes: RwLock::new(routes), next: AtomicU64::new(1) })
    }

    /// The routes in force.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a tenant's samples go now.
    pub(super) fn of(&self, tenant: &str) -> Arc<Endpoint> {
        Arc::clone(self.routes.read().unwrap_or_else(PoisonError::into_inner).of(tenant))
    }

    /// Replaces the routes. With an error they stay as they are.
    pub(super) async fn replace(&self, tenants: &Tenants) -> Result<(), ExportError> {
        let mut known: Vec<Arc<Endpoint>> = self.routes().all().cloned().collect();
        let defaults = self.endpoint(&mut known, &tenants.defaults().remote_write).await?;
        let mut overridden = BTreeMap::new();
        for (tenant, config) in tenants.overridden() {
            let endpoint = self.endpoint(&mut known, &config.remote_write).await;
            let endpoint = endpoint.map_err(|e| ExportError::Tenant(tenant.to_owned(), Box::new(e)))?;
            overridden.insert(tenant.to_owned(), endpoint);
        }
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Routes { defaults, overridden });
        Ok(())
    }

    async fn endpoint(
        &self,
        known: &mut Vec<Arc<Endpoint>>,
        settings: &RemoteWrite,
    ) -> Result<Arc<Endpoint>, ExportError> {
        let settings = identity(settings);
        if let Some(endpoint) = known.iter().find(|e| e.settings == settings) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(Endpoint::new(self.next.fetch_add(1, Ordering::Relaxed), settings).await?);
        known.push(Arc::clone(&endpoint));
        Ok(endpoint)
    }
}

// === impl Routes ===

impl Routes {
    /// Where a tenant's samples go.
    pub(super) fn of(&self, tenant: &str) -> &Arc<Endpoint> {
        self.overridden.get(tenant).unwrap_or(&self.defaults)
    }

    /// Whether somebody's samples go there.
    pub(super) fn leads_to(&self, id: EndpointId) -> bool {
        self.all().any(|endpoint| endpoint.id == id)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        std::iter::once(&self.defaults).chain(self.overridden.values())
    }
}

/// The settings without those that shape requests: they make no other receiver.
fn identity(settings: &RemoteWrite) -> RemoteWrite {
    RemoteWrite { max_samples: 0, max_bytes: 0, ..settings.clone() }
}
