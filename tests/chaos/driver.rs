//! Does to the scene what the schedule says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use spanmill::export::receiver::{Fault as Answer, Receiver};

use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::proxy::{Link, Weather};
use crate::run::Load;
use crate::schedule::{Class, Event, Fault};
use crate::wall_clock;

/// How often processes are looked after, at the least.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// A trouble that cannot end yet is asked again after this time.
const AGAIN: Duration = Duration::from_millis(200);

/// Everything that trouble can come to.
pub struct Scene<'a> {
    pub cluster: &'a mut Cluster,
    pub fleet: &'a mut Fleet,
    pub receiver: &'a Receiver,
    /// The workers' way to the receiver.
    pub door: &'a Link,
    pub load: &'a mut Load,
}

/// A trouble that came.
#[derive(Debug, Clone)]
pub struct Struck {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub event: Event,
    /// Why it did not come after all.
    pub skipped: Option<&'static str>,
}

/// What is due.
enum Act {
    Begin(Event),
    End(Event),
}

/// Runs a schedule.
pub struct Driver<'a> {
    scene: Scene<'a>,
    due: BTreeMap<(Instant, u64), Act>,
    number: u64,
    pub struck: Vec<Struck>,
    /// Brokers that ended by themselves.
    pub brokers_ended: Vec<String>,
}

// === impl Struck ===

impl Struck {
    /// Counted so.
    pub fn class(&self) -> Class {
        self.event.fault.class()
    }
}

// === impl Driver ===

impl<'a> Driver<'a> {
    pub fn new(scene: Scene<'a>) -> Self {
        Self { scene, due: BTreeMap::new(), number: 0, struck: Vec::new(), brokers_ended: Vec::new() }
    }

    /// Troubles to come, from now on.
    pub fn schedule(&mut self, events: Vec<Event>) {
        let begin = Instant::now();
        for event in events {
            self.push(begin + event.at, Act::Begin(event));
        }
    }

    /// Carries out what is due until `until`, or until `enough`.
    pub fn run(&mut self, until: Instant, mut enough: impl FnMut(&Self) -> bool) {
        while Instant::now() < until && !enough(self) {
            self.tend();
            let present = Instant::now();
            while let Some(entry) = self.due.first_entry().filter(|e| e.key().0 <= present) {
                match entry.remove() {
                    Act::Begin(event) => self.begin(event),
                    Act::End(event) => self.end(event),
                }
            }
            let next = self.due.keys().next().map_or(until, |(at, _)| *at).min(Instant::now() + TEND_EVERY);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// No further trouble begins; what there is ends now.
    pub fn heal(&mut self) {
        let acts = std::mem::take(&mut self.due);
        for event in acts.into_values().filter_map(|act| if let Act::End(event) = act { Some(event) } else { None }) {
            self.end(event);
        }
    }

    /// Whether no trouble is left, and all who should run do.
    pub fn is_healed(&self, workers: usize) -> bool {
        self.due.is_empty() && (0..workers).all(|slot| self.scene.fleet.runs(slot))
    }

    /// The scene.
    pub fn scene(&self) -> &Scene<'a> {
        &self.scene
    }

    /// The load.
    pub fn load(&mut self) -> &mut Load {
        self.scene.load
    }

    fn push(&mut self, at: Instant, act: Act) {
        self.number += 1;
        self.due.insert((at, self.number), act);
    }

    fn tend(&mut self) {
        self.scene.fleet.tend();
        self.brokers_ended.extend(self.scene.cluster.tend());
    }

    fn begin(&mut self, event: Event) {
        let skipped = self.scene.strike(&event.fault).err();
        println!("{event}{}", skipped.map_or(String::new(), |why| format!(" (not done: {why})")));
        if skipped.is_none() && !event.lasts.is_zero() {
            self.push(Instant::now() + event.lasts, Act::End(event.clone()));
        }
        self.struck.push(Struck { at: wall_clock(), event, skipped });
    }

    fn end(&mut self, event: Event) {
        if !self.scene.end(&event.fault) {
            self.push(Instant::now() + AGAIN, Act::End(event));
        }
    }
}

// === impl Scene ===

impl Scene<'_> {
    fn strike(&mut self, fault: &Fault) -> Result<(), &'static str> {
        match *fault {
            Fault::KillWorker { slot }
            | Fault::Zombie { slot }
            | Fault::Pause { slot }
            | Fault::StopWorker { slot } => {
                if !self.fleet.runs(slot) {
                    return Err("no worker runs there");
                }
                match fault {
                    Fault::KillWorker { .. } => self.fleet.kill(slot),
                    Fault::StopWorker { .. } => self.fleet.stop(slot),
                    _ => self.fleet.signal(slot, "STOP"),
                }
            }
            Fault::KillAll => (0..self.fleet.len()).for_each(|slot| self.fleet.kill(slot)),
            Fault::ScaleUp | Fault::SplitBrain => match self.fleet.len() - 1 {
                extra if !self.fleet.is_free(extra) => return Err("the extra worker is still there"),
                extra if *fault == Fault::ScaleUp => self.fleet.start(extra),
                extra => self.fleet.start_rogue(extra),
            },
            Fault::Silence => self.load.produce.signal("STOP"),
            Fault::KillBroker { broker } | Fault::StopBroker { broker } | Fault::FreezeBroker { broker } => {
                // Two brokers away at a time would stop everything.
                self.cluster.is_whole().map_err(|_| "the cluster is not whole")?;
                match fault {
                    Fault::KillBroker { .. } => self.cluster.kill(broker),
                    Fault::StopBroker { .. } => self.cluster.terminate(broker),
                    _ => self.cluster.signal(broker, "STOP"),
                }
            }
            Fault::Slow { broker, by: delay } => self.cluster.link(broker).set(Weather { delay, ..Weather::default() }),
            Fault::Cut { broker } => self.cluster.link(broker).cut(),
            Fault::Refuse { broker } => {
                self.cluster.link(broker).set(Weather { refuse: true, ..Weather::default() });
                self.cluster.link(broker).cut();
            }
            Fault::Hold { broker, up, down } => {
                self.cluster.link(broker).set(Weather { hold_up: up, hold_down: down, ..Weather::default() });
            }
            Fault::HoldAll => self.all_links(Weather { hold_up: true, hold_down: true, ..Weather::default() }),
            _ => self.trouble_the_receiver(fault),
        }
        Ok(())
    }

    fn trouble_the_receiver(&self, fault: &Fault) {
        match *fault {
            Fault::Status { code, times } => self.receiver.fault(&Answer::Status(code), times),
            Fault::RetryAfter { times } => self.receiver.fault(&Answer::RetryAfter(429, "1".to_owned()), times),
            Fault::Reset { times } => self.receiver.fault(&Answer::Reset, times),
            Fault::StoreAndReset { times } => self.receiver.fault(&Answer::StoreAndReset, times),
            Fault::Hang { times } => self.receiver.fault(&Answer::Hang, times),
            Fault::Poison { pick } => {
                let names: Vec<String> = self.receiver.snapshot().into_keys().collect();
                if let Some(bad) = names.get(pick % names.len().max(1)).cloned() {
                    self.receiver.poison(move |name| name == bad);
                }
            }
            Fault::Outage { held: true } => {
                self.door.set(Weather { hold_up: true, hold_down: true, ..Weather::default() });
            }
            _ => {
                self.door.set(Weather { refuse: true, ..Weather::default() });
                self.door.cut();
            }
        }
    }

    fn all_links(&self, weather: Weather) {
        (0..crate::cluster::BROKERS).for_each(|id| self.cluster.link(id).set(weather));
    }

    /// Ends a trouble; false when that is not possible yet.
    fn end(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::KillWorker { slot } => self.fleet.start(slot),
            Fault::KillAll => (0..self.fleet.len() - 1).for_each(|slot| self.fleet.start(slot)),
            Fault::Zombie { slot } | Fault::Pause { slot } => self.fleet.signal(slot, "CONT"),
            Fault::StopWorker { slot } if self.fleet.is_free(slot) => self.fleet.start(slot),
            Fault::StopWorker { .. } => return false,
            Fault::SplitBrain => self.fleet.kill(self.fleet.len() - 1),
            Fault::ScaleUp if self.fleet.runs(self.fleet.len() - 1) => self.fleet.stop(self.fleet.len() - 1),
            Fault::Silence => self.load.produce.signal("CONT"),
            Fault::KillBroker { broker } | Fault::StopBroker { broker } => return self.cluster.relaunch(broker),
            Fault::FreezeBroker { broker } => self.cluster.signal(broker, "CONT"),
            Fault::Slow { broker, .. } | Fault::Refuse { broker } | Fault::Hold { broker, .. } => {
                self.cluster.link(broker).set(Weather::default());
            }
            Fault::HoldAll => self.all_links(Weather::default()),
            Fault::Poison { .. } => self.receiver.poison(|_| false),
            Fault::Outage { .. } => self.door.set(Weather::default()),
            _ => {}
        }
        true
    }
}
