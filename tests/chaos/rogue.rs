//! A worker that the group knows nothing of: the product's own, but in a consumer group of its own, where it is given
//! every partition and every shard. It works on the same topics as the others and never learns that they are not its own,
//! so only the journals stand between it and them. No configuration file can ask for that.

use std::path::Path;
use std::time::Duration;

use spanmill::config::settings::Secret;
use spanmill::worker::Worker;
use spanmill::worker::telemetry::{Telemetry, log};

/// Works until it is killed.
pub fn run(config: &Path) -> ! {
    #[cfg(feature = "sabotage")]
    if let Ok(rule) = std::env::var("SABOTAGE") {
        assert!(spanmill::core::journal::sabotage::switch_off(&rule), "{rule}: there is no such rule");
    }
    let mut config = spanmill::config::load_from(Some(config), &[]).expect("a configuration of ours").config;
    let group = format!("{}-rogue", config.kafka.group);
    config.kafka.properties.insert("group.id".to_owned(), Secret::new(group));
    log::init(&config.log.level, config.log.format, std::io::stderr).expect("a level of ours");
    let worker = Worker::start(config, Telemetry::new()).expect("a worker starts");
    while worker.alive() {
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the rogue has ended: {:?}", worker.stop());
}
