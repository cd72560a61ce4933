//! What goes wrong, and when: made from a seed before anything runs, so that it can be printed and run again.
//!
//! Bounds: a thing has one trouble at a time, at least one worker is left alone unless all are killed at once, and only one
//! broker is away at a time, so that two of three copies are always there. While workers are scaled down to one, that one is
//! left alone and nobody joins. Leaders are moved at any time, also while a broker is away: to copies that are in sync.
//!
//! Troubles are dealt in turns. First comes a hand that holds one of each [`Promise`], shuffled, and nothing else comes
//! before all of it has been played: a card whose thing is in trouble waits. Then chance alone deals for a while, by weights,
//! and what cannot be is dropped. Then there is the next hand. So a run that is long enough has everything in it
//! ([`promised`]), and a longer one has it again and again.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Brokers.
pub const BROKERS: usize = 3;
/// The session timeout of workers: who is stopped for longer comes back as a zombie.
pub const SESSION: Duration = Duration::from_secs(4);
/// The load goes on for so long after the last trouble began, at the least.
pub const AFTERMATH: Duration = Duration::from_secs(4);

/// One trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a new one later.
    KillWorker { slot: usize },
    /// `kill -9` of all at once.
    KillAll,
    /// SIGSTOP for longer than the session timeout, then SIGCONT: a zombie.
    Zombie { slot: usize },
    /// SIGSTOP for less than that.
    Pause { slot: usize },
    /// SIGTERM, and a new one later.
    StopWorker { slot: usize },
    /// One more worker for a while.
    ScaleUp,
    /// SIGTERM to all but one, for longer than the session timeout; then all are there again.
    ScaleDown { left: usize },
    /// One more worker that the group knows nothing of: it believes that everything is its own, and goes on believing.
    SplitBrain,
    /// SIGSTOP to the load: silence, ticks, and a backlog of old records afterwards.
    Silence,
    /// `kill -9`, and started again later.
    KillBroker { broker: usize },
    /// SIGTERM, which moves its leaders away, and started again later.
    StopBroker { broker: usize },
    /// SIGSTOP, then SIGCONT: a leader that does not know of its successor.
    FreezeBroker { broker: usize },
    /// Every so many partitions of each topic get another leader, so many copies further, and all of `__consumer_offsets`.
    MoveLeaders { by: usize, every: usize },
    /// A slow link.
    Slow { broker: usize, by: Duration },
    /// Connections end.
    Cut { broker: usize },
    /// Connections end and none is accepted for a while.
    Refuse { broker: usize },
    /// What is said, what is answered, or both, is held back.
    Hold { broker: usize, up: bool, down: bool },
    /// All brokers out of reach.
    HoldAll,
    /// The receiver answers some requests with this status.
    Status { code: u16, times: usize },
    /// It answers 429 with `Retry-After`.
    RetryAfter { times: usize },
    /// It cuts connections, nothing stored.
    Reset { times: usize },
    /// It stores and then cuts.
    StoreAndReset { times: usize },
    /// It never answers.
    Hang { times: usize },
    /// It answers 400 to whatever holds one series.
    Poison { pick: usize },
    /// It cannot be reached.
    Outage { held: bool },
}

/// Kinds of trouble, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Kill,
    Zombie,
    SplitBrain,
    Graceful,
    Scaling,
    Broker,
    Leaders,
    Network,
    Receiver,
    Load,
}

/// What has to come in every run that is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Kill,
    Zombie,
    SplitBrain,
    GracefulStop,
    ScaleUp,
    ScaleDown,
    BrokerKilled,
    LeadersMoved,
    LinkDelayed,
    LinkCut,
    Receiver,
    Silence,
}

/// A trouble and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Since the beginning of the chaos.
    pub at: Duration,
    /// How long it lasts; zero for what is over at once.
    pub lasts: Duration,
    pub fault: Fault,
}

/// What a trouble needs for itself while it lasts.
#[derive(Debug, Default)]
struct Busy {
    slots: Vec<Duration>,
    brokers: [Duration; BROKERS],
    /// One broker is away until then.
    away: Duration,
    receiver: Duration,
    extra: Duration,
    load: Duration,
    leaders: Duration,
}

struct Dice(ChaCha8Rng);

/// A broker needs this long to start and to catch up.
const BROKER_STARTS: Duration = Duration::from_secs(20);
/// A worker needs this long to start and to be let in.
const WORKER_STARTS: Duration = Duration::from_secs(4);
/// Leaders have moved, and clients have found them, after this long.
const LEADERS_MOVE: Duration = Duration::from_secs(8);
/// No trouble lasts longer. So long before the end nothing is waited for any more.
const LONGEST: Duration = Duration::from_secs(25);
/// Troubles that chance alone deals between two hands.
const BETWEEN_HANDS: usize = 12;
/// A chaos of this length keeps every promise. Of 3,000 seeds the first hand is over after 92 s at the latest; the rest is for
/// troubles that have to wait when it comes to it.
pub const PROMISED_FROM: Duration = Duration::from_secs(100);

// === impl Dice ===

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n.max(1))) >> 64) as u64
    }

    fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn shuffled<T>(&mut self, mut all: Vec<T>) -> Vec<T> {
        (1..all.len()).rev().for_each(|i| all.swap(i, self.index(i + 1)));
        all
    }
}

// === impl Fault ===

impl Fault {
    /// Under which heading it is counted.
    pub fn class(&self) -> Class {
        match self {
            Self::KillWorker { .. } | Self::KillAll => Class::Kill,
            Self::SplitBrain => Class::SplitBrain,
            Self::Zombie { .. } | Self::Pause { .. } => Class::Zombie,
            Self::StopWorker { .. } => Class::Graceful,
            Self::ScaleUp | Self::ScaleDown { .. } => Class::Scaling,
            Self::Silence => Class::Load,
            Self::KillBroker { .. } | Self::StopBroker { .. } | Self::FreezeBroker { .. } => Class::Broker,
            Self::MoveLeaders { .. } => Class::Leaders,
            Self::Slow { .. } | Self::Cut { .. } | Self::Refuse { .. } | Self::Hold { .. } | Self::HoldAll => {
                Class::Network
            }
            _ => Class::Receiver,
        }
    }

    /// Whether it is trouble for the worker in this place.
    pub fn hits(&self, worker: usize) -> bool {
        match *self {
            Self::KillWorker { slot } | Self::Zombie { slot } | Self::Pause { slot } | Self::StopWorker { slot } => {
                slot == worker
            }
            Self::KillAll | Self::ScaleDown { .. } => true,
            _ => false,
        }
    }
}

// === impl Promise ===

impl Promise {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Zombie,
        Self::SplitBrain,
        Self::GracefulStop,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::BrokerKilled,
        Self::LeadersMoved,
        Self::LinkDelayed,
        Self::LinkCut,
        Self::Receiver,
        Self::Silence,
    ];

    /// Whether this trouble is what was promised.
    pub fn is_kept_by(self, fault: &Fault) -> bool {
        match self {
            Self::Kill => matches!(fault, Fault::KillWorker { .. }),
            Self::Zombie => matches!(fault, Fault::Zombie { .. }),
            Self::SplitBrain => matches!(fault, Fault::SplitBrain),
            Self::GracefulStop => matches!(fault, Fault::StopWorker { .. }),
            Self::ScaleUp => matches!(fault, Fault::ScaleUp),
            Self::ScaleDown => matches!(fault, Fault::ScaleDown { .. }),
            Self::BrokerKilled => matches!(fault, Fault::KillBroker { .. }),
            Self::LeadersMoved => matches!(fault, Fault::MoveLeaders { .. }),
            Self::LinkDelayed => matches!(fault, Fault::Slow { .. }),
            Self::LinkCut => matches!(fault, Fault::Cut { .. } | Fault::Refuse { .. }),
            Self::Receiver => fault.class() == Class::Receiver,
            Self::Silence => matches!(fault, Fault::Silence),
        }
    }

    /// A trouble that keeps it: as chance would have dealt it.
    fn keep(self, dice: &mut Dice, at: Duration, workers: usize) -> Event {
        loop {
            let event = draw(dice, at, workers);
            if self.is_kept_by(&event.fault) {
                return event;
            }
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:7.1} s  {:?}", self.at.as_secs_f64(), self.fault)?;
        if self.lasts.is_zero() { Ok(()) } else { write!(f, " for {:.1} s", self.lasts.as_secs_f64()) }
    }
}

/// How long the chaos of a run lasts whose load lasts for `load`. What comes before it is the start, and some calm.
pub fn chaos(load: Duration) -> Duration {
    (load * 4 / 5).saturating_sub(AFTERMATH)
}

/// What has to come in a chaos of this length.
pub fn promised(phase: Duration, workers: usize) -> Vec<Promise> {
    if phase < PROMISED_FROM { Vec::new() } else { possible(workers) }
}

/// Which of the promises none of these troubles keeps.
pub fn broken<'a>(promised: &[Promise], came: impl Iterator<Item = &'a Fault>) -> Vec<Promise> {
    let mut missing = promised.to_vec();
    came.for_each(|fault| missing.retain(|promise| !promise.is_kept_by(fault)));
    missing
}

/// What can come at all: one worker is one already.
fn possible(workers: usize) -> Vec<Promise> {
    Promise::ALL.into_iter().filter(|p| workers > 1 || *p != Promise::ScaleDown).collect()
}

/// The troubles of `phase`. The same arguments give the same plan.
pub fn plan(seed: u64, phase: Duration, workers: usize) -> Vec<Event> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let promised = promised(phase, workers);
    loop {
        let events = deal(&mut dice, phase, workers);
        // A hand that takes too long is rare, see `PROMISED_FROM`. It is dealt anew.
        if broken(&promised, events.iter().map(|event| &event.fault)).is_empty() {
            return events;
        }
    }
}

fn deal(dice: &mut Dice, phase: Duration, workers: usize) -> Vec<Event> {
    let mut busy = Busy { slots: vec![Duration::ZERO; workers], ..Busy::default() };
    let mut hand = dice.shuffled(possible(workers));
    let (mut events, mut drawn, mut at) = (Vec::new(), 0, Duration::ZERO);
    loop {
        at += dice.millis(500, 4_000);
        if at >= phase {
            return events;
        }
        let mut fits = |event: &Event| event.at + event.lasts <= phase && busy.take(event);
        let played = hand
            .iter()
            .enumerate()
            .find_map(|(i, promise)| Some((i, promise.keep(dice, at, workers))).filter(|(_, event)| fits(event)));
        if let Some((i, event)) = played {
            hand.remove(i);
            events.push(event);
        } else if hand.is_empty() || at + LONGEST > phase {
            events.extend(Some(draw(dice, at, workers)).filter(fits));
            drawn += 1;
        }
        if hand.is_empty() && drawn >= BETWEEN_HANDS {
            hand = dice.shuffled(possible(workers));
            drawn = 0;
        }
    }
}

fn draw(dice: &mut Dice, at: Duration, workers: usize) -> Event {
    let (slot, broker) = (dice.index(workers), dice.index(BROKERS));
    let session = SESSION.as_millis() as u64;
    let (fault, lasts) = match dice.below(100) {
        0..14 => (Fault::KillWorker { slot }, dice.millis(100, 4_000)),
        14..17 => (Fault::KillAll, dice.millis(100, 3_000)),
        17..31 => (Fault::Zombie { slot }, dice.millis(session + 2_000, 3 * session)),
        31..34 => (Fault::Pause { slot }, dice.millis(500, session * 2 / 3)),
        34..40 => (Fault::StopWorker { slot }, dice.millis(100, 6_000)),
        40..42 => (Fault::ScaleUp, dice.millis(12_000, LONGEST.as_millis() as u64)),
        42..44 if workers > 1 => (Fault::ScaleDown { left: slot }, dice.millis(4 * session, 6 * session)),
        42..46 => (Fault::SplitBrain, dice.millis(3_000, 8_000)),
        46..51 => (Fault::KillBroker { broker }, dice.millis(1_000, 9_000)),
        51..54 => (Fault::StopBroker { broker }, dice.millis(3_000, 9_000)),
        54..58 => (Fault::FreezeBroker { broker }, dice.millis(2_000, 12_000)),
        58..62 => (Fault::MoveLeaders { by: 1 + dice.index(BROKERS - 1), every: 1 + dice.index(3) }, Duration::ZERO),
        62..66 => (Fault::Slow { broker, by: dice.millis(20, 300) }, dice.millis(2_000, 10_000)),
        66..69 => (Fault::Cut { broker }, Duration::ZERO),
        69..73 => (Fault::Refuse { broker }, dice.millis(1_000, 10_000)),
        73..80 => {
            let (up, down) = [(true, true), (true, false), (false, true)][dice.index(3)];
            (Fault::Hold { broker, up, down }, dice.millis(1_000, 10_000))
        }
        80..82 => (Fault::HoldAll, dice.millis(1_000, 8_000)),
        82..83 => (Fault::Silence, dice.millis(1_000, 7_000)),
        83..85 => (Fault::Status { code: [500, 503][dice.index(2)], times: 1 + dice.index(20) }, Duration::ZERO),
        85..87 => (Fault::RetryAfter { times: 1 + dice.index(4) }, Duration::ZERO),
        87..89 => (Fault::Reset { times: 1 + dice.index(10) }, Duration::ZERO),
        89..92 => (Fault::StoreAndReset { times: 1 + dice.index(10) }, Duration::ZERO),
        92..94 => (Fault::Hang { times: 1 + dice.index(4) }, Duration::ZERO),
        94..96 => (Fault::Poison { pick: dice.index(1 << 16) }, dice.millis(2_000, 8_000)),
        _ => (Fault::Outage { held: dice.below(2) == 0 }, dice.millis(1_000, 12_000)),
    };
    Event { at, lasts, fault }
}

// === impl Busy ===

impl Busy {
    /// Whether everything is free that the event needs; then it is taken.
    fn take(&mut self, event: &Event) -> bool {
        let Event { at, lasts, ref fault } = *event;
        let until = at + lasts;
        match fault {
            Fault::KillWorker { slot }
            | Fault::Zombie { slot }
            | Fault::Pause { slot }
            | Fault::StopWorker { slot } => {
                let others = self.slots.iter().enumerate().filter(|(i, free)| i != slot && **free <= at).count();
                // The only worker may be hit as well: then there is nobody to be left alone.
                let left = others > 0 || self.slots.len() == 1;
                left && claim(&mut self.slots[*slot], at, until + WORKER_STARTS)
            }
            Fault::KillAll => {
                let free = self.slots.iter().all(|free| *free <= at) && self.extra <= at;
                if free {
                    self.slots.fill(until + WORKER_STARTS);
                }
                free
            }
            Fault::ScaleDown { .. } => {
                let free = self.slots.iter().all(|free| *free <= at) && self.extra <= at;
                if free {
                    self.slots.fill(until + WORKER_STARTS);
                    self.extra = until;
                }
                free
            }
            Fault::MoveLeaders { .. } => claim(&mut self.leaders, at, until + LEADERS_MOVE),
            Fault::ScaleUp | Fault::SplitBrain => claim(&mut self.extra, at, until + WORKER_STARTS),
            // Edges must still meet: the next silence comes when the backlog of this one is gone.
            Fault::Silence => claim(&mut self.load, at, until + BROKER_STARTS),
            Fault::KillBroker { broker } | Fault::StopBroker { broker } | Fault::FreezeBroker { broker } => {
                let back = until + BROKER_STARTS;
                self.brokers[*broker] <= at
                    && claim(&mut self.away, at, back)
                    && claim(&mut self.brokers[*broker], at, back)
            }
            Fault::Slow { broker, .. }
            | Fault::Cut { broker }
            | Fault::Refuse { broker }
            | Fault::Hold { broker, .. } => claim(&mut self.brokers[*broker], at, until),
            Fault::HoldAll => {
                let free = self.brokers.iter().all(|free| *free <= at);
                if free {
                    self.brokers.fill(until);
                }
                free
            }
            Fault::Poison { .. } | Fault::Outage { .. } => claim(&mut self.receiver, at, until),
            _ => self.receiver <= at,
        }
    }
}

fn claim(free: &mut Duration, at: Duration, until: Duration) -> bool {
    let is_free = *free <= at;
    if is_free {
        *free = until;
    }
    is_free
}
