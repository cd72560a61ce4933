//! The words that readers meet: retired ones occur neither in texts of the program, nor in `config/`, nor in its help,
//! nor in the comments of its sources. The term of the field stands beside each.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Retired in every text, with the term of the field.
const RETIRED: &[(&str, &str)] = &[
    ("half edge", "pending edge, unpaired span"),
    ("other side", "peer"),
    ("far side", "peer"),
    ("taken over", "acquired, restarted"),
    ("let go", "closed, forgotten"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("left out", "skipped, omitted"),
    ("by force", "on stall timeout"),
    ("passed over", "skipped"),
    ("passing over", "skipping"),
    ("anew", "again"),
    ("made again", "re-created"),
    ("thrown out", "evicted"),
    ("for good", "permanently; rejected"),
    ("poisoned", "rejected"),
    ("offenders", "top-cardinality labels"),
    ("in force", "active"),
    ("into force", "applied"),
    ("flat out", "unthrottled"),
    ("emit mark", "step-close record"),
    ("spelled out", "sent in full"),
    ("loudly", "as an error"),
    ("without a word", "silently"),
    ("again and again", "repeatedly"),
    ("tried again", "retried"),
    ("behind the stretch", "past the end of the range"),
    ("honour", "honor"),
    ("sanitise", "sanitize"),
    ("behaviour", "behavior"),
    ("whoever", "the new owner, another process"),
    ("nobody", "no worker"),
    ("somebody", "another process"),
    ("anybody", "any client"),
    ("everybody", "every worker, the default"),
    ("someone", "an operator"),
    ("anyone", "any client"),
    ("rests", "backs off"),
    ("tells", "reports, returns"),
    ("says so", "reports that"),
    ("makes sure", "ensures, checks"),
    ("over there", "in the other product"),
    ("over and over", "repeatedly"),
    ("no one", "no worker"),
    ("told", "reported"),
    ("said", "logged"),
    ("in vain", "without success"),
    ("set aside", "rejected, quarantined"),
    ("a share", "a delta record"),
    ("shares of", "delta records of"),
    ("share record", "delta record"),
    ("lane", "shard sender"),
    ("board", "task registry"),
    ("tallies", "counters"),
    ("says", "reports, is set to"),
];

/// Texts that stay, and why: a place and the text in it.
const KEPT: &[(&str, &str)] = &[
    // Hashed into the IDs of label sets, which journals hold.
    ("src/core/model/labels.rs", "spanmill: names of label sets, version 3 of shares"),
    // A tenant that the example of all keys has.
    ("config/good/everything.yaml", "name: nobody"),
];

/// A text and where it stands.
struct Text {
    place: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory with one of these endings, sorted.
fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![root().join(dir)], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else if endings.iter().any(|ending| entry.to_string_lossy().ends_with(ending)) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
}

/// The sources without their tests.
fn sources() -> Vec<(String, String)> {
    let files = files("src", &[".rs"]).into_iter().map(|path| (shown(&path), path));
    let files = files.filter(|(name, _)| !name.ends_with("/tests.rs") && !name.contains("/tests/"));
    let read = |(name, path): (String, PathBuf)| {
        let text = std::fs::read_to_string(path).expect("UTF-8");
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        (name, text.get(..end).expect("at a character").to_owned())
    };
    files.map(read).collect()
}

/// The string literals and the comments of a source, each with its place. Continued lines of a literal are joined, and
/// so are comments on consecutive lines.
fn literals_and_comments(name: &str, source: &str) -> (Vec<Text>, Vec<Text>) {
    let (mut literals, mut comments) = (Vec::new(), Vec::<Text>::new());
    let (mut line, mut last) = (1, 0);
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let place = || format!("{name}:{line}");
        let end = match first {
            '/' if rest.starts_with("//") => {
                let end = rest.find('\n').unwrap_or(rest.len());
                let text = comment(rest.get(..end).expect("at a character"));
                match comments.last_mut().filter(|_| last + 1 == line) {
                    Some(comment) => comment.text.push_str(&text),
                    None => comments.push(Text { place: place(), text }),
                }
                last = line;
                end
            }
            '"' => {
                let end = closing_quote(rest);
                let text = rest.get(1..end).expect("at a character").lines().map(str::trim_start).collect::<String>();
                literals.push(Text { place: place(), text: text.replace('\\', "") });
                end + 1
            }
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with("'\\") => rest.get(2..).and_then(|r| r.get(1..)?.find('\'')).map_or(2, |n| n + 4),
            _ => first.len_utf8(),
        };
        let (passed, after) = rest.split_at(end);
        line += passed.matches('\n').count();
        rest = after;
    }
    (literals, comments)
}

/// The text of a comment. The code's own names, which stand in backticks, are replaced.
fn comment(line: &str) -> String {
    let text = line.trim_start_matches(['/', '!']).trim();
    format!("{} ", text.split('`').step_by(2).collect::<Vec<_>>().join("x"))
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let closes = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    end.map_or(text.len() - 1, |(at, _)| at)
}

/// What the configuration files say, but not the messages that bad ones expect: those are the program's.
fn configuration() -> Vec<Text> {
    let line =
        |name: &str, (i, text): (usize, &str)| Text { place: format!("{name}:{}", i + 1), text: text.to_owned() };
    let files = files("config", &[".yaml", ".yml"]);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        text.lines().enumerate().map(|of| line(&shown(&path), of)).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(read).collect()
}

fn help() -> Vec<Text> {
    let commands = [
        "run",
        "replay",
        "check",
        "produce",
        "demo",
        "import",
        "spool",
        "plan",
        "topics",
        "top",
        "dashboards",
        "completions",
    ];
    let asked = std::iter::once(vec!["help"]).chain(commands.iter().map(|command| vec!["help", command]));
    let answer = |args: Vec<&str>| {
        let output = Command::new(env!("CARGO_BIN_EXE_spanmill")).args(&args).output().expect("the program runs");
        assert!(output.status.success(), "{args:?}");
        let words: Vec<&str> = std::str::from_utf8(&output.stdout).expect("UTF-8").split_whitespace().collect();
        Text { place: args.join(" "), text: words.join(" ") }
    };
    asked.map(answer).collect()
}

/// Whether `word` begins at a border of words in `text`; plurals count as well.
fn occurs(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).unwrap_or_default();
        let after = after.strip_prefix('s').unwrap_or(after).chars().next();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(before) && !inside(after)
    })
}

/// The retired words in these texts, with their places.
fn retired(texts: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for Text { place, text } in texts {
        let kept = |(at, kept): &(&str, &str)| place.starts_with(at) && text.contains(kept);
        if KEPT.iter().any(kept) {
            continue;
        }
        let lower = text.to_lowercase();
        let words = RETIRED.iter().filter(|(word, _)| occurs(&lower, word));
        found.extend(words.map(|(word, instead)| format!("{place}: {word:?} ({instead}): {text}")));
    }
    found
}

#[test]
fn no_retired_word_is_in_a_text_of_the_program() {
    let texts: Vec<Text> = sources().iter().flat_map(|(name, text)| literals_and_comments(name, text).0).collect();
    assert!(texts.len() > 3_000, "{} literals", texts.len());
    // A text has words; names of fields and labels have not, and what is in braces is code.
    let words =
        |t: Text| Text { text: t.text.split('{').map(|part| part.rsplit('}').next().unwrap_or(part)).collect(), ..t };
    let texts: Vec<Text> = texts.into_iter().map(words).filter(|t| t.text.trim().contains(' ')).collect();
    let found = retired(&texts);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_retired_word_is_in_the_configuration_files_or_in_the_help() {
    let texts: Vec<Text> = configuration().into_iter().chain(help()).collect();
    let found = retired(&texts);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_retired_word_is_in_a_comment_of_the_sources() {
    let texts: Vec<Text> = sources().iter().flat_map(|(name, text)| literals_and_comments(name, text).1).collect();
    assert!(texts.len() > 5_000, "{} comments", texts.len());
    let found = retired(&texts);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn comments_are_found_before_and_behind_code_and_not_in_literals() {
    let source = "//! Of `nobody`:\n//! two\nlet at = \"http://no/comment\"; // behind\n\n    /// Above.\n";
    let (literals, comments) = literals_and_comments("a.rs", source);
    let shown = |texts: &[Text]| texts.iter().map(|t| format!("{} {}", t.place, t.text.trim())).collect::<Vec<_>>();
    assert_eq!(shown(&literals), ["a.rs:3 http://no/comment"]);
    assert_eq!(shown(&comments), ["a.rs:1 Of x: two behind", "a.rs:5 Above."]);
}
