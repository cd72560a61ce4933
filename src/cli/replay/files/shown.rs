//! The service map of files, instead of samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::input::{FileRecord, Inputs};
use super::reading::{Next, Reading, Taken};
use super::summary::Problem;
use super::{FilesArgs, FilesError, POLL, Problems, TOPIC, tenant};
use crate::cli::console;
use crate::cli::produce::wall_clock;
use crate::cli::ui::{edge_delay, show_until, title};
use crate::config::Tenants;
use crate::core::model::{Millis, Seed};
use crate::core::tasks::span::Record;
use crate::tools::local::Local;
use crate::tools::map::{Gap, Map, MapSettings};
use crate::tools::ui::{PageSettings, SharedMap};

/// Points of the history; with more, each two become one.
const POINTS: usize = 720;
/// Bytes for the map.
const MEMORY: usize = 1 << 30;

/// Files on their way into a map.
struct Showing<'a> {
    local: Local,
    map: SharedMap,
    tenant: &'a str,
    now: Millis,
    offset: i64,
    problems: Problems,
}

/// Reads the files into a map and serves its page until `stop` is raised. Returns the exit code: 1 if something could not be
/// read.
pub(super) fn show(
    tenants: &Tenants,
    args: &FilesArgs,
    listen: &str,
    stop: &Arc<AtomicBool>,
) -> Result<u8, FilesError> {
    let config = tenants.defaults();
    let tenant = tenant(args.tenant.as_deref(), &config.tenant)?;
    let inputs = Inputs::find(&args.files, args.encoding())?;
    let step = config.core.time.step.ms();
    let settings = MapSettings { step, resolution: step, history: None, points: POINTS, memory: MEMORY, whole: true };
    let map = SharedMap::new(Map::new(settings));
    let mut local = Local::new(tenants, TOPIC, 1, Seed::new(rand::random()))?;
    let shared = map.clone();
    local.watch(move |shard, record| {
        if let Err(error) = shared.lock().add(shard, record) {
            shared.lock().lacks(Gap(error.to_string()));
        }
    });
    let now = wall_clock();
    let mut showing = Showing { local, map, tenant, now, offset: 0, problems: Problems::default() };
    let latest = now.saturating_add(config.core.time.max_future);
    showing.read(&mut Reading::start(inputs, latest, stop).map_err(FilesError::Thread)?, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(1);
    }
    showing.problems.write(&mut console::err())?;
    let page = PageSettings {
        source: title(&args.files),
        trace_url: args.trace_url.clone(),
        edge_delay: edge_delay(config),
        finished: true,
        ..PageSettings::default()
    };
    show_until(listen, &showing.map, page, stop)?;
    Ok(u8::from(showing.problems.count > 0))
}

// === impl Showing ===

impl Showing<'_> {
    fn read(&mut self, reading: &mut Reading, stop: &AtomicBool) -> Result<(), FilesError> {
        while !stop.load(Ordering::Relaxed) {
            match reading.next(POLL).map_err(FilesError::Thread)? {
                Next::Taken(taken) => self.take(taken)?,
                Next::Nothing => {}
                Next::End => break,
            }
        }
        self.local.finish()?;
        self.close();
        self.map.lock().tidy();
        Ok(())
    }

    fn take(&mut self, taken: Taken) -> Result<(), FilesError> {
        self.problems.merge(taken.problems);
        for FileRecord { timestamp, value, file, at, .. } in taken.records {
            let record = Record { offset: self.offset, timestamp, tenant: Some(self.tenant), value: &value };
            self.offset += 1;
            if let Some(refusal) = self.local.offer(0, &record, self.now)? {
                self.problems.add(Problem { file: file.to_string(), at: Some(at), what: refusal.to_string() });
            }
            self.close();
        }
        Ok(())
    }

    /// Steps of series are not needed here, and would accumulate.
    fn close(&mut self) {
        while self.local.next_closed().is_some() {}
    }
}
