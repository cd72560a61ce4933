//! What goes wrong, and when: made from a seed before anything runs, so that it can be printed and run again.
//!
//! Bounds: a thing has one trouble at a time, at least one worker is left alone unless all are killed at once, and only
//! one broker is away at a time, so that two of three copies are always there; unless all are killed at once, and then
//! the deltas topic loses its end. While workers are scaled down to one, that one is left alone and no worker joins.
//! Leaders are moved at any time, also while a broker is away: to copies that are in sync.
//!
//! Troubles are dealt in turns. First comes a hand that holds one of each [`Promise`], shuffled, and nothing else comes
//! before all of it has been played: a card whose thing is in trouble waits. Then chance alone deals for a while, by
//! weights, and what cannot be is dropped. Then there is the next hand. So a run that is long enough has everything in
//! it ([`promised`]), and a longer one has it again and again.

#[path = "busy.rs"]
mod busy;

use std::time::Duration;

use busy::Busy;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Brokers.
pub const BROKERS: usize = 3;
/// Tenants of the load.
pub const TENANTS: usize = 3;
/// The session timeout of workers: who is stopped for longer comes back as a zombie.
pub const SESSION: Duration = Duration::from_secs(4);
/// The load continues for so long after the last trouble began, at the least.
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
    /// `kill -9`, and a new one at once whose clock is so many milliseconds ahead, or behind; later one whose clock is right.
    WrongClock { slot: usize, ahead: i64 },
    /// One more worker for a while.
    ScaleUp,
    /// SIGTERM to all but one, for longer than the session timeout; then all are there again.
    ScaleDown { left: usize },
    /// One more worker that the group knows nothing of: it keeps acting as if it owned everything.
    SplitBrain,
    /// SIGSTOP to the load: silence, ticks, and a backlog of old records afterwards.
    Silence,
    /// `kill -9`, and started again later.
    KillBroker { broker: usize },
    /// SIGTERM, which moves its leaders away, and started again later.
    StopBroker { broker: usize },
    /// SIGSTOP, then SIGCONT: a leader that does not know of its successor.
    FreezeBroker { broker: usize },
    /// `kill -9` of all of them at once. While they are down, `of` partitions of the deltas topic, from this one on, lose
    /// everything but so many percent of what they hold, on every copy. If asked for, all workers are killed as well.
    LoseEnds { first: usize, of: usize, kept: u64, kill: bool },
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
    /// It refuses everything of one tenant.
    RefuseTenant { tenant: usize, how: Refusal },
}

/// How a tenant is refused; nothing of it is stored, and nothing is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 429.
    Limit,
    /// 429 with `Retry-After`.
    RetryAfter,
    /// 503.
    Unavailable,
    /// No answer.
    Hang,
}

/// Kinds of trouble, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Kill,
    Zombie,
    SplitBrain,
    Graceful,
    Clock,
    Scaling,
    Broker,
    LostEnd,
    Leaders,
    Network,
    Receiver,
    Tenant,
    Load,
}

/// What has to come in every run that is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Kill,
    Zombie,
    SplitBrain,
    GracefulStop,
    WrongClock,
    ScaleUp,
    ScaleDown,
    BrokerKilled,
    EndsLost,
    LeadersMoved,
    LinkDelayed,
    LinkCut,
    Receiver,
    TenantRefused,
    Silence,
}

/// Who there is for trouble to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    pub workers: usize,
    /// Whether their clocks can be set wrong: only a build with the feature `sabotage` can do that.
    pub clocks: bool,
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

struct Dice(ChaCha8Rng);

/// No trouble lasts longer. So long before the end nothing is waited for any more.
const LONGEST: Duration = Duration::from_secs(25);
/// Partitions are picked from so many, by the remainder.
const MANY: usize = 4;
/// Troubles that chance alone deals between two hands.
const BETWEEN_HANDS: usize = 12;
/// A chaos of this length keeps every promise. Of 3,000 seeds the first hand is over after 127 s at the latest; the rest is for
/// troubles that have to wait when it comes to it.
pub const PROMISED_FROM: Duration = Duration::from_secs(140);

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
            Self::WrongClock { .. } => Class::Clock,
            Self::ScaleUp | Self::ScaleDown { .. } => Class::Scaling,
            Self::Silence => Class::Load,
            Self::KillBroker { .. } | Self::StopBroker { .. } | Self::FreezeBroker { .. } => Class::Broker,
            Self::LoseEnds { .. } => Class::LostEnd,
            Self::MoveLeaders { .. } => Class::Leaders,
            Self::Slow { .. } | Self::Cut { .. } | Self::Refuse { .. } | Self::Hold { .. } | Self::HoldAll => {
                Class::Network
            }
            Self::RefuseTenant { .. } => Class::Tenant,
            _ => Class::Receiver,
        }
    }

    /// Whether it is trouble for the worker in this place.
    pub fn hits(&self, worker: usize) -> bool {
        match *self {
            Self::KillWorker { slot }
            | Self::Zombie { slot }
            | Self::Pause { slot }
            | Self::StopWorker { slot }
            | Self::WrongClock { slot, .. } => slot == worker,
            _ => self.hits_all(),
        }
    }

    /// Whether it is trouble for all workers at once.
    pub fn hits_all(&self) -> bool {
        matches!(self, Self::KillAll | Self::ScaleDown { .. } | Self::LoseEnds { kill: true, .. })
    }
}

// === impl Promise ===

impl Promise {
    pub const ALL: [Self; 15] = [
        Self::Kill,
        Self::Zombie,
        Self::SplitBrain,
        Self::GracefulStop,
        Self::WrongClock,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::BrokerKilled,
        Self::EndsLost,
        Self::LeadersMoved,
        Self::LinkDelayed,
        Self::LinkCut,
        Self::Receiver,
        Self::TenantRefused,
        Self::Silence,
    ];

    /// Whether this trouble is what was promised.
    pub fn is_kept_by(self, fault: &Fault) -> bool {
        match self {
            Self::Kill => matches!(fault, Fault::KillWorker { .. }),
            Self::Zombie => matches!(fault, Fault::Zombie { .. }),
            Self::SplitBrain => matches!(fault, Fault::SplitBrain),
            Self::GracefulStop => matches!(fault, Fault::StopWorker { .. }),
            Self::WrongClock => matches!(fault, Fault::WrongClock { .. }),
            Self::ScaleUp => matches!(fault, Fault::ScaleUp),
            Self::ScaleDown => matches!(fault, Fault::ScaleDown { .. }),
            Self::BrokerKilled => matches!(fault, Fault::KillBroker { .. }),
            Self::EndsLost => matches!(fault, Fault::LoseEnds { .. }),
            Self::LeadersMoved => matches!(fault, Fault::MoveLeaders { .. }),
            Self::LinkDelayed => matches!(fault, Fault::Slow { .. }),
            Self::LinkCut => matches!(fault, Fault::Cut { .. } | Fault::Refuse { .. }),
            Self::Receiver => fault.class() == Class::Receiver,
            Self::TenantRefused => matches!(fault, Fault::RefuseTenant { .. }),
            Self::Silence => matches!(fault, Fault::Silence),
        }
    }

    /// A trouble that keeps it: as chance would have dealt it.
    fn keep(self, dice: &mut Dice, at: Duration, cast: Cast) -> Event {
        loop {
            let event = draw(dice, at, cast);
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
pub fn promised(phase: Duration, cast: Cast) -> Vec<Promise> {
    if phase < PROMISED_FROM { Vec::new() } else { possible(cast) }
}

/// Which of the promises none of these troubles keeps.
pub fn broken<'a>(promised: &[Promise], came: impl Iterator<Item = &'a Fault>) -> Vec<Promise> {
    let mut missing = promised.to_vec();
    came.for_each(|fault| missing.retain(|promise| !promise.is_kept_by(fault)));
    missing
}

/// What can come at all: one worker is one already.
fn possible(cast: Cast) -> Vec<Promise> {
    let can = |promise: &Promise| match promise {
        Promise::ScaleDown => cast.workers > 1,
        Promise::WrongClock => cast.clocks,
        _ => true,
    };
    Promise::ALL.into_iter().filter(can).collect()
}

/// The troubles of `phase`. The same arguments give the same plan.
pub fn plan(seed: u64, phase: Duration, cast: Cast) -> Vec<Event> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let promised = promised(phase, cast);
    loop {
        let events = deal(&mut dice, phase, cast);
        // A hand that takes too long is rare, see `PROMISED_FROM`. It is dealt again.
        if broken(&promised, events.iter().map(|event| &event.fault)).is_empty() {
            return events;
        }
    }
}

fn deal(dice: &mut Dice, phase: Duration, cast: Cast) -> Vec<Event> {
    let mut busy = Busy::new(cast.workers);
    let mut hand = dice.shuffled(possible(cast));
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
            .find_map(|(i, promise)| Some((i, promise.keep(dice, at, cast))).filter(|(_, event)| fits(event)));
        if let Some((i, event)) = played {
            hand.remove(i);
            events.push(event);
        } else if hand.is_empty() || at + LONGEST > phase {
            events.extend(Some(draw(dice, at, cast)).filter(fits));
            drawn += 1;
        }
        if hand.is_empty() && drawn >= BETWEEN_HANDS {
            hand = dice.shuffled(possible(cast));
            drawn = 0;
        }
    }
}

fn draw(dice: &mut Dice, at: Duration, cast: Cast) -> Event {
    let (fault, lasts) = match dice.below(106) {
        0..46 => trouble_for_workers(dice, cast),
        46..62 => trouble_for_brokers(dice),
        62..82 => trouble_for_links(dice),
        82..83 => (Fault::Silence, dice.millis(1_000, 7_000)),
        83..100 => trouble_for_the_receiver(dice),
        100..102 if cast.clocks => {
            let (slot, off) = (dice.index(cast.workers), [3_600_000, 600_000, 60_000][dice.index(3)]);
            let ahead = if dice.below(2) == 0 { off } else { -off };
            (Fault::WrongClock { slot, ahead }, dice.millis(8_000, 14_000))
        }
        100..102 => trouble_for_workers(dice, cast),
        102..103 => {
            // Now and then all of it.
            let kept = [0, dice.below(100)][dice.index(2)];
            let (first, of, kill) = (dice.index(MANY), 1 + dice.index(MANY), dice.below(2) == 0);
            (Fault::LoseEnds { first, of, kept, kill }, dice.millis(500, 3_000))
        }
        _ => {
            use Refusal::{Hang, Limit, RetryAfter, Unavailable};
            let how = [Limit, RetryAfter, Unavailable, Hang][dice.index(4)];
            (Fault::RefuseTenant { tenant: dice.index(TENANTS), how }, dice.millis(12_000, 18_000))
        }
    };
    Event { at, lasts, fault }
}

fn trouble_for_workers(dice: &mut Dice, cast: Cast) -> (Fault, Duration) {
    let (slot, session) = (dice.index(cast.workers), SESSION.as_millis() as u64);
    match dice.below(46) {
        0..14 => (Fault::KillWorker { slot }, dice.millis(100, 4_000)),
        14..17 => (Fault::KillAll, dice.millis(100, 3_000)),
        17..31 => (Fault::Zombie { slot }, dice.millis(session + 2_000, 3 * session)),
        31..34 => (Fault::Pause { slot }, dice.millis(500, session * 2 / 3)),
        34..40 => (Fault::StopWorker { slot }, dice.millis(100, 6_000)),
        40..42 => (Fault::ScaleUp, dice.millis(12_000, LONGEST.as_millis() as u64)),
        42..44 if cast.workers > 1 => (Fault::ScaleDown { left: slot }, dice.millis(4 * session, 6 * session)),
        _ => (Fault::SplitBrain, dice.millis(3_000, 8_000)),
    }
}

fn trouble_for_brokers(dice: &mut Dice) -> (Fault, Duration) {
    let broker = dice.index(BROKERS);
    match dice.below(16) {
        0..5 => (Fault::KillBroker { broker }, dice.millis(1_000, 9_000)),
        5..8 => (Fault::StopBroker { broker }, dice.millis(3_000, 9_000)),
        8..12 => (Fault::FreezeBroker { broker }, dice.millis(2_000, 12_000)),
        _ => (Fault::MoveLeaders { by: 1 + dice.index(BROKERS - 1), every: 1 + dice.index(3) }, Duration::ZERO),
    }
}

fn trouble_for_links(dice: &mut Dice) -> (Fault, Duration) {
    let broker = dice.index(BROKERS);
    match dice.below(20) {
        0..4 => (Fault::Slow { broker, by: dice.millis(20, 300) }, dice.millis(2_000, 10_000)),
        4..7 => (Fault::Cut { broker }, Duration::ZERO),
        7..11 => (Fault::Refuse { broker }, dice.millis(1_000, 10_000)),
        11..18 => {
            let (up, down) = [(true, true), (true, false), (false, true)][dice.index(3)];
            (Fault::Hold { broker, up, down }, dice.millis(1_000, 10_000))
        }
        _ => (Fault::HoldAll, dice.millis(1_000, 8_000)),
    }
}

fn trouble_for_the_receiver(dice: &mut Dice) -> (Fault, Duration) {
    match dice.below(17) {
        0..2 => (Fault::Status { code: [500, 503][dice.index(2)], times: 1 + dice.index(20) }, Duration::ZERO),
        2..4 => (Fault::RetryAfter { times: 1 + dice.index(4) }, Duration::ZERO),
        4..6 => (Fault::Reset { times: 1 + dice.index(10) }, Duration::ZERO),
        6..9 => (Fault::StoreAndReset { times: 1 + dice.index(10) }, Duration::ZERO),
        9..11 => (Fault::Hang { times: 1 + dice.index(4) }, Duration::ZERO),
        11..13 => (Fault::Poison { pick: dice.index(1 << 16) }, dice.millis(2_000, 8_000)),
        _ => (Fault::Outage { held: dice.below(2) == 0 }, dice.millis(1_000, 12_000)),
    }
}
