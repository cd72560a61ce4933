//! The groups that a worker belongs to, and its backoff from them when they evict it repeatedly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::config::settings::WorkerStage;
use crate::core::model::Millis;
use crate::worker::kafka::KafkaError;
use crate::worker::kafka::members::{Member, OnChange, Partition};
use crate::worker::task::{Clients, Groups};
use crate::worker::telemetry::{Telemetry, flood};

/// How long an unsteady worker backs off from the groups, at the least. Half as much may be added by chance, so that
/// several do not come back together.
const REST: Duration = Duration::from_secs(30);
/// How long the groups are waited for at a time; what happens in them ends the wait.
const MOMENT: Duration = Duration::from_millis(100);

/// The groups that this worker belongs to: one assigns the source partitions, the other the shards, so that every
/// worker gets its part of both. With one stage alone, it joins the group of that stage, and only asks the other.
pub(super) struct Membership {
    spans: Arc<Member>,
    shards: Arc<Member>,
    /// When it joins again, while it backs off.
    rests_until: Option<Instant>,
}

// === impl Membership ===

impl Membership {
    /// Joins the groups of `stage`, one for the topics `sources`; each group has an `on_change` of its own.
    pub(super) fn join(
        clients: &Clients,
        groups: &Groups,
        (stage, sources): (WorkerStage, Vec<String>),
        on_change: impl Fn() -> Box<dyn OnChange>,
    ) -> Result<Self, KafkaError> {
        let (kafka, names) = (&clients.config.kafka, &clients.names);
        let join = |other, group: &str, topics| {
            let member = if stage == other {
                Member::observe(kafka, group, on_change())
            } else {
                Member::join(kafka, group, topics, on_change())
            };
            member.map(Arc::new)
        };
        let membership = Self {
            spans: join(WorkerStage::Series, &kafka.group, sources)?,
            shards: join(WorkerStage::Spans, &names.shards_group(), vec![names.deltas()])?,
            rests_until: None,
        };
        groups.set(&membership.spans, &membership.shards);
        Ok(membership)
    }

    /// The source topics have changed.
    pub(super) fn follow(&self, sources: Vec<String>) {
        if self.spans.observes() {
            return;
        }
        if let Err(error) = self.spans.follow(sources, self.rests_until.is_some()) {
            tracing::error!(%error, "cannot join the consumer group for other topics");
        }
    }

    /// Polls both groups, then waits a moment for their next event.
    pub(super) fn serve(&self) {
        self.serve_now();
        std::thread::park_timeout(MOMENT);
    }

    /// Serves both groups. Never waits.
    pub(super) fn serve_now(&self) {
        for member in self.both() {
            let Some(error) = member.serve() else { continue };
            let text = error.to_string();
            let group = member.group();
            // librdkafka repeats a lasting error every second. Each group has a line: a remedy for one alone does not help.
            let Some(held_back) = flood::may_say(&format!("group {group}: {}", flood::gist(&text))) else { continue };
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                tracing::warn!(
                    error = text,
                    held_back,
                    group,
                    "this worker may not join the group: grant Read on it. Retrying"
                );
            } else {
                tracing::warn!(error = text, held_back, group, "group consumer error");
            }
        }
    }

    /// Leaves the groups for a while if the worker is `unsteady` and another worker can do its part; joins them again
    /// after the backoff.
    pub(super) fn rest_if(&mut self, unsteady: bool, telemetry: &Telemetry) {
        if self.rests_until.is_some_and(|until| Instant::now() >= until) {
            self.rests_until = None;
            tracing::info!("rejoining the consumer group after the backoff");
            for member in self.joining() {
                if let Err(error) = member.rejoin() {
                    tracing::error!(%error, "cannot rejoin the consumer group");
                }
            }
        } else if unsteady && self.has_company() {
            let rest = REST.mul_f64(1.0 + rand::random::<f64>() / 2.0);
            self.rests_until = Some(Instant::now() + rest);
            telemetry.rests();
            tracing::warn!(
                seconds = rest.as_secs(),
                "worker repeatedly evicted from the consumer group, leaving it for a while; other workers take its \
                 partitions. Check CPU and the network to the brokers, or raise session.timeout.ms in \
                 kafka.properties"
            );
            self.joining().for_each(Member::leave);
        }
    }

    /// Whether a group that this worker is in has other members.
    fn has_company(&self) -> bool {
        self.joining().any(|member| match member.size() {
            Ok(members) => members > 1,
            Err(error) => {
                tracing::debug!(%error, "cannot list the other members of the group");
                false
            }
        })
    }

    /// The error by which this worker has left a group permanently.
    pub(super) fn fatal(&self) -> Option<String> {
        self.both().into_iter().find_map(Member::fatal)
    }

    /// Whether the worker has joined its groups.
    pub(super) fn joined(&self) -> bool {
        self.rests_until.is_none() && self.joining().all(Member::joined)
    }

    /// The group of the other stage, if this worker has one alone and that group has no member.
    ///
    /// # Errors
    /// When the group does not answer.
    pub(super) fn missing_stage(&self) -> Result<Option<&str>, KafkaError> {
        let Some(other) = self.both().into_iter().find(|member| member.observes()) else { return Ok(None) };
        Ok((other.size()? == 0).then(|| other.group()))
    }

    /// The source partitions that it owns.
    pub(super) fn sources(&self) -> Vec<Partition> {
        self.spans.owned()
    }

    /// Everything that it owns.
    pub(super) fn owned(&self) -> Vec<Partition> {
        [self.spans.owned(), self.shards.owned()].concat()
    }

    /// Where partitions end, also those of other workers.
    pub(super) fn ends(&self, partitions: &[Partition]) -> Result<Vec<(Partition, i64)>, KafkaError> {
        self.spans.ends(partitions)
    }

    /// The first offset of each partition whose record has this time or a later one; its end if there is none.
    pub(super) fn offsets_at(
        &self,
        partitions: &[Partition],
        time: Millis,
    ) -> Result<Vec<(Partition, i64)>, KafkaError> {
        self.spans.offsets_at(partitions, time)
    }

    /// Commits the positions of the tasks to the groups.
    pub(super) fn commit(&self, positions: &[(Partition, i64)]) {
        for member in self.both() {
            let owned = member.owned();
            let ours: Vec<_> = positions.iter().filter(|(p, _)| owned.contains(p)).cloned().collect();
            member.commit(&ours);
        }
    }

    /// The groups that this worker joins.
    fn joining(&self) -> impl Iterator<Item = &Member> {
        self.both().into_iter().filter(|member| !member.observes())
    }

    fn both(&self) -> [&Member; 2] {
        [&self.spans, &self.shards]
    }
}
