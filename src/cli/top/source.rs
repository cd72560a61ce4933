//! What the view reads: the map of `spanmill ui`, which follows the topics of the group, and the partitions of `spanmill topics`.
//!
//! *Never:* a member of a group; a wait for brokers on the thread that draws.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::snapshot::Snapshot;
use super::state::Tab;
use crate::cli::topics::look::Looker;
use crate::cli::topics::report::Report;
use crate::config::{Config, Loaded};
use crate::core::model::Millis;
use crate::tools::map::{Map, MapSettings};
use crate::tools::ui::SharedMap;
use crate::tools::ui::follow::{Follow, FollowState};
use crate::worker::kafka::broker_clock::wall_clock;

/// How often partitions are read while they are shown: each time all journals are read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a condition is examined that others meet.
const POLL: Duration = Duration::from_millis(50);

/// The latest look at the partitions, or why there is none.
type Look = Option<Result<Arc<Report>, String>>;

/// The readers of a group.
pub(super) struct Source {
    group: String,
    map: SharedMap,
    follow: Follow,
    latest: Arc<Mutex<Look>>,
    requests: SyncSender<()>,
    requested: Option<Instant>,
}

// === impl Source ===

impl Source {
    /// Begins to read.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn start(loaded: Loaded, settings: MapSettings) -> std::io::Result<Self> {
        let config = loaded.config;
        let group = config.kafka.group.clone();
        let map = SharedMap::new(Map::new(settings));
        // As far as the topic reaches back: labels that came since the latest snapshots are nowhere else.
        let follow = Follow::start(Arc::new(loaded.tenants), map.clone(), 0)?;
        let latest = Arc::<Mutex<Look>>::default();
        let (requests, requested) = sync_channel(1);
        let shared = Arc::clone(&latest);
        // It ends with its requests; a broker that does not answer must not hold back the end of the program.
        let thread = std::thread::Builder::new().name("partitions".to_owned());
        drop(thread.spawn(move || look(&config, &requested, &shared))?);
        Ok(Self { group, map, follow, latest, requests, requested: None })
    }

    /// What these tabs show now.
    pub(super) fn snapshot(&mut self, tenant: Option<&str>, tabs: &[Tab]) -> Snapshot {
        let mut snapshot = Snapshot::of(&mut self.map.lock(), tenant, tabs);
        (snapshot.group, snapshot.at) = (self.group.clone(), wall_clock());
        if tabs.iter().any(|tab| tab.is_of_partitions()) {
            self.request();
            match self.look() {
                Some(Ok(report)) => {
                    snapshot.partitions = tabs.contains(&Tab::Partitions).then(|| Arc::clone(&report));
                    snapshot.samples = tabs.contains(&Tab::Samples).then_some(report);
                }
                Some(Err(error)) => snapshot.partial.push(error),
                None => {}
            }
        }
        snapshot
    }

    /// Waits until all that was there is read, but no longer than until `deadline`. Returns what is missing.
    pub(super) fn wait(&mut self, tabs: &[Tab], deadline: Instant, stopped: impl Fn() -> bool) -> Result<(), String> {
        let wants_map = tabs.iter().any(|tab| !tab.is_of_partitions());
        let wants_look = tabs.iter().any(|tab| tab.is_of_partitions());
        loop {
            if wants_look {
                self.request();
            }
            let read = if wants_map { self.follow.state() } else { FollowState::UpToDate };
            let looked = !wants_look || self.look().is_some();
            match read {
                FollowState::Failing(problem) if looked => return Err(problem),
                FollowState::UpToDate if looked => break,
                _ if stopped() => return Err("it was ended before everything was read".to_owned()),
                _ if Instant::now() >= deadline => {
                    return Err("not everything was read in time; allow more with --timeout".to_owned());
                }
                _ => std::thread::sleep(POLL),
            }
        }
        let mut map = self.map.lock();
        map.tidy();
        if wants_map && map.lacks_labels() {
            return Err(
                "the labels of some label sets are not in what the topics still hold: they are missing here".to_owned()
            );
        }
        drop(map);
        match self.look() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn look(&self) -> Look {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn request(&mut self) {
        if self.requested.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.requested = Some(Instant::now());
            // One that waits already is enough.
            self.requests.try_send(()).unwrap_or_default();
        }
    }
}

/// Looks at the partitions as often as requested.
fn look(config: &Config, requests: &Receiver<()>, latest: &Mutex<Look>) {
    let mut looker = None;
    while requests.recv().is_ok() {
        let look = looked(&mut looker, config, wall_clock());
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}

fn looked(looker: &mut Option<Looker>, config: &Config, now: Millis) -> Result<Arc<Report>, String> {
    let looker = match looker {
        Some(looker) => looker,
        None => looker.insert(Looker::new(config).map_err(|error| error.to_string())?),
    };
    looker.look(now).map(Arc::new).map_err(|error| error.to_string())
}
