//! What has to be true under failure, shown on the embedded broker of librdkafka: the real program as child processes, a
//! receiver that checks every sample, and a load whose result is known.
#![cfg(all(feature = "kafka", feature = "http"))]
#![allow(clippy::panic, clippy::print_stdout, reason = "tests and their helpers fail by panicking")]
#![allow(unreachable_pub, reason = "a test has no outside")]
#![allow(clippy::disallowed_methods, reason = "tests meet the real clock")]

mod embedded {
    pub mod load;
    pub mod scene;
    pub mod worker;

    use std::time::{Duration, Instant};

    /// The source topic.
    pub const SOURCE: &str = "spans";
    /// How long anything may take: the machine may be slow and busy.
    pub const PATIENCE: Duration = Duration::from_secs(90);

    /// Polls until `probe` has an answer.
    ///
    /// # Panics
    /// When the deadline passes; the message carries the last reason.
    pub fn wait_until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
        let start = Instant::now();
        loop {
            match probe() {
                Ok(answer) => return answer,
                Err(reason) if start.elapsed() > within => panic!("{what}: not within {within:?}: {reason}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

use embedded::scene::Scene;

#[test]
fn two_workers_come_to_the_exact_totals() {
    let mut scene = Scene::new(1, 1);
    let (mut one, mut two) = (scene.worker(), scene.worker());
    let load = scene.load();
    one.runs("span", |n| n > 0);
    two.runs("span", |n| n > 0);
    scene.goes_on();
    scene.goes_on();
    scene.ends_exactly(&load.end(), &mut [&mut one, &mut two]);
}
