//! The papers: links, commands, configurations, metrics, paths and names of tests in them are checked against the code.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use regex::{Captures, Regex};
use spanmill::config::{Config, Sources, load, load_overrides};

/// The most bytes of a paper.
const SIZES: [(&str, usize); 2] = [("README.md", 10_000), ("ARCHITECTURE.md", 20_000)];
/// The papers at the top; those in `docs` come on top.
const TOP: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
/// Of these, only links are checked: they have retired names, or tests of their own.
const ONLY_LINKS: [&str; 4] = ["CHANGELOG.md", "benches/README.md", "config/MIGRATION.md", "tests/cases/README.md"];
/// YAML that belongs to other programs, by its first key.
const FOREIGN_YAML: [&str; 3] = ["exporters", "extensions", "groups"];
/// Options with which a command needs a server.
const SERVERS: [&str; 4] = ["--connect", "--against", "--expected", "--diff"];
/// The files that commands of the papers name, and what they stand for.
const INPUTS: [(&str, &str); 5] = [
    ("tests/import/tempo.yaml", "tempo.yaml"),
    ("tests/import/tempo-overrides.yaml", "overrides.yaml"),
    ("tests/import/collector.yaml", "collector.yaml"),
    ("tests/cases/fan_out.case", "my.case"),
    ("tests/explain/call.json", "spans.json"),
];
/// Where files live that papers name.
const FOLDERS: [&str; 6] = ["src", "tests", "benches", "config", "docs", "fuzz/fuzz_targets"];

struct Paper {
    path: String,
    text: String,
    /// Fenced blocks, without the indentation of their list: language and text.
    blocks: Vec<(String, String)>,
    /// All other lines, and what they have in code font.
    prose: String,
    code: Vec<String>,
}

// === impl Paper ===

impl Paper {
    fn read(path: &str) -> Self {
        let text = read(path);
        let (mut blocks, mut prose, mut open) = (Vec::new(), String::new(), None);
        for line in text.lines() {
            let bare = line.trim_start();
            match (open.take(), bare.strip_prefix("```")) {
                (None, None) => prose.extend([line, "\n"]),
                (None, Some(language)) => open = Some((line.len() - bare.len(), language.to_owned(), String::new())),
                (Some((_, language, body)), Some(_)) => blocks.push((language, body)),
                (Some((indent, language, body)), None) => {
                    open = Some((indent, language, body + line.get(indent..).unwrap_or_default() + "\n"));
                }
            }
        }
        let code = all("`([^`\n]+)`", &prose);
        Self { path: path.to_owned(), text, blocks, prose, code }
    }

    /// The YAML blocks that are settings of spanmill, each with its first key.
    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let yaml = self.blocks.iter().filter(|(language, _)| language == "yaml");
        yaml.filter_map(|(_, body)| Some((body.split_once(':')?.0, body.as_str())))
            .filter(|(key, _)| !FOREIGN_YAML.contains(key))
    }

    /// The commands of `program`, in words.
    fn commands(&self, program: &str) -> Vec<Vec<String>> {
        let shells = self.blocks.iter().filter(|(language, _)| language == "sh" || language == "console");
        let mut text = self.code.join("\n");
        text.extend(shells.flat_map(|(_, body)| ["\n", body]));
        let lines = text.replace("\\\n", " ").replace("cargo run --release -- ", "spanmill ");
        // Comments stand behind ` #`, variables of the environment in front.
        let lines = lines.lines().filter_map(|line| line.split(" #").next());
        let lines = lines.map(|line| line.split_whitespace().skip_while(|word| word.contains('=')).map(str::to_owned));
        let lines = lines.map(Iterator::collect::<Vec<_>>);
        lines.filter(|words| words.len() > 1 && words.first().is_some_and(|word| word == program)).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(path)).expect(path)).into_owned()
}

/// All that the first group of a pattern finds.
fn all(pattern: &str, text: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).expect("a pattern of this file");
    pattern.captures_iter(text).filter_map(|found| found.get(1)).map(|found| found.as_str().to_owned()).collect()
}

/// All files below a folder of the repository, relative to it.
fn files(folder: &str) -> Vec<String> {
    let paths = fs::read_dir(root().join(folder)).expect(folder).filter_map(Result::ok).map(|entry| entry.file_name());
    let paths = paths.map(|name| format!("{folder}/{}", name.display()));
    paths.flat_map(|path| if root().join(&path).is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Gathers what is wrong with each paper, and fails with all of it.
fn check(mut problems_of: impl FnMut(&Paper) -> Vec<String>) {
    let docs = files("docs").into_iter().filter(|path| path.ends_with(".md"));
    let mut problems = String::new();
    for path in TOP.map(str::to_owned).into_iter().chain(docs) {
        problems.extend(problems_of(&Paper::read(&path)).into_iter().map(|problem| format!("\n{path}: {problem}")));
    }
    assert!(problems.is_empty(), "{problems}");
}

fn spanmill(args: &[String], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanmill")).args(args).current_dir(directory).output().expect("spanmill starts")
}

// === configurations ===

fn read_file(path: &Path) -> std::io::Result<String> {
    Ok(if path.extension().is_some_and(|e| e == "yaml") { "tenants: {}" } else { "secret" }.to_owned())
}

#[test]
fn every_configuration_in_the_papers_is_accepted() {
    let mut seen = 0;
    check(|paper| {
        let refused = paper.settings().filter_map(|(key, body)| {
            seen += 1;
            let sources = Sources { file: Some((&paper.path, body)), env: &[], set: &[], read_file: &read_file };
            let overrides = || load_overrides(&Config::default(), body, &paper.path, &read_file).err();
            if key == "tenants" { overrides() } else { load(&sources).err() }
        });
        refused.map(|problems| problems.to_string()).collect()
    });
    assert!(seen > 10, "the blocks are not found: {seen}");
}

#[test]
fn every_key_in_the_papers_exists() {
    let defaults = Sources { file: None, env: &[], set: &[], read_file: &read_file };
    let keys = load(&defaults).expect("the defaults are good").effective.into_iter().map(|e| format!("{}.", e.path));
    let keys: BTreeSet<String> = keys.chain(["overrides.".to_owned()]).collect();
    let starts = |with: &str| keys.iter().any(|key| key.starts_with(with));
    check(|paper| {
        let code = paper.code.join("\n");
        let paths = all(r"(?m)^([a-z_]+(?:\.[a-z_]+)+)(?:[ :=]|$)", &code).into_iter().filter(|path| {
            let section = path.split('.').next().unwrap_or_default();
            let file = [".rs", ".yaml", ".case", ".json"].iter().any(|end| path.ends_with(end));
            starts(&format!("{section}.")) && !file && !path.starts_with("kafka.properties.")
        });
        paths.filter(|path| !starts(&format!("{path}."))).map(|path| format!("no key {path}")).collect()
    });
}

// === commands ===

/// A directory with the files that commands of the papers name. What `import` writes is not there.
fn work_directory(command: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for folder in ["config", "tests"] {
        symlink(root().join(folder), directory.path().join(folder)).expect("a link");
    }
    for (from, to) in INPUTS {
        fs::copy(root().join(from), directory.path().join(to)).expect("an input");
    }
    for name in ["slos", "attribute-metrics", "traces"] {
        let paper = Paper::read(&format!("docs/{name}.md"));
        let (_, settings) = paper.settings().next().expect("a configuration");
        fs::write(directory.path().join(format!("{name}.yaml")), settings).expect("a configuration");
    }
    if command != "import" {
        let readme = Paper::read("README.md");
        let (_, first) = readme.settings().next().expect("a configuration");
        fs::write(directory.path().join("spanmill.yaml"), first).expect("a configuration");
    }
    directory
}

/// Whether a command ends by itself, with nothing else than files.
fn needs_no_server(words: &[String]) -> bool {
    let has = |option: &str| words.iter().any(|word| word == option);
    let local = words.len() > 3 && ["check", "import", "plan", "rules"].contains(&words[1].as_str());
    let reads = has("--files") && (has("--dry-run") || words.get(1).is_some_and(|command| command == "explain"));
    local && !SERVERS.iter().any(|option| has(option)) || reads
}

#[test]
fn commands_of_the_papers_exist_with_their_options_and_run_if_they_need_no_server() {
    let mut ran = BTreeSet::new();
    check(|paper| {
        let mut problems = Vec::new();
        for words in paper.commands("spanmill").iter().filter(|words| !words[1].starts_with('-')) {
            let help = spanmill(&[words[1].clone(), "--help".to_owned()], root());
            let options = all(r"(?m)^ +(?:-\w, )?(--[a-z-]+)", &String::from_utf8_lossy(&help.stdout));
            let given = words.iter().filter(|word| word.starts_with("--")).filter_map(|word| word.split('=').next());
            let unknown = given.filter(|option| !options.iter().any(|o| o == option));
            problems.extend(unknown.map(|option| format!("`spanmill {}` has no {option}", words[1])));
            problems.extend((!help.status.success()).then(|| format!("no command `spanmill {}`", words[1])));
            if needs_no_server(words) {
                let output = spanmill(&words[1..], work_directory(&words[1]).path());
                let failed = !output.status.success();
                let said = String::from_utf8_lossy(&output.stderr);
                problems.extend(failed.then(|| format!("`{}` ends with {}: {said}", words.join(" "), output.status)));
                ran.insert(words[1].clone());
            }
        }
        problems
    });
    assert!(ran.iter().eq(["check", "explain", "import", "plan", "replay", "rules"]), "{ran:?}");
}

#[test]
fn targets_stages_and_names_of_tests_in_commands_exist() {
    let (runner, tests) = (read("tests/run"), files("tests").iter().map(|path| read(path)).collect::<String>());
    check(|paper| {
        let mut missing = Vec::new();
        for words in [paper.commands("cargo"), paper.commands("tests/run"), paper.commands("real")].concat() {
            for pair in words.windows(2) {
                let [option, name] = pair else { continue };
                let there = match option.as_str() {
                    "--test" | "--bench" => {
                        let folder = if option == "--test" { "tests" } else { "benches" };
                        ["", "/main"].iter().any(|end| root().join(format!("{folder}/{name}{end}.rs")).exists())
                    }
                    "--only" => runner.contains(&format!("\nstage_{name}()")) || name == "STAGE",
                    "tests/run" => runner.contains(&format!("  {name} ")) || !name.starts_with("--"),
                    "real" => name == "NAME" || name.split("::").all(|part| tests.contains(part)),
                    _ => true,
                };
                missing.extend((!there).then(|| format!("no {option} {name}")));
            }
        }
        missing
    });
}

// === links, sizes, names ===

/// The anchors of a paper, as GitHub makes them of its headings.
fn anchors(paper: &Paper) -> Vec<String> {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let anchor = |text: String| text.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
    all(r"(?m)^#+ (.*)$", &paper.prose).into_iter().map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let broken = |paper: &Paper| {
        let targets = all(r"\]\(([^)\s]+)\)", &paper.prose).into_iter().filter(|target| !target.contains("://"));
        let broken = targets.filter(|target| {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&paper.path).parent().expect("a file");
            let path = if file.is_empty() { paper.path.clone() } else { folder.join(file).display().to_string() };
            let has = |anchor: &str| anchors(&Paper::read(&path)).iter().any(|a| a == anchor);
            !root().join(&path).exists() || !anchor.is_empty() && !has(anchor)
        });
        broken.map(|target| format!("a link to {target}")).collect()
    };
    check(broken);
    for path in ONLY_LINKS {
        assert_eq!(broken(&Paper::read(path)), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn papers_are_short_and_begin_with_their_question() {
    for (path, most) in SIZES {
        assert!(read(path).len() <= most, "{path} has {} bytes", read(path).len());
    }
    check(|paper| {
        let first = paper.text.lines().next().unwrap_or_default();
        let asks = !paper.path.starts_with("docs/") || first.starts_with("# ") && first.ends_with('?');
        (!asks).then(|| format!("begins with {first}")).into_iter().collect()
    });
}

/// Letters and digits alone, so that `PendingEdge`, `pending_edge` and "pending edge" are one.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

#[test]
fn the_glossary_is_short_and_its_words_are_those_of_the_code() {
    let text = read("ARCHITECTURE.md");
    let (_, glossary) = text.split_once("\n## Glossary\n").expect("a glossary");
    let words = all(r"(?m)^\| ([a-z][a-z -]*[a-z]) \|", glossary.split_once("|---").expect("a table").1);
    assert!((15..=25).contains(&words.len()), "{} words", words.len());
    let code = plain(&files("src").iter().map(|path| read(path)).collect::<String>());
    let unknown: Vec<_> = words.iter().filter(|word| !code.contains(&plain(word))).collect();
    assert!(unknown.is_empty(), "not in src: {unknown:?}");
}

#[test]
fn files_and_names_in_the_papers_exist() {
    let all_files: Vec<String> = FOLDERS.iter().flat_map(|folder| files(folder)).collect();
    let code = all_files.iter().filter(|path| !path.ends_with(".md")).map(|path| read(path)).collect::<String>();
    let long = Regex::new(r"^[a-z0-9]+(_[a-z0-9]+){4,}$").expect("a pattern");
    check(|paper| {
        let exists = |text: &str| {
            let first = text.split([' ', ':', '*']).next().unwrap_or_default();
            let whole = FOLDERS.iter().any(|folder| first.starts_with(&format!("{folder}/")));
            let (bare, end) = (text.ends_with(".rs") || text.ends_with(".case"), format!("/{text}"));
            let there = all_files.iter().any(|path| whole && path.starts_with(first) || path.ends_with(&end));
            there || !whole && !bare && (!long.is_match(text) || text.starts_with("spanmill_") || code.contains(text))
        };
        paper.code.iter().filter(|text| !exists(text)).map(|text| format!("no {text}")).collect()
    });
}

// === metrics ===

/// The metrics of the code: name and row of the table. Those of the ledger are counters of a partition.
fn metrics() -> Vec<(String, String)> {
    let metric = r#"(?:(Counter|Gauge|Histogram) )?"(spanmill_\w+)" \[([^\]]*)\]\s+"([^"]+)";"#;
    let (pattern, code) = (Regex::new(metric).expect("a pattern"), read("src/worker/telemetry/names.rs"));
    let rows = pattern.captures_iter(&code).map(|found| {
        let ledger = if found.get(1).is_none() { r#" "topic" "partition" "state""# } else { "" };
        let labels = all(r#"("\w+")"#, &format!("{}{ledger}", &found[3])).join(", ").replace('"', "`");
        let kind = found.get(1).map_or("counter".to_owned(), |kind| kind.as_str().to_lowercase());
        (found[2].to_owned(), format!("| `{}` | {kind} | {labels} | {} |\n", &found[2], &found[4]))
    });
    rows.collect()
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let text = read("docs/operations.md");
    let table = Regex::new(r"(?s)(<!-- metrics: [^\n]*\n).*?(<!-- end -->)").expect("a pattern");
    let rows: String = metrics().into_iter().map(|(_, row)| row).collect();
    let rows = format!("\n| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}\n");
    assert!(table.is_match(&text), "docs/operations.md has no place for the table");
    let written = table.replace(&text, |found: &Captures<'_>| [&found[1], &rows, &found[2]].concat());
    if text != written {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operations.md");
        fs::write(&path, written.as_bytes()).expect("it can be written");
        panic!("docs/operations.md is not what the code says; take {} in its place", path.display());
    }
}

#[test]
fn metrics_and_counters_in_the_papers_are_those_of_the_code() {
    // The probe is a series that a replay sends, no metric of a worker.
    let known = metrics().into_iter().map(|(name, _)| name).chain(["spanmill_replay_probe".to_owned()]);
    let known: Vec<_> = known.collect();
    let counters = all(r#"(?m)^    \w+ = "([a-z0-9_]+)".*,$"#, &read("src/core/model/ledger.rs"));
    assert!(counters.len() > 30, "{counters:?}");
    check(|paper| {
        let metrics = all(r"\b(spanmill_[a-z0-9_]+)", &paper.text).into_iter();
        let unknown = metrics.filter(|name| !known.contains(name)).map(|name| format!("no metric {name}"));
        let explained = |counter: &&String| paper.path != "docs/operations.md" || paper.code.contains(counter);
        let missing = counters.iter().filter(|name| !explained(name)).map(|name| format!("lacks {name}"));
        unknown.chain(missing).collect()
    });
}
