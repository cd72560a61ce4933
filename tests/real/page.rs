//! The page of the service map beside a worker: it follows the group's topics, and the group never knows.

use std::collections::BTreeSet;

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::place::Place;
use crate::PATIENCE;
use crate::servers::api::Api;
use crate::servers::daemon::{Daemon, free_ports};
use crate::servers::spanmill::spanmill;
use crate::servers::wait_until;

#[test]
fn a_page_follows_a_group_of_kafka_also_behind_what_was_trimmed_and_is_no_member() {
    let place = Place::start("mapped", 2);
    let worker = place.worker("worker", &[]);
    let [early, late] = free_ports();
    let (mut first, of_first) = page(&place, early);
    let load = place.produce(&["--rate", "300"]);
    wait_until("the page has the calls of the shop", PATIENCE, || has(&of_first, 20));
    wait_until("deltas are trimmed", PATIENCE, || match place.bounds("mapped-group-deltas", 0).0 {
        0 => Err("the first record is still there".to_owned()),
        _ => Ok(()),
    });
    // Most of its label sets were spelled out before what is left: it knows them from a snapshot.
    let (mut second, of_second) = page(&place, late);
    wait_until("a second page shows the same", PATIENCE, || match (edges(&of_first), edges(&of_second)) {
        (Ok(one), Ok(other)) if one == other => Ok(()),
        (one, other) => Err(format!("{one:?} and {other:?}")),
    });
    assert_eq!(
        members(&place),
        BTreeSet::from([("mapped-group".to_owned(), 1), ("mapped-group-shards".to_owned(), 1)])
    );
    for page in [&mut first, &mut second] {
        assert!(page.terminate(PATIENCE).success(), "{}", page.tail());
    }
    place.end(load);
    super::scene::stop(worker);
}

fn page(place: &Place, port: u16) -> (Daemon, Api) {
    let (file, listen) = (place.file(), format!("127.0.0.1:{port}"));
    let config = file.to_str().expect("a temporary path is UTF-8");
    let args = ["ui", "--config", config, "--listen", &listen, "--resolution", "5s", "--history", "1h"];
    (spanmill("page", &args), Api::new(&listen))
}

/// The edges of a page, by their ends.
fn edges(api: &Api) -> Result<BTreeSet<String>, String> {
    let graph: serde_json::Value =
        serde_json::from_str(&api.text("/api/v1/service-graph")?).map_err(|e| e.to_string())?;
    let edges = graph["edges"].as_array().ok_or("no edges")?;
    Ok(edges.iter().map(|edge| format!("{} {}", edge["client"], edge["server"])).collect())
}

fn has(api: &Api, least: usize) -> Result<(), String> {
    let found = edges(api)?.len();
    if found >= least { Ok(()) } else { Err(format!("{found} edges")) }
}

/// All groups of the broker, with the number of their members.
fn members(place: &Place) -> BTreeSet<(String, usize)> {
    let consumer: BaseConsumer = place.client().create().expect("a client");
    let groups = consumer.fetch_group_list(None, PATIENCE).expect("the broker answers");
    groups.groups().iter().map(|group| (group.name().to_owned(), group.members().len())).collect()
}
