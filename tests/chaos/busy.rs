//! What is in trouble, and until when.

use std::time::Duration;

use super::{BROKERS, Event, Fault};

/// A broker needs this long to start and to catch up.
const BROKER_STARTS: Duration = Duration::from_secs(20);
/// A worker needs this long to start and to be let in.
const WORKER_STARTS: Duration = Duration::from_secs(4);
/// Leaders have moved, and clients have found them, after this long.
const LEADERS_MOVE: Duration = Duration::from_secs(8);
/// All brokers together need this long.
const CLUSTER_STARTS: Duration = Duration::from_secs(30);

/// What a trouble needs for itself while it lasts.
#[derive(Debug, Default)]
pub struct Busy {
    slots: Vec<Duration>,
    brokers: [Duration; BROKERS],
    /// One broker is away until then.
    away: Duration,
    receiver: Duration,
    extra: Duration,
    load: Duration,
    leaders: Duration,
}

// === impl Busy ===

impl Busy {
    pub fn new(workers: usize) -> Self {
        Self { slots: vec![Duration::ZERO; workers], ..Self::default() }
    }

    /// Whether everything is free that the event needs; then it is taken.
    pub fn take(&mut self, event: &Event) -> bool {
        let Event { at, lasts, ref fault } = *event;
        let until = at + lasts;
        match fault {
            Fault::KillWorker { slot }
            | Fault::Zombie { slot }
            | Fault::Pause { slot }
            | Fault::StopWorker { slot }
            | Fault::WrongClock { slot, .. } => {
                let others = self.slots.iter().enumerate().filter(|(i, free)| i != slot && **free <= at).count();
                // The only worker may be hit as well: then no other worker has to be left alone.
                let left = others > 0 || self.slots.len() == 1;
                left && claim(&mut self.slots[*slot], at, until + WORKER_STARTS)
            }
            Fault::KillAll => self.all_workers(at, until),
            Fault::ScaleDown { .. } => {
                let free = self.all_workers(at, until);
                if free {
                    self.extra = until;
                }
                free
            }
            Fault::LoseEnds { kill, .. } => {
                let back = until + CLUSTER_STARTS;
                let all = self.brokers.iter().chain([&self.away, &self.leaders]);
                let free = all.into_iter().all(|free| *free <= at) && (!kill || self.all_workers(at, back));
                if free {
                    self.brokers.fill(back);
                    (self.away, self.leaders) = (back, back);
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
            Fault::Poison { .. } | Fault::Outage { .. } | Fault::RefuseTenant { .. } => {
                claim(&mut self.receiver, at, until)
            }
            _ => self.receiver <= at,
        }
    }

    /// Whether no worker is in trouble and there is none too many; then all are in trouble.
    fn all_workers(&mut self, at: Duration, until: Duration) -> bool {
        let free = self.slots.iter().all(|free| *free <= at) && self.extra <= at;
        if free {
            self.slots.fill(until + WORKER_STARTS);
        }
        free
    }
}

fn claim(free: &mut Duration, at: Duration, until: Duration) -> bool {
    let is_free = *free <= at;
    if is_free {
        *free = until;
    }
    is_free
}
