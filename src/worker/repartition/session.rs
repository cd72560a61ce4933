//! One session of the stage: a member of its group, a consumer and a producer of transactions, until one of them fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;

use super::input::{AGAIN, Head, Input, Read, Target};
use super::merge::{self, Lane};
use super::pace::{self, Pace};
use super::start;
use crate::core::model::Millis;
use crate::core::repartition::Repartition;
use crate::worker::kafka::broker_clock::wall_clock;
use crate::worker::kafka::fetch::FetchView;
use crate::worker::kafka::members::{Member, OnChange, Partition};
use crate::worker::kafka::positions::{Committed, Positions};
use crate::worker::kafka::topics::Topics;
use crate::worker::kafka::transactions::{NotCommitted, Outgoing, Transactions};
use crate::worker::kafka::{Fetcher, KafkaError, client};
use crate::worker::task::{Clients, Held, Part};
use crate::worker::telemetry::{Condition, Reporter};

/// A transaction is committed after so long, or with so many bytes.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
const COMMIT_BYTES: usize = 16 << 20;
/// Records taken in one turn, between looks at the group.
const RECORDS_PER_TURN: usize = 256;
/// How often workers publish how far they are, and look at the others; how often they look while they wait for these.
const TELL_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nothing is awaited at a time.
const MOMENT: Duration = Duration::from_millis(20);
/// How often lag and memory are shown.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// What may be fetched ahead of one partition.
const FETCH_AHEAD: usize = 2 << 20;
/// It takes a fourth of what the tasks may fetch ahead.
const SHARE: usize = 4;

/// Where partitions end, as librdkafka reports it.
type Ends = Arc<Mutex<BTreeMap<Partition, i64>>>;

/// A source topic.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) topic: String,
    pub(super) partitions: i32,
    pub(super) target: Arc<Target>,
    /// The latest time that may be passed on.
    ceiling: Millis,
}

/// What the group has decided.
enum Change {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

/// Keeps the decisions until the session carries them out, which it does before it commits anything more.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<Change>>>);

/// The open transaction.
struct Transaction {
    /// The membership under which it began.
    member: ConsumerGroupMetadata,
    since: Instant,
    bytes: usize,
}

/// A session.
pub(super) struct Session<'a> {
    clients: &'a Clients,
    stop: &'a AtomicBool,
    trouble: &'a Reporter,
    lags: Reporter,
    topics: Topics,
    positions: Positions,
    member: Member,
    changes: Changes,
    fetcher: Fetcher,
    ends: Ends,
    producer: Transactions,
    upstream: Vec<Upstream>,
    inputs: Vec<Input>,
    /// Partitions that could not be opened yet, and when that is retried.
    unopened: (Vec<Partition>, Option<Instant>),
    split: Repartition,
    pace: Pace,
    /// Looks how far other workers are.
    others: Positions,
    /// When it has published its progress, and looked at that of others.
    told: Instant,
    compared: Option<Instant>,
    /// Whether records wait for other workers.
    waits: bool,
    open: Option<Transaction>,
    /// No transaction begins before.
    rests_until: Option<Instant>,
    looked: Instant,
    shown: Instant,
    held: Held,
}

// === impl Changes ===

impl OnChange for Changes {
    fn assigned(&self, partitions: Vec<Partition>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Change::Assigned(partitions));
    }

    fn revoked(&self, partitions: Vec<Partition>, _: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Change::Revoked(partitions));
    }
}

// === impl Session ===

impl<'a> Session<'a> {
    /// Prepares topics and joins the group.
    pub(super) fn open(clients: &'a Clients, stop: &'a AtomicBool, trouble: &'a Reporter) -> Result<Self, KafkaError> {
        let (kafka, group) = (&clients.config.kafka, clients.names.repartition_group());
        let topics = Topics::new(kafka)?.watched(&clients.telemetry);
        let upstream = look_up(clients, &topics)?;
        let positions = Positions::new(kafka, &group)?;
        start::prepare((kafka, &positions), &upstream, stop)?;
        let producer = Transactions::connect(kafka, rand::random())?;
        let ends = Ends::default();
        let seen = Arc::clone(&ends);
        let on_seen = Box::new(move |topic: &str, partition: i32, view: FetchView| {
            if let Some(end) = view.end {
                let p = Partition { topic: topic.to_owned(), partition };
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(p, end);
            }
        });
        let partitions = upstream.iter().map(|u| u.partitions.unsigned_abs() as usize).sum::<usize>().max(1);
        let wished = clients.config.worker.fetch_buffer_bytes.min(FETCH_AHEAD);
        let fetcher = Fetcher::new(kafka, clients.memory.fetch_ahead(wished, SHARE * partitions), on_seen)?;
        let changes = Changes::default();
        let names = upstream.iter().map(|u| u.topic.clone()).collect();
        let member = Member::join(kafka, &group, names, Box::new(changes.clone()))?;
        Ok(Self {
            clients,
            stop,
            trouble,
            lags: clients.telemetry.conditions().reporter(Condition::Lag, "repartition"),
            topics,
            positions,
            member,
            changes,
            fetcher,
            ends,
            producer,
            upstream,
            inputs: Vec::new(),
            unopened: (Vec::new(), None),
            split: Repartition::default(),
            pace: Pace::new(
                client::session(kafka),
                clients.config.core.service_graphs.wait,
                clients.config.core.time.max_future,
            ),
            others: Positions::hasty(kafka, &group)?,
            told: Instant::now(),
            compared: None,
            waits: false,
            open: None,
            rests_until: None,
            looked: Instant::now(),
            shown: Instant::now(),
            held: Held::new(&clients.memory),
        })
    }

    /// Works until it is stopped, or something fails that only another session can mend.
    pub(super) fn serve(&mut self) -> Result<(), KafkaError> {
        let ended = self.work();
        if ended.is_err()
            && self.open.take().is_some()
            && let Err(error) = self.producer.abort()
        {
            // The brokers abort it themselves, later.
            tracing::debug!(%error, "cannot abort the transaction of a session that has failed");
        }
        ended
    }

    fn work(&mut self) -> Result<(), KafkaError> {
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(error) = self.member.serve() {
                tracing::debug!(%error, "consumer error of the repartition group");
            }
            if let Some(why) = self.member.fatal() {
                return Err(KafkaError::Topic(format!("the repartition group has excluded this worker: {why}")));
            }
            self.follow_group()?;
            self.open_inputs()?;
            self.fetcher.serve();
            let moved = self.turn()?;
            self.tell()?;
            // Others may wait for this worker as it waits for them.
            let due = |t: &Transaction| self.waits || t.since.elapsed() >= COMMIT_EVERY || t.bytes >= COMMIT_BYTES;
            if self.open.as_ref().is_some_and(due) {
                self.commit()?;
            }
            self.compare();
            self.look()?;
            self.show();
            if !moved {
                std::thread::park_timeout(MOMENT);
            }
        }
        self.commit()
    }

    /// Carries out what the group has decided.
    fn follow_group(&mut self) -> Result<(), KafkaError> {
        let changes = std::mem::take(&mut *self.changes.0.lock().unwrap_or_else(PoisonError::into_inner));
        for change in changes {
            match change {
                Change::Assigned(partitions) => {
                    self.unopened.0.extend(partitions);
                    self.unopened.1 = None;
                }
                Change::Revoked(partitions) => {
                    self.unopened.0.retain(|p| !partitions.contains(p));
                    let (gone, stay) =
                        std::mem::take(&mut self.inputs).into_iter().partition(|i| partitions.contains(&i.partition));
                    self.inputs = stay;
                    // The transaction may have read from them: their next owner reads that, too.
                    let gone: Vec<Input> = gone;
                    if self.open.is_some() {
                        self.abort("partitions were revoked")?;
                    }
                    gone.into_iter().for_each(|input| input.close(&self.fetcher));
                }
            }
        }
        Ok(())
    }

    /// Opens the partitions that the group has given to this worker, where the group has their offsets.
    fn open_inputs(&mut self) -> Result<(), KafkaError> {
        let (waiting, again) = &mut self.unopened;
        if waiting.is_empty() || again.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        let found = match self.positions.committed(waiting) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "cannot look up where to repartition from, retrying");
                *again = Some(Instant::now() + AGAIN);
                return Ok(());
            }
        };
        waiting.clear();
        *again = None;
        for (partition, committed) in found {
            let Some(upstream) = self.upstream.iter().find(|u| u.topic == partition.topic) else { continue };
            let target = Arc::clone(&upstream.target);
            let (low, high) = self.positions.bounds(&partition)?;
            let place = format!("repartition {}[{}]", partition.topic, partition.partition);
            let trouble = self.clients.telemetry.conditions().reporter(Condition::Fetch, place);
            let from = committed.as_ref().map_or(low, |committed| committed.offset);
            let last = committed.and_then(|committed| pace::until(&committed.note));
            let mut input = Input::open(&self.fetcher, (partition, from.max(low), last), target, trouble)?;
            if from < low {
                self.lost(&input.partition, from, low);
            } else if from > high {
                input.stand(high);
            }
            self.inputs.push(input);
        }
        // The inputs have one order, whatever the group's is.
        self.inputs.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(())
    }

    /// Passes on what is there.
    fn turn(&mut self) -> Result<bool, KafkaError> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        let mut moved = false;
        self.bound();
        for _ in 0..RECORDS_PER_TURN {
            for at in 0..self.inputs.len() {
                if matches!(self.inputs[at].read(), Read::Gone) {
                    self.skip_gone(at)?;
                }
            }
            let Some(at) = self.choose() else { break };
            if !self.begin()? {
                break;
            }
            let Some(head) = self.inputs[at].take() else { break };
            let target = Arc::clone(&self.inputs[at].target);
            if let Err(why) = self.pass_on(&target, &head) {
                self.fail(&why)?;
                break;
            }
            moved = true;
            if self.open.as_ref().is_some_and(|t| t.bytes >= COMMIT_BYTES) {
                break;
            }
        }
        Ok(moved)
    }

    /// Looks how far each topic may be passed on now.
    fn bound(&mut self) {
        let (present, bounds) = (Instant::now(), (self.pace.lead(), self.pace.patience()));
        for upstream in &mut self.upstream {
            let own = self.inputs.iter().filter(|input| input.partition.topic == upstream.topic);
            let own = own.filter_map(|input| input.ceiling(bounds, present)).min().unwrap_or(Millis::MAX);
            upstream.ceiling = own.min(self.pace.ceiling(&upstream.topic, present));
        }
    }

    /// Which input's record comes next.
    fn choose(&mut self) -> Option<usize> {
        let (present, now) = (Instant::now(), wall_clock());
        let ceiling = |topic: &str| {
            self.upstream.iter().find(|u| u.topic == topic).map_or(Millis::MAX, |upstream| upstream.ceiling)
        };
        let lanes: Vec<Lane> =
            self.inputs.iter().map(|input| input.lane(ceiling(&input.partition.topic), (present, now))).collect();
        self.waits = lanes.contains(&Lane::Held);
        merge::next(lanes.iter().copied(), now)
    }

    /// Whether other workers read some of the partitions.
    fn has_company(&self) -> bool {
        let all: usize = self.upstream.iter().map(|u| u.partitions.unsigned_abs() as usize).sum();
        self.inputs.len() < all
    }

    /// Publishes for other workers how far the partitions of this one are, also those that are silent.
    fn tell(&mut self) -> Result<(), KafkaError> {
        if self.told.elapsed() >= TELL_EVERY && self.has_company() && !self.inputs.is_empty() && self.begin()? {
            self.commit()?;
        }
        Ok(())
    }

    /// Looks how far other workers are.
    fn compare(&mut self) {
        let every = if self.waits { LOOK_EVERY } else { TELL_EVERY };
        if self.compared.is_some_and(|compared| compared.elapsed() < every) {
            return;
        }
        self.compared = Some(Instant::now());
        let is_own = |p: &Partition| self.inputs.iter().any(|input| input.partition == *p);
        let all = self.upstream.iter().flat_map(|u| start::partitions(&u.topic, u.partitions));
        let others: Vec<Partition> = all.filter(|p| !is_own(p)).collect();
        if others.is_empty() {
            return self.pace.learn(Vec::new(), Instant::now());
        }
        match self.others.committed(&others) {
            Ok(found) => self.pace.learn(found, Instant::now()),
            Err(error) => tracing::debug!(%error, "cannot look how far other workers are, retrying"),
        }
    }

    /// Ensures that a transaction is open; returns whether there is one.
    fn begin(&mut self) -> Result<bool, KafkaError> {
        if self.open.is_some() {
            return Ok(true);
        }
        // Between generations there is none. What is read under one that ends meanwhile is aborted.
        let Some(member) = self.member.metadata() else { return Ok(false) };
        self.producer.begin()?;
        self.open = Some(Transaction { member, since: Instant::now(), bytes: 0 });
        Ok(true)
    }

    /// Produces the pieces of a record.
    fn pass_on(&mut self, target: &Target, head: &Head) -> Result<(), NotCommitted> {
        let (producer, mut failed, mut pieces, mut bytes) = (&self.producer, None, 0, 0);
        let spans = self.split.split(target.encoding, &head.value, target.partitions, &mut |partition, value| {
            if failed.is_some() {
                return;
            }
            let record = Outgoing {
                topic: &target.topic,
                partition: i32::try_from(partition).unwrap_or_default(),
                key: head.key.as_deref(),
                value,
                headers: head.headers.as_ref(),
                timestamp: head.timestamp,
            };
            failed = producer.send(record).err();
            (pieces, bytes) = (pieces + 1, bytes + value.len());
        });
        if let Some(transaction) = &mut self.open {
            transaction.bytes += bytes;
        }
        self.clients.telemetry.repartition().passed_on(pieces, spans as u64);
        failed.map_or(Ok(()), Err)
    }

    /// Commits the open transaction, if there is one.
    fn commit(&mut self) -> Result<(), KafkaError> {
        let Some(transaction) = &self.open else { return Ok(()) };
        let (now, company) = (wall_clock(), self.has_company());
        let telling = self.inputs.iter().filter(|input| input.is_read() && (company || input.is_ahead()));
        let offsets: Vec<_> = telling
            .map(|input| {
                let note = pace::note(input.until(now));
                (input.partition.clone(), Committed { offset: input.next, note })
            })
            .collect();
        self.told = Instant::now();
        match self.producer.commit(&offsets, &transaction.member) {
            Ok(()) => {
                self.open = None;
                self.inputs.iter_mut().for_each(Input::commits);
                self.clients.telemetry.repartition().committed();
                self.trouble.met();
                Ok(())
            }
            Err(why) => self.fail(&why),
        }
    }

    /// The open transaction cannot be committed.
    fn fail(&mut self, why: &NotCommitted) -> Result<(), KafkaError> {
        let NotCommitted::Abort(why) = why else {
            // The next session learns from the group what has become of it.
            return Err(KafkaError::Topic(format!("a transaction was given up: {why}")));
        };
        self.trouble.unmet(format!("source topics are not repartitioned: {why}; retrying"));
        // What fails at once again would fill the log of the brokers with aborted records.
        self.rests_until = Some(Instant::now() + AGAIN);
        self.abort(why)
    }

    /// Aborts the open transaction, and reads again what it had read.
    fn abort(&mut self, why: &str) -> Result<(), KafkaError> {
        tracing::info!(why, "aborting a transaction of the repartition stage; its records are read again");
        self.open = None;
        self.clients.telemetry.repartition().aborted();
        self.producer.abort()?;
        for input in self.inputs.iter_mut().filter(|input| input.is_ahead()) {
            let committed = input.committed;
            input.rewind(&self.fetcher, committed)?;
        }
        Ok(())
    }

    /// Continues where a partition begins now: what lay before was deleted before it was read.
    fn skip_gone(&mut self, at: usize) -> Result<(), KafkaError> {
        // What was passed on before the gap counts first.
        self.commit()?;
        let input = &mut self.inputs[at];
        let (low, high) = self.positions.bounds(&input.partition)?;
        let from = input.next;
        if from > high {
            input.stand(high);
            return Ok(());
        }
        let to = low.max(from);
        input.rewind(&self.fetcher, to)?;
        let partition = input.partition.clone();
        if to > from {
            self.lost(&partition, from, to);
        }
        Ok(())
    }

    fn lost(&self, p: &Partition, from: i64, to: i64) {
        self.clients.telemetry.repartition().lost(from.abs_diff(to));
        tracing::error!(
            topic = p.topic,
            partition = p.partition,
            from,
            to,
            "records expired before they were repartitioned, skipping them; increase the retention of the topic"
        );
    }

    /// Looks from time to time which source topics there are.
    fn look(&mut self) -> Result<(), KafkaError> {
        if self.looked.elapsed() < client::refreshes(&self.clients.config.kafka) {
            return Ok(());
        }
        self.looked = Instant::now();
        // It takes a while, and an open transaction has little time.
        self.commit()?;
        let upstream = match look_up(self.clients, &self.topics) {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::debug!(%error, "cannot check the source topics");
                return Ok(());
            }
        };
        let is_known = |u: &Upstream| self.upstream.iter().any(|known| known.topic == u.topic);
        let (mut upstream, new): (Vec<_>, Vec<_>) = upstream.into_iter().partition(is_known);
        start::prepare((&self.clients.config.kafka, &self.positions), &new, self.stop)?;
        let changed = !new.is_empty() || upstream.len() < self.upstream.len();
        upstream.extend(new);
        for input in &mut self.inputs {
            if let Some(found) = upstream.iter().find(|u| u.topic == input.partition.topic) {
                input.target = Arc::clone(&found.target);
            }
        }
        self.upstream = upstream;
        if changed {
            self.member.follow(self.upstream.iter().map(|u| u.topic.clone()).collect(), false)?;
        }
        Ok(())
    }

    /// Shows how far it is.
    fn show(&mut self) {
        if self.shown.elapsed() < SHOW_EVERY {
            return;
        }
        self.shown = Instant::now();
        let now = wall_clock();
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut unread, mut behind) = (0, 0);
        for input in &self.inputs {
            let records = input.unread(ends.get(&input.partition).copied().unwrap_or_default());
            let time = input.head.as_ref().map(|head| head.timestamp).or(input.last);
            if let (true, Some(time)) = (records > 0, time) {
                behind = behind.max(now - time);
            }
            unread += records;
        }
        drop(ends);
        self.clients.telemetry.repartition().lags(unread, behind);
        let most = self.clients.config.admin.ready_max_lag;
        self.lags.says((behind > most).then(|| {
            format!(
                "the repartition stage is {} s behind ({unread} records of its source partitions are unread); it \
                 catches up, or needs more workers",
                behind / 1_000
            )
        }));
        self.held.set(Part::Fetch, self.inputs.len() * self.fetcher.memory());
    }
}

/// The source topics there are, and those to which they are repartitioned.
fn look_up(clients: &Clients, topics: &Topics) -> Result<Vec<Upstream>, KafkaError> {
    let (kafka, names) = (&clients.config.kafka, &clients.names);
    let targets: BTreeMap<String, i32> = topics.all_sources()?.into_iter().collect();
    let upstream = topics.all_upstream()?.into_iter().filter_map(|(topic, partitions)| {
        let by_trace = names.by_trace(&topic);
        let count = u32::try_from(*targets.get(&by_trace)?).ok()?;
        let target = Target { topic: by_trace, partitions: count, encoding: kafka.encoding_of(&topic) };
        Some(Upstream { topic, partitions, target: Arc::new(target), ceiling: Millis::MAX })
    });
    Ok(upstream.collect())
}
