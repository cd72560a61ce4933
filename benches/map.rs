//! Memory and time of the service map: what a page that follows a group takes when half a day of points is kept.
//!
//! `cargo bench --bench map --no-default-features` prints one JSON line: 5,264 label sets of 50 services in 19 series each
//! (about 100,000), counted by two sources in each of 720 points of a minute (`-- --sets N --points N` for others).
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints its result")]

mod shard;

use shard::{FIRST, Source, memory, timed};
use spanmill::tools::map::{GraphQuery, Map, MapSettings};

const POINT: i64 = 60_000;
const SOURCES: i32 = 2;
/// Series of a label set: two counters, 15 buckets, sum and count.
const SERIES: u64 = 19;

fn main() {
    let (sets, points) = (argument("--sets", 5_264), argument("--points", 720));
    let mut sources: Vec<Source> = (0..SOURCES).map(|p| Source::new(p, 0, sets)).collect();
    let settings = MapSettings {
        step: 15_000,
        resolution: POINT,
        history: Some(POINT * points.cast_signed()),
        points: 1_440,
        memory: 1 << 30,
        whole: false,
    };
    let before = memory("VmRSS");
    let mut map = Map::new(settings);
    let mut adding = 0.0;
    for n in 0..points.cast_signed() {
        for source in &mut sources {
            let records = source.step(FIRST + n * POINT);
            adding += timed(|| records.iter().for_each(|r| assert!(map.add(0, r).expect("a delta record")))).1;
        }
        adding += timed(|| map.tidy()).1;
    }
    let query = GraphQuery { tenant: "shop", ..GraphQuery::default() };
    let (graph, first) = timed(|| map.graph(&query));
    assert_eq!(graph.nodes.len() as u64, sets.min(50));
    let again = timed(|| map.graph(&query)).1;
    let service = timed(|| map.service("shop", &graph.nodes[0].id, None, Some(12 * 3_600_000)).expect("a service")).1;
    let ns = adding * 1e9 / (sets * points * SOURCES.unsigned_abs() as u64) as f64;
    let (series, own, rss) = (sets * SERIES, map.bytes() as f64 / (1 << 20) as f64, memory("VmRSS") - before);
    println!(
        r#"{{"bench":"map","series":{series},"points":{points},"own_mib":{own:.0},"rss_mib":{rss:.0},"add_ns_per_set":{ns:.0},"first_graph_ms":{:.1},"graph_ms":{:.1},"service_ms":{:.1}}}"#,
        first * 1e3,
        again * 1e3,
        service * 1e3
    );
}

fn argument(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().map_or(default, |word| word.parse().expect("a number"))
}
