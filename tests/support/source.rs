//! A scanner of the sources, just good enough to find paths: comments, strings and `#[cfg(test)]` items are left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A word or a sign of the source, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// A source file that is not a test.
pub(crate) struct SourceFile {
    /// Below the root of the repository.
    pub(crate) path: PathBuf,
    /// Its room, such as `core::model`, or its wing where it is in no room.
    pub(crate) room: String,
    tokens: Vec<Token>,
    /// The modules that exist only in tests, as paths without an extension.
    pub(crate) test_modules: Vec<PathBuf>,
}

// === impl SourceFile ===

impl SourceFile {
    pub(crate) fn parse(path: PathBuf, text: &str) -> Self {
        let room = room_of(path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()));
        let inside = if path.ends_with("mod.rs") { path.with_file_name("") } else { path.with_extension("") };
        let (tokens, tests) = split_tests(&tokens(text));
        let modules = tests.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
        let test_modules = modules.map(|w| inside.join(&w[1].text)).collect();
        Self { path, room, tokens, test_modules }
    }

    /// Every path that is spelled, use trees expanded, with its line.
    pub(crate) fn paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let token = &self.tokens[at];
            if is_word(&token.text) && (at == 0 || self.tokens[at - 1].text != "::") {
                at = expand(&self.tokens, at, "", &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// The rooms in paths that leave this one, with their lines.
    pub(crate) fn rooms_used(&self) -> Vec<(usize, String)> {
        let rooms = self.paths().into_iter().filter_map(|(line, path)| {
            let parts: Vec<&str> = path.split("::").skip_while(|part| *part == "self").collect();
            if *parts.first()? == "crate" {
                parts.get(1)?;
                return Some((line, room_of(parts[1..].iter().map(|part| (*part).to_owned()))));
            }
            // `super::super::x` may leave the room as well.
            let supers = parts.iter().take_while(|part| **part == "super").count();
            let modules = self.modules();
            let above = modules.len().checked_sub(supers).filter(|_| supers > 0)?;
            let from_root = modules[..above].iter().cloned().chain(parts[supers..].iter().map(|p| (*p).to_owned()));
            Some((line, room_of(from_root)))
        });
        rooms.collect()
    }

    /// The names of fields that are read: a word after a dot that is not called.
    pub(crate) fn fields_read(&self) -> impl Iterator<Item = &str> {
        let triples = self.tokens.windows(3);
        let reads = triples.filter(|w| w[0].text == "." && is_word(&w[1].text) && w[2].text != "(");
        reads.map(|w| w[1].text.as_str())
    }

    /// The modules from the root of the crate to the items of this file.
    fn modules(&self) -> Vec<String> {
        let inside =
            if self.path.ends_with("mod.rs") { self.path.with_file_name("") } else { self.path.with_extension("") };
        inside.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    }
}

/// The room of a path below `src`, by its first parts: a module of the code, or a directory and a file.
fn room_of(mut parts: impl Iterator<Item = String>) -> String {
    let wing = parts.next().unwrap_or_default();
    let room = parts.next().map(|part| format!("{wing}::{}", part.trim_end_matches(".rs")));
    room.filter(|room| room_names().contains(room)).unwrap_or(wing)
}

/// The wings, which are the directories in `src`, and their rooms: their directories and public modules.
pub(crate) fn room_names() -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = BTreeSet::new();
        for wing in wings() {
            let text =
                std::fs::read_to_string(root().join("src").join(&wing).join("mod.rs")).expect("a wing has a mod.rs");
            let inside = directories(&root().join("src").join(&wing));
            let modules = text.lines().filter_map(|line| match line.strip_prefix("pub mod ") {
                Some(public) => public.strip_suffix(';'),
                None => line.strip_prefix("mod ")?.strip_suffix(';').filter(|m| inside.iter().any(|d| d == m)),
            });
            let rooms = modules.map(|module| format!("{wing}::{module}"));
            names.extend(rooms.filter(|_| !WINGS_OF_ONE_ROOM.contains(&wing.as_str())));
            names.insert(wing);
        }
        // What lies in rooms only.
        names.retain(|name| name != "core" && name != "tools");
        names
    })
}

/// Their public modules are no rooms.
const WINGS_OF_ONE_ROOM: [&str; 2] = ["config", "cli"];

/// The directories in `src`, apart from the sources of the page, which are no Rust.
fn wings() -> impl Iterator<Item = String> {
    directories(&root().join("src")).into_iter().filter(|wing| wing != "ui")
}

fn directories(of: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(of).expect("a directory can be listed");
    let directories = entries.map(|e| e.expect("a directory can be listed")).filter(|e| e.path().is_dir());
    directories.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Every file of every room that is not a test.
pub(crate) fn rooms() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for wing in wings() {
        visit(&Path::new("src").join(wing), &mut files);
    }
    // Lists of rooms.
    files.retain(|file| !matches!(file.room.as_str(), "core" | "tools"));
    let tests: Vec<PathBuf> = files.iter().flat_map(|file: &SourceFile| file.test_modules.clone()).collect();
    files.retain(|file| !tests.iter().any(|module| file.path.with_extension("").starts_with(module)));
    files
}

/// The public fields of the settings, as (struct, field).
pub(crate) fn settings_fields() -> Vec<(String, String)> {
    let mut owner = String::new();
    let mut fields = Vec::new();
    let text: String = rooms().iter().filter(|file| is_settings(&file.path)).map(|file| read(&file.path)).collect();
    for line in split_tests(&tokens(&text)).0.chunk_by(|a, b| a.line == b.line) {
        let words: Vec<&str> = line.iter().map(|token| token.text.as_str()).collect();
        match words[..] {
            ["pub", "struct", name, ..] => owner = name.to_owned(),
            ["pub", field, ":", ..] => fields.push((owner.clone(), field.to_owned())),
            _ => {}
        }
    }
    assert!(fields.len() > 40, "the scanner lost the settings: {fields:?}");
    fields
}

/// Whether a source file defines settings.
pub(crate) fn is_settings(path: &Path) -> bool {
    path.ends_with("config/settings.rs") || path.starts_with("src/core/settings")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("a source can be read")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn visit(directory: &Path, files: &mut Vec<SourceFile>) {
    let entries = std::fs::read_dir(root().join(directory)).expect("a room can be listed");
    let mut names: Vec<_> = entries.map(|e| e.expect("a room can be listed").file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(&name);
        if root().join(&path).is_dir() {
            visit(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = read(&path);
            files.push(SourceFile::parse(path, &text));
        }
    }
}

// === tokens ===

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits a source into words, `::` and single signs; strings become `""`, comments vanish.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let token: String = chars[at..end].iter().collect();
        let first = chars[at];
        let comment = token.starts_with("//") || token.starts_with("/*");
        if !comment && !first.is_whitespace() {
            let string = token.ends_with('"') || token.ends_with('#') && token.contains('"');
            found.push(Token { text: if string { "\"\"".to_owned() } else { token.clone() }, line });
        }
        line += token.matches('\n').count();
        at = end;
    }
    found
}

/// Where the token that begins at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    match (chars[at], next(1)) {
        ('/', '/') => chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n),
        ('/', '*') => block_comment_end(chars, at),
        (':', ':') => at + 2,
        ('"', _) => string_end(chars, at),
        ('b' | 'c', '"') => string_end(chars, at + 1),
        ('r', '"' | '#') if raw_string_end(chars, at + 1).is_some() => raw_string_end(chars, at + 1).unwrap_or(at + 1),
        ('b' | 'c', 'r') if raw_string_end(chars, at + 2).is_some() => raw_string_end(chars, at + 2).unwrap_or(at + 1),
        // A character, not a lifetime.
        ('\'', '\\') => chars[at + 3..].iter().position(|c| *c == '\'').map_or(chars.len(), |n| at + n + 4),
        ('\'', _) if next(2) == '\'' => at + 3,
        (c, _) if word(c) => at + chars[at..].iter().take_while(|c| word(**c)).count(),
        _ => at + 1,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `at` is behind the `r`; `None` when it is a word such as `r#type`.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at.min(chars.len())..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| {
        chars[*end] == '"' && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    let end = (at + hashes + 1..chars.len()).find(closes)?;
    Some(end + 1 + hashes)
}

/// Splits off every item behind `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
fn split_tests(tokens: &[Token]) -> (Vec<Token>, Vec<Token>) {
    let (mut product, mut tests) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let end = test_attribute_end(&tokens[at..]).map_or(at, |length| item_end(tokens, at + length));
        tests.extend_from_slice(&tokens[at..end]);
        if end == at {
            product.push(tokens[at].clone());
        }
        at = end.max(at + 1);
    }
    (product, tests)
}

/// How many tokens the attribute has that begins here, if it is one that only tests pass.
fn test_attribute_end(tokens: &[Token]) -> Option<usize> {
    let text = |at: usize| tokens.get(at).map_or("", |t| t.text.as_str());
    let all = text(4) == "all" && text(6) == "test";
    if [text(0), text(1), text(2), text(3)] != ["#", "[", "cfg", "("] || !(text(4) == "test" || all) {
        return None;
    }
    tokens.iter().position(|t| t.text == "]").map(|at| at + 1)
}

/// The end of an item: a semicolon, or a closed brace, outside of all brackets.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                let goes_on = tokens.get(at + 1).is_some_and(|t| t.text == ";");
                if depth == 0 && !goes_on {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Collects the paths of the tree that begins at the word `at`, and returns where it ends.
fn expand(tokens: &[Token], at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let mut path = format!("{prefix}{}", tokens[at].text);
    let line = tokens[at].line;
    let mut next = at + 1;
    while tokens.get(next).is_some_and(|t| t.text == "::") {
        next += 1;
        match tokens.get(next).map(|t| t.text.as_str()) {
            Some("{") => return expand_group(tokens, next + 1, &format!("{path}::"), found),
            Some(word) if is_word(word) => {
                path = format!("{path}::{word}");
                next += 1;
            }
            _ => break,
        }
    }
    found.push((line, path));
    next
}

/// The same for what stands between braces; `at` is behind the opening one.
fn expand_group(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            // `x as y`: y is no path.
            "as" => at += 2,
            word if is_word(word) => at = expand(tokens, at, prefix, found),
            _ => at += 1,
        }
    }
    at
}
