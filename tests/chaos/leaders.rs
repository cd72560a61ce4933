//! Leaders of partitions move while their brokers are well: as an operator does it, with the two requests of Kafka's own
//! tools (`kafka-reassign-partitions`, `kafka-leader-election`). First a partition prefers another one of its copies, and so
//! nothing moves it back, then the preferred one is elected. The requests are written here, because librdkafka does not know
//! the first, and one JVM per trouble is much for a small machine.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};

/// How long a move may take, with a broker away that must be found out first.
const WITHIN: Duration = Duration::from_secs(90);
/// An election is asked for again after this time: the copy that shall lead may be on a broker that has just gone.
const ELECT_EVERY: Duration = Duration::from_secs(2);
/// How long one broker may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

const ELECT_LEADERS: [i16; 2] = [43, 2];
const ALTER_PARTITION_REASSIGNMENTS: [i16; 2] = [45, 0];
/// Where groups live.
const OFFSETS: &str = "__consumer_offsets";
/// The first copy of those that a partition has.
const PREFERRED: u8 = 0;
/// What an election says when all its partitions have been elected already.
const ELECTION_NOT_NEEDED: i16 = 84;

/// Partitions of a topic that were to get another leader, and those that were seen to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    pub asked: usize,
    pub moved: usize,
}

/// Who shall lead a partition.
struct Move {
    topic: String,
    partition: i32,
    leader: i32,
    /// All copies, and the leader first.
    replicas: Vec<i32>,
}

/// Moves the leader of each `every`th partition of every topic, `by` copies further; of the group's topic all of them, because
/// one of them alone is the group. Returns when all have been seen to lead,
/// or when it has lasted too long.
pub fn move_leaders(brokers: &str, by: usize, every: usize) -> Result<BTreeMap<String, Moved>, String> {
    let deadline = Instant::now() + WITHIN;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("log_level", "0");
    let probe: BaseConsumer = config.create().map_err(|e| e.to_string())?;
    let metadata = again_until(deadline, || probe.fetch_metadata(None, ANSWERS_WITHIN).map_err(|e| e.to_string()))?;
    let moves = moves(&metadata, by, every);
    let addrs: Vec<SocketAddr> =
        metadata.brokers().iter().filter_map(|b| format!("{}:{}", b.host(), b.port()).parse().ok()).collect();
    let (prefer, elect) = (prefer(&moves), elect(&moves));
    again_until(deadline, || ask(&addrs, ALTER_PARTITION_REASSIGNMENTS, &prefer, &[0]))?;
    let mut asked = None::<Instant>;
    let mut leads = vec![false; moves.len()];
    // A leader that was seen once has been there, wherever the next trouble has moved it.
    let seen = again_until(deadline, || {
        if asked.is_none_or(|at| at.elapsed() > ELECT_EVERY) {
            ask(&addrs, ELECT_LEADERS, &elect, &[0, ELECTION_NOT_NEEDED])?;
            asked = Some(Instant::now());
        }
        let now = probe.fetch_metadata(None, ANSWERS_WITHIN).map_err(|e| e.to_string())?;
        leads.iter_mut().zip(&moves).for_each(|(leads, wanted)| *leads |= wanted.is_done(&now));
        if leads.iter().all(|leads| *leads) { Ok(()) } else { Err("not all have moved".to_owned()) }
    });
    let mut out = BTreeMap::<String, Moved>::new();
    for (wanted, leads) in moves.iter().zip(leads) {
        let topic = out.entry(wanted.topic.clone()).or_default();
        topic.asked += 1;
        topic.moved += usize::from(leads);
    }
    if out.values().all(|topic| topic.moved == 0) { seen.map(|()| out) } else { Ok(out) }
}

/// Tries until it succeeds or the time is over.
fn again_until<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            outcome => return outcome,
        }
    }
}

fn moves(metadata: &Metadata, by: usize, every: usize) -> Vec<Move> {
    let mut moves = Vec::new();
    for topic in metadata.topics() {
        let every = if topic.name() == OFFSETS { 1 } else { every as i32 };
        for p in topic.partitions().iter().filter(|p| p.id() % every == 0) {
            let Some(leader) = next_leader(p, by) else { continue };
            let others = p.replicas().iter().copied().filter(|id| *id != leader);
            let replicas = std::iter::once(leader).chain(others).collect();
            moves.push(Move { topic: topic.name().to_owned(), partition: p.id(), leader, replicas });
        }
    }
    moves
}

/// The copy in sync that is `by` further than the one that leads; none if no other is in sync.
fn next_leader(partition: &MetadataPartition, by: usize) -> Option<i32> {
    let mut others: Vec<i32> = partition.isr().iter().copied().filter(|id| *id != partition.leader()).collect();
    others.sort_by_key(|id| (*id < partition.leader(), *id));
    others.get((by - 1) % others.len().max(1)).copied()
}

// === impl Move ===

impl Move {
    fn is_done(&self, metadata: &Metadata) -> bool {
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let partitions = topic.into_iter().flat_map(MetadataTopic::partitions);
        partitions.into_iter().any(|p| p.id() == self.partition && p.leader() == self.leader)
    }
}

// === requests ===

/// Sends a request to one broker after the other until one answers, with one of these codes. Any broker will do: it
/// hands the request on to the controller.
fn ask(brokers: &[SocketAddr], api: [i16; 2], body: &[u8], good: &[i16]) -> Result<(), String> {
    let mut why = "there is no broker".to_owned();
    for broker in brokers {
        match exchange(*broker, api, body) {
            Ok(code) if good.contains(&code) => return Ok(()),
            Ok(code) => why = format!("{broker} answers with error {code}"),
            Err(e) => why = format!("{broker}: {e}"),
        }
    }
    Err(why)
}

/// One request on a connection of its own. The error code of the answer.
fn exchange(broker: SocketAddr, [key, version]: [i16; 2], body: &[u8]) -> io::Result<i16> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    // The number of the request, a client without a name, and no tagged fields.
    request.extend(1_i32.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.push(0);
    request.extend(body);
    let mut socket = TcpStream::connect_timeout(&broker, ANSWERS_WITHIN)?;
    socket.set_read_timeout(Some(ANSWERS_WITHIN))?;
    let length = i32::try_from(request.len()).map_err(io::Error::other)?;
    socket.write_all(&[&length.to_be_bytes(), &request[..]].concat())?;
    // The length, the number of the request, no tagged fields, the time for which it was held back, and then the code.
    let mut answer = [0; 4 + 4 + 1 + 4 + 2];
    socket.read_exact(&mut answer)?;
    Ok(i16::from_be_bytes([answer[13], answer[14]]))
}

/// The body of a request to prefer these leaders.
fn prefer(moves: &[Move]) -> Vec<u8> {
    let mut out = timeout().to_vec();
    topics(&mut out, moves, |out, wanted| {
        out.extend(wanted.partition.to_be_bytes());
        count(out, wanted.replicas.len());
        wanted.replicas.iter().for_each(|id| out.extend(id.to_be_bytes()));
        out.push(0);
    });
    out.push(0);
    out
}

/// The body of a request to elect those that are preferred.
fn elect(moves: &[Move]) -> Vec<u8> {
    let mut out = vec![PREFERRED];
    topics(&mut out, moves, |out, wanted| out.extend(wanted.partition.to_be_bytes()));
    out.extend(timeout());
    out.push(0);
    out
}

/// How long the controller may take.
fn timeout() -> [u8; 4] {
    (ANSWERS_WITHIN.as_millis() as i32).to_be_bytes()
}

/// An array of topics, each with an array of its partitions.
fn topics(out: &mut Vec<u8>, moves: &[Move], mut write: impl FnMut(&mut Vec<u8>, &Move)) {
    let topics: Vec<&[Move]> = moves.chunk_by(|a, b| a.topic == b.topic).collect();
    count(out, topics.len());
    for partitions in topics {
        let name = partitions[0].topic.as_bytes();
        count(out, name.len());
        out.extend(name);
        count(out, partitions.len());
        partitions.iter().for_each(|wanted| write(out, wanted));
        out.push(0);
    }
}

/// The length of what follows, plus one, seven bits at a time.
fn count(out: &mut Vec<u8>, n: usize) {
    let mut left = n + 1;
    while left > 0x7f {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}
