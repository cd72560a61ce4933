//! Does to the scene what the schedule says.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spanmill::tools::receiver::{Fault as Answer, Receiver, SeenRequest};

use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::leaders::{Moved, move_leaders};
use crate::proxy::{Link, Weather};
use crate::run::Load;
use crate::samples::Watched;
use crate::schedule::{BROKERS, Class, Event, Fault, Refusal, SESSION};
use crate::settings::{LOADS, STEP};
use crate::wall_clock;

/// How often processes are looked after, at the least.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// A trouble that cannot end yet is asked again after this time.
const AGAIN: Duration = Duration::from_millis(200);
/// And one that cannot begin yet: whether the cluster is whole is a question that a frozen broker can hold up.
const LATER: Duration = Duration::from_secs(1);
/// Longer delays are reported.
const LATE: Duration = Duration::from_secs(1);
/// One worker is alone for so long, at the least, after the others have ended.
const ALONE: Duration = Duration::from_secs(2 * SESSION.as_secs());

/// What is stored of other tenants while one is refused continues for longer than what was under way when that began: a
/// shard that is held back closes three steps more.
const BESIDE: i64 = 5 * STEP;

/// Everything that trouble can come to.
pub struct Scene<'a> {
    /// The consumer group of the workers.
    pub group: &'a str,
    pub cluster: &'a mut Cluster,
    pub fleet: &'a mut Fleet,
    pub receiver: &'a Receiver,
    /// What it has stored.
    pub watched: &'a Watched,
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
    pub skipped: Option<String>,
}

/// A tenant that was refused, and from when to when.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    pub tenant: &'static str,
    pub from: i64,
    pub to: i64,
}

/// What is due.
enum Act {
    Begin(Event),
    End(Event),
}

/// Leaders on their way, and which trouble moves them.
struct Moving {
    struck: usize,
    thread: JoinHandle<Result<BTreeMap<String, Moved>, String>>,
}

/// Runs a schedule.
pub struct Driver<'a> {
    scene: Scene<'a>,
    due: BTreeMap<(Instant, u64), Act>,
    number: u64,
    begins: Instant,
    /// What cannot be over within it does not begin.
    phase: Duration,
    moving: Vec<Moving>,
    pub struck: Vec<Struck>,
    pub refusals: Vec<Refused>,
    /// By topic.
    pub leaders: BTreeMap<String, Moved>,
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
        Self {
            scene,
            due: BTreeMap::new(),
            number: 0,
            begins: Instant::now(),
            phase: Duration::ZERO,
            moving: Vec::new(),
            struck: Vec::new(),
            refusals: Vec::new(),
            leaders: BTreeMap::new(),
            brokers_ended: Vec::new(),
        }
    }

    /// Troubles to come within `phase`, from now on.
    pub fn schedule(&mut self, events: Vec<Event>, phase: Duration) {
        (self.begins, self.phase) = (Instant::now(), phase);
        for event in events {
            self.push(self.begins + event.at, Act::Begin(event));
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
        for act in acts.into_values() {
            match act {
                Act::End(event) => self.end(event),
                Act::Begin(event) => self.skip(event, "the chaos is over"),
            }
        }
    }

    /// Whether no trouble is left, and all who should run do.
    pub fn is_healed(&self, workers: usize) -> bool {
        self.due.is_empty() && self.moving.is_empty() && (0..workers).all(|slot| self.scene.fleet.runs(slot))
    }

    /// What lasts.
    pub fn lasting(&self) -> Vec<String> {
        let ends = self.due.values().filter_map(|act| if let Act::End(event) = act { Some(event) } else { None });
        let moves = self.moving.iter().map(|moving| &self.struck[moving.struck].event);
        ends.chain(moves).map(|event| event.to_string().trim().to_owned()).collect()
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
        while let Some(at) = self.moving.iter().position(|moving| moving.thread.is_finished()) {
            let Moving { struck, thread } = self.moving.swap_remove(at);
            match thread.join().expect("leaders are moved without a panic") {
                Ok(moved) => self.count(&moved),
                Err(why) => self.struck[struck].skipped = Some(format!("no leader has moved: {why}")),
            }
        }
    }

    fn count(&mut self, moved: &BTreeMap<String, Moved>) {
        for (topic, Moved { asked, moved }) in moved {
            let sum = self.leaders.entry(topic.clone()).or_default();
            sum.asked += asked;
            sum.moved += moved;
        }
    }

    fn begin(&mut self, event: Event) {
        let struck = match self.obstacle(&event.fault) {
            Some(why) => Err(why),
            None => self.scene.strike(&event.fault),
        };
        if let Err(why) = struck {
            if self.begins.elapsed() + LATER + event.lasts > self.phase {
                return self.skip(event, why);
            }
            return self.push(Instant::now() + LATER, Act::Begin(event));
        }
        let late = self.begins.elapsed().saturating_sub(event.at);
        println!("{event}{}", if late > LATE { format!(", {:.1} s late", late.as_secs_f64()) } else { String::new() });
        if !event.lasts.is_zero() {
            self.push(Instant::now() + event.lasts, Act::End(event.clone()));
        }
        if let Fault::MoveLeaders { by, every } = event.fault {
            let brokers = self.scene.cluster.straight().to_owned();
            let thread = std::thread::spawn(move || move_leaders(&brokers, by, every));
            self.moving.push(Moving { struck: self.struck.len(), thread });
        }
        self.struck.push(Struck { at: wall_clock(), event, skipped: None });
    }

    fn skip(&mut self, event: Event, why: &str) {
        println!("{event} (not done: {why})");
        self.struck.push(Struck { at: wall_clock(), event, skipped: Some(why.to_owned()) });
    }

    /// Why a trouble must wait. The schedule keeps its bounds by the clock, here they are kept by what is there: stops, starts
    /// and a broker's way back may take longer than was planned.
    fn obstacle(&self, fault: &Fault) -> Option<&'static str> {
        let workers = self.scene.fleet.len() - 1;
        let there = || self.due.values().filter_map(|act| if let Act::End(event) = act { Some(event) } else { None });
        let is_well = |slot: usize| self.scene.fleet.runs(slot) && !there().any(|event| event.fault.hits(slot));
        let hit = (0..workers).any(|slot| fault.hits(slot));
        let all = fault.hits_all();
        let more = matches!(fault, Fault::ScaleUp | Fault::SplitBrain);
        if (0..workers).any(|slot| fault.hits(slot) && !is_well(slot)) {
            Some("a worker has not come back")
        } else if (all || more) && !self.scene.fleet.is_free(workers) {
            Some("the extra worker is still there")
        } else if more && there().any(|event| matches!(event.fault, Fault::ScaleDown { .. })) {
            Some("there shall be one worker")
        } else if matches!(fault, Fault::LoseEnds { .. }) && !self.moving.is_empty() {
            Some("leaders are on their way")
        } else if matches!(fault, Fault::MoveLeaders { .. })
            && there().any(|event| matches!(event.fault, Fault::LoseEnds { .. }))
        {
            Some("there are no leaders")
        } else if matches!(fault, Fault::RefuseTenant { .. })
            && there().any(|event| matches!(event.fault, Fault::RefuseTenant { .. }))
        {
            // Each ends when the others continue, so two would wait for one another for ever.
            Some("another tenant is refused")
        } else if hit && !all && workers > 1 && !(0..workers).any(|slot| !fault.hits(slot) && is_well(slot)) {
            Some("no worker would be left alone")
        } else {
            None
        }
    }

    fn end(&mut self, event: Event) {
        let from = self.struck.iter().rev().find(|s| s.event == event).map_or(0, |s| s.at);
        if !self.scene.may_end(&event.fault, from) || !self.scene.end(&event.fault) {
            return self.push(Instant::now() + AGAIN, Act::End(event));
        }
        if let Fault::RefuseTenant { tenant, .. } = event.fault {
            self.refusals.push(Refused { tenant: LOADS[tenant].name, from, to: wall_clock() });
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
            | Fault::StopWorker { slot } => match fault {
                Fault::KillWorker { .. } => self.fleet.kill(slot),
                Fault::StopWorker { .. } => self.fleet.stop(slot),
                _ => self.fleet.signal(slot, "STOP"),
            },
            Fault::KillAll => (0..self.fleet.len()).for_each(|slot| self.fleet.kill(slot)),
            Fault::WrongClock { slot, ahead } => {
                self.fleet.kill(slot);
                self.fleet.start_with_clock(slot, ahead);
            }
            Fault::ScaleUp => self.fleet.start(self.fleet.len() - 1),
            Fault::SplitBrain => self.fleet.start_rogue(self.fleet.len() - 1),
            Fault::ScaleDown { left } => self.others(left).for_each(|slot| self.fleet.stop(slot)),
            // It takes its time, on a thread of its own.
            Fault::MoveLeaders { .. } => {}
            Fault::Silence => self.load.signal("STOP"),
            Fault::LoseEnds { first, of, kept, kill } => {
                self.cluster.is_whole().map_err(|_| "the cluster is not whole")?;
                self.cluster.lose_ends(&format!("{}-deltas", self.group), (first, of), kept)?;
                if kill {
                    (0..self.fleet.len()).for_each(|slot| self.fleet.kill(slot));
                }
            }
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
                    // The tenant stands before its series.
                    self.receiver.poison(move |name| bad.ends_with(&format!("/{name}")));
                }
            }
            Fault::RefuseTenant { tenant, how } => {
                let answer = match how {
                    Refusal::Limit => Answer::Status(429),
                    Refusal::RetryAfter => Answer::RetryAfter(429, "2".to_owned()),
                    Refusal::Unavailable => Answer::Status(503),
                    Refusal::Hang => Answer::Hang,
                };
                self.receiver.fault_tenant(LOADS[tenant].name, answer);
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

    /// The places of all workers but the extra one and this one.
    fn others(&self, slot: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.fleet.len() - 1).filter(move |other| *other != slot)
    }

    fn all_links(&self, weather: Weather) {
        (0..BROKERS).for_each(|id| self.cluster.link(id).set(weather));
    }

    fn start_all(&mut self) {
        (0..self.fleet.len() - 1).for_each(|slot| self.fleet.start(slot));
    }

    /// Whether the required effect of a trouble that began then has been seen. A trouble without it lasts, and that is
    /// reported.
    fn may_end(&self, fault: &Fault, from: i64) -> bool {
        match *fault {
            Fault::WrongClock { slot, .. } => self.fleet.readiness(slot).is_some_and(|said| names_the_clock(&said)),
            Fault::RefuseTenant { tenant, .. } => {
                self.is_refused(LOADS[tenant].name) && self.others_go_on(tenant, from)
            }
            _ => true,
        }
    }

    /// Whether the latest request of a tenant was refused.
    fn is_refused(&self, tenant: &str) -> bool {
        let of = |seen: &SeenRequest| seen.headers.get("x-scope-orgid").is_some_and(|name| name == tenant);
        self.receiver.seen().iter().rfind(|seen| of(seen)).is_some_and(|seen| !(200..300).contains(&seen.status))
    }

    /// Whether every series of every other tenant continues, further than what was under way.
    fn others_go_on(&self, tenant: usize, from: i64) -> bool {
        let samples = self.watched.samples();
        let mut others = LOADS.iter().enumerate().filter(|(i, _)| *i != tenant);
        others.all(|(_, other)| samples.slowest_of(other.name) > from + BESIDE)
    }

    /// Ends a trouble; false when that is not possible yet.
    fn end(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::KillWorker { slot } => self.fleet.start(slot),
            Fault::KillAll => self.start_all(),
            Fault::WrongClock { slot, .. } => {
                self.fleet.kill(slot);
                self.fleet.start(slot);
            }
            Fault::Zombie { slot } | Fault::Pause { slot } => self.fleet.signal(slot, "CONT"),
            Fault::StopWorker { slot } if self.fleet.is_free(slot) => self.fleet.start(slot),
            Fault::StopWorker { .. } => return false,
            Fault::ScaleDown { left } => {
                // However long the stops have taken.
                let gone = self.others(left).all(|slot| self.fleet.empty_for(slot).is_some_and(|d| d > ALONE));
                self.others(left).filter(|_| gone).for_each(|slot| self.fleet.start(slot));
                return gone;
            }
            Fault::SplitBrain => self.fleet.kill(self.fleet.len() - 1),
            Fault::ScaleUp if self.fleet.runs(self.fleet.len() - 1) => self.fleet.stop(self.fleet.len() - 1),
            Fault::Silence => self.load.signal("CONT"),
            Fault::LoseEnds { kill, .. } => {
                self.cluster.launch_all();
                let whole = self.cluster.is_whole().is_ok();
                if whole && kill {
                    self.start_all();
                }
                return whole;
            }
            Fault::KillBroker { broker } | Fault::StopBroker { broker } => return self.cluster.relaunch(broker),
            Fault::FreezeBroker { broker } => self.cluster.signal(broker, "CONT"),
            Fault::Slow { broker, .. } | Fault::Refuse { broker } | Fault::Hold { broker, .. } => {
                self.cluster.link(broker).set(Weather::default());
            }
            Fault::HoldAll => self.all_links(Weather::default()),
            Fault::Poison { .. } => self.receiver.poison(|_| false),
            Fault::RefuseTenant { tenant, .. } => self.receiver.mend_tenant(LOADS[tenant].name),
            Fault::Outage { .. } => self.door.set(Weather::default()),
            _ => {}
        }
        true
    }
}

/// Whether this is an answer to `/readyz` of a worker that knows that its clock is wrong.
fn names_the_clock(said: &str) -> bool {
    said.starts_with("HTTP/1.1 503") && said.contains("the clock of this machine is ")
}
