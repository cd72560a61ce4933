//! Runs an experiment: subjects take turns, each run is one process from its start until it has read everything.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::experiments::{Case, Experiment, Subject};
use crate::load::Topic;
use crate::reader;
use crate::report::{Line, Numbers, medians, rounded};
use crate::servers::kafka::RealKafka;
use crate::sink::Sink;
use crate::system::{self, Usage};
use crate::worker::{Metrics, Setup, Worker};

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// How often workers are asked how far they are. Their task registry shows it twice a second, and each answer costs them
/// something.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A subject and what makes it differ from others of its kind.
struct Entrant {
    subject: Subject,
    name: String,
    program: std::path::PathBuf,
    settings: Vec<String>,
    runs: Vec<Numbers>,
}

/// One case on a running broker.
struct Scene<'a> {
    args: &'a Args,
    kafka: &'a RealKafka,
    sink: &'a Sink,
    topics: Vec<Topic>,
}

/// Measures everything that an experiment asks for.
pub fn run(args: &Args, experiment: Experiment) {
    let wanted = |case: &Case| args.only.is_empty() || args.only.contains(&case.name);
    for case in experiment.cases(args.spans).into_iter().filter(wanted) {
        // A broker for each case, so that no case profits from what the one before has left in its caches.
        let (kafka, sink) = (RealKafka::start(), Sink::start());
        let topics = case.load.produce(args, &kafka, "spans");
        let scene = Scene { args, kafka: &kafka, sink: &sink, topics };
        scene.measure(&experiment.name(), &case);
    }
}

fn entrants(args: &Args, case: &Case) -> Vec<Entrant> {
    let of = |subject: &Subject, name: String, settings: &[String]| Entrant {
        subject: subject.clone(),
        name,
        program: args.program.clone(),
        settings: settings.to_vec(),
        runs: Vec::new(),
    };
    let split = |list: &str| -> Vec<String> { list.split(',').map(str::to_owned).collect() };
    let set = [case.settings().to_vec(), args.set.clone()].concat();
    let usual = case.subjects.iter().map(|s| {
        let settings = if matches!(s, Subject::Reader) { &args.property } else { &set };
        of(s, s.name(), settings)
    });
    let readers = args.also_reader.iter().map(|also| {
        let settings = [args.property.clone(), split(also)].concat();
        of(&Subject::Reader, format!("reader {also}"), &settings)
    });
    let workers = args.also_worker.iter().map(|also| {
        let settings = [set.clone(), split(also)].concat();
        of(&Subject::Worker { threads: 1 }, format!("worker {also}"), &settings)
    });
    let programs = args.also_program.iter().map(|also| Entrant {
        program: also.clone(),
        ..of(&Subject::Worker { threads: 1 }, format!("worker {}", also.display()), &set)
    });
    usual.chain(readers).chain(workers).chain(programs).collect()
}

// === impl Scene ===

impl Scene<'_> {
    fn measure(&self, experiment: &str, case: &Case) {
        let mut entrants = entrants(self.args, case);
        let shape = case.load.shape(&self.topics, case.shards, case.exemplars);
        let line = |subject: &str, numbers: &Numbers, run, median_of| {
            Line { experiment, case: &case.name, x: case.x, subject, run, median_of, shape: &shape, numbers }.print();
        };
        for run in 1..=self.args.runs {
            for entrant in &mut entrants {
                let (name, case_name) = (&entrant.name, &case.name);
                let numbers = self.once(entrant, run);
                eprintln!("{experiment} {case_name} {name} run {run}: {:.3} CPU-s", numbers["cpu_s_per_million"]);
                line(name, &numbers, Some(run), None);
                entrant.runs.push(numbers);
            }
        }
        let mut baseline = None;
        for entrant in &entrants {
            let mut numbers = medians(&entrant.runs);
            let cost = numbers.get("cpu_s_per_million").copied();
            baseline = baseline.or(cost.filter(|_| matches!(entrant.subject, Subject::Reader)));
            if let Some((cost, baseline)) = cost.zip(baseline) {
                numbers.insert("times_reader".to_owned(), rounded(cost / baseline));
            }
            if !matches!(entrant.subject, Subject::Reader) {
                numbers.extend(self.internal_bytes(&group(entrant, 1, 0)));
            }
            line(&entrant.name, &numbers, None, Some(entrant.runs.len()));
        }
    }

    fn once(&self, entrant: &Entrant, run: usize) -> Numbers {
        let (busy, load) = system::machine();
        let begin = Instant::now();
        let mut numbers = match &entrant.subject {
            Subject::Reader => self.read(&entrant.settings),
            Subject::Worker { threads } => {
                let topics = vec![self.topics.iter().map(|topic| topic.name.clone()).collect()];
                self.work(entrant, topics, *threads, run)
            }
            Subject::WorkerPerTopic => {
                let topics = self.topics.iter().map(|topic| vec![topic.name.clone()]).collect();
                self.work(entrant, topics, 1, run)
            }
        };
        let seconds = begin.elapsed().as_secs_f64();
        let spans = self.total(|topic| topic.spans);
        numbers.insert("cpu_s_per_million".to_owned(), numbers["cpu_s"] * 1e6 / spans);
        numbers.insert("spans_per_cpu_s".to_owned(), spans / numbers["cpu_s"]);
        numbers.insert("spans_per_s".to_owned(), spans / numbers["wall_s"]);
        numbers.insert("spans".to_owned(), spans);
        numbers.insert("records".to_owned(), self.total(|topic| topic.records));
        numbers.insert("bytes_per_span".to_owned(), self.total(|topic| topic.bytes) / spans);
        numbers.insert("produced_spans_per_s".to_owned(), spans / self.topics.iter().map(|t| t.seconds).sum::<f64>());
        numbers.insert("load_average".to_owned(), load);
        // How many cores the broker, the receiver, and the neighbors have kept busy meanwhile.
        numbers.insert("others_cores".to_owned(), (system::machine().0 - busy - numbers["cpu_s"]) / seconds);
        numbers.into_iter().map(|(name, value)| (name, rounded(value))).collect()
    }

    /// The size of all internal topics of a group, and of each kind of them.
    fn internal_bytes(&self, group: &str) -> Numbers {
        let said = self.kafka.tool("LogDirsCommand", &["--describe"]);
        let json = said.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let list = |value: &serde_json::Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let partitions =
            list(&json, "brokers").into_iter().flat_map(|b| list(&b, "logDirs")).flat_map(|d| list(&d, "partitions"));
        let prefix = format!("{group}-");
        let mut sizes = Numbers::new();
        for partition in partitions {
            let name = partition["partition"].as_str().unwrap_or_default();
            let Some(topic) = name.strip_prefix(&prefix).and_then(|name| name.rsplit_once('-')) else { continue };
            let kind = match topic.0 {
                "deltas" => "deltas_bytes",
                "series-journal" => "series_journal_bytes",
                _ => "journal_bytes",
            };
            for kind in [kind, "internal_bytes"] {
                *sizes.entry(kind.to_owned()).or_default() += partition["size"].as_f64().unwrap_or_default();
            }
        }
        sizes
    }

    fn total(&self, of: impl Fn(&Topic) -> u64) -> f64 {
        self.topics.iter().map(of).sum::<u64>() as f64
    }

    fn read(&self, properties: &[String]) -> Numbers {
        let topic = &self.topics[0];
        let mut command = reader::command(&self.kafka.brokers, &topic.name, topic.records, properties);
        let output = command.output().expect("a reader starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_str(&said).expect("a line of JSON");
        let number = |key: &str| json[key].as_f64().unwrap_or_default();
        let used = Usage { user: number("user"), system: number("system"), faults: number("faults") };
        let mut numbers = used_by(used, number("peak"), number("wall"));
        for (name, seconds) in json["threads"].as_object().into_iter().flatten() {
            numbers.insert(format!("thread_{name}_s"), seconds.as_f64().unwrap_or_default());
        }
        numbers.insert("received_bytes_per_span".to_owned(), number("received") / topic.spans as f64);
        numbers
    }

    /// Runs one worker for each list of topics until all spans have been read.
    fn work(&self, entrant: &Entrant, topics: Vec<Vec<String>>, threads: u32, run: usize) -> Numbers {
        let started = topics.into_iter().enumerate().map(|(i, topics)| {
            let set = [vec![format!("worker.threads={threads}")], entrant.settings.clone()].concat();
            let (brokers, url) = (self.kafka.brokers.as_str(), self.sink.url.as_str());
            let group = group(entrant, run, i);
            Worker::start(&Setup { program: &entrant.program, brokers, topics, group, url, set })
        });
        let mut workers: Vec<Worker> = started.collect();
        let (begin, spans) = (Instant::now(), self.total(|topic| topic.spans) as u64);
        let mut reading = None;
        let metrics = loop {
            let metrics: Vec<_> = workers.iter_mut().map(Worker::metrics).collect();
            let read: u64 = metrics.iter().map(Metrics::spans).sum();
            if read > 0 {
                reading.get_or_insert_with(Instant::now);
            }
            if read >= spans {
                assert_eq!(read, spans, "spans were read twice");
                break metrics;
            }
            assert!(begin.elapsed() < PATIENCE, "{read} of {spans} spans after {PATIENCE:?}");
            std::thread::sleep(LOOK_EVERY);
        };
        let wall = reading.unwrap_or(begin).elapsed().max(LOOK_EVERY).as_secs_f64();
        let mut used = Usage::default();
        let (mut peak, mut now) = (0.0, 0.0);
        let mut numbers = Numbers::new();
        for worker in &workers {
            let usage = system::usage(worker.pid());
            used.user += usage.user;
            used.system += usage.system;
            used.faults += usage.faults;
            let (most, present) = system::memory(worker.pid());
            (peak, now) = (peak + most, now + present);
            for (name, seconds) in system::threads(worker.pid()) {
                *numbers.entry(format!("thread_{name}_s")).or_insert(0.0) += seconds;
            }
        }
        numbers.extend(used_by(used, peak, wall));
        numbers.insert("rss_mb".to_owned(), now / 1e6);
        for (name, metric) in [
            ("commits", "spanmill_commits_total:span"),
            ("marks", "spanmill_commits_total:series"),
            ("active_series", "spanmill_active_series"),
            ("samples", "spanmill_samples_built_total"),
            ("sent_samples", "spanmill_samples_acknowledged_total"),
            ("sent_bytes", "spanmill_remote_write_bytes_total"),
            ("edges_pending", "spanmill_edges_pending"),
            ("edges_bytes", "spanmill_memory_bytes:pending_edges"),
            ("known_bytes", "spanmill_memory_bytes:known_label_sets"),
            ("series_bytes", "spanmill_memory_bytes:series"),
            ("fetch_bytes", "spanmill_memory_bytes:fetch_buffers"),
        ] {
            numbers.insert(name.to_owned(), metrics.iter().map(|m| m.get(metric)).sum());
        }
        workers.into_iter().for_each(Worker::stop);
        numbers
    }
}

/// The group of a worker: no two runs share one.
fn group(entrant: &Entrant, run: usize, worker: usize) -> String {
    format!("{}-{run}-{worker}", entrant.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
}

fn used_by(used: Usage, peak: f64, wall: f64) -> Numbers {
    let numbers = [
        ("cpu_s", used.cpu()),
        ("user_s", used.user),
        ("system_s", used.system),
        ("page_faults", used.faults),
        ("rss_peak_mb", peak / 1e6),
        ("wall_s", wall),
    ];
    numbers.map(|(name, value)| (name.to_owned(), value)).into()
}
