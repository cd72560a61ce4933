//! The files in `config/`: the reference file, good ones to copy, and one bad one per rule with what is said about it.

use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use spanmill::config::{Config, Loaded, Problems, Sources, load, load_overrides, render_effective};
use spanmill::core::filter::Filter;
use spanmill::core::sanitize::Sanitizer;
use spanmill::core::settings::{
    FilterPolicy, MatchType, PolicyAttribute, PolicyMatch, PolicyValue, SanitizeMode, SpanNameRule, SpanNames,
};

const REFERENCE: &str = include_str!("../../config/spanmill.yaml");
/// What every readable secret file holds.
const FROM_FILE: &str = "s3cr3t-from-file";
/// The secret that the bad files hold where one might slip out.
const IN_TEXT: &str = "hunter2";

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/secrets/missing") => Err(io::ErrorKind::NotFound.into()),
        Some("/etc/spanmill/overrides.yaml") => Ok("tenants: {}\n".to_owned()),
        Some("/secrets/empty") => Ok("\n".to_owned()),
        _ => Ok(format!("{FROM_FILE}\r\n")),
    }
}

fn load_text(name: &str, text: &str) -> Result<Loaded, Problems> {
    load(&Sources { file: Some((name, text)), env: &[], set: &[], read_file: &read_file })
}

/// The YAML files of `config/<folder>`, sorted.
fn corpus(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder exists").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("UTF-8"))
        })
        .collect()
}

#[test]
fn the_reference_file_is_exactly_the_defaults() {
    let loaded = load_text("spanmill.yaml", REFERENCE).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.config, Config::default());
    let nothing = load(&Sources { file: None, env: &[], set: &[], read_file: &read_file }).expect("defaults are good");
    let values =
        |loaded: &Loaded| loaded.effective.iter().map(|e| (e.path.clone(), e.value.clone())).collect::<Vec<_>>();
    assert_eq!(values(&loaded), values(&nothing), "the text of a default differs");
    assert_eq!(nothing.config, Config::default());
}

#[test]
fn every_good_file_loads_and_prints_no_secret() {
    for (name, text) in corpus("good") {
        let loaded = load_text(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        let printed = format!("{}{:?}", render_effective(&loaded), loaded);
        assert!(!printed.contains(FROM_FILE), "{name} prints a secret:\n{printed}");
        if name != "empty.yaml" {
            assert_ne!(loaded.config, Config::default(), "{name} says nothing");
        }
    }
}

#[test]
fn every_bad_file_gets_exactly_the_problems_it_expects() {
    let files = corpus("bad");
    assert!(files.len() > 70, "the corpus was lost");
    for (name, text) in files {
        let expected: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .map(|problem| format!("{name}:{problem}"))
            .collect();
        let Err(problems) = load_text(&name, &text) else { panic!("{name} loads") };
        let got: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{name}");
        let printed = format!("{problems}\n{problems:?}");
        assert!(!printed.contains(IN_TEXT) && !printed.contains(FROM_FILE), "{name} prints a secret:\n{printed}");
    }
}

#[test]
fn every_bad_file_of_overrides_gets_exactly_the_problems_it_expects() {
    let files = corpus("bad_overrides");
    assert!(files.len() > 10, "the corpus was lost");
    for (name, text) in files {
        let expected: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .map(|problem| format!("{name}:{problem}"))
            .collect();
        let loaded = load_overrides(&Config::default(), &text, &name, &read_file);
        let Err(problems) = loaded else { panic!("{name} loads") };
        let got: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{name}");
        let printed = format!("{problems}\n{problems:?}");
        assert!(!printed.contains(IN_TEXT) && !printed.contains(FROM_FILE), "{name} prints a secret:\n{printed}");
    }
}

#[test]
fn the_example_of_overrides_loads_and_every_tenant_in_it_differs() {
    let text = include_str!("../../config/overrides.yaml");
    let tenants = load_overrides(&Config::default(), text, "overrides.yaml", &read_file)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(tenants.overridden().count(), 3);
    for (tenant, config) in tenants.overridden() {
        assert_ne!(**config, Config::default(), "{tenant}");
    }
}

/// Whether the check and the filter itself accept a policy with this one condition, whose value is text.
fn accepted(match_type: MatchType, key: &str, value: &str) -> (bool, bool) {
    let word = if match_type == MatchType::Strict { "strict" } else { "regex" };
    let condition = format!("{{key: {}, value: {}}}", quoted(key), quoted(value));
    let set =
        [format!("span_metrics.filter_policies=[{{exclude: {{match_type: {word}, attributes: [{condition}]}}}}]")];
    let checked = load(&Sources { file: None, env: &[], set: &set, read_file: &read_file });
    let attribute = PolicyAttribute { key: key.to_owned(), value: PolicyValue::Text(value.to_owned()) };
    let exclude = Some(PolicyMatch { match_type, attributes: vec![attribute] });
    let policy = FilterPolicy { include: None, include_any: None, exclude };
    if let Ok(loaded) = &checked {
        assert_eq!(
            loaded.config.core.span_metrics.filter_policies,
            std::slice::from_ref(&policy),
            "something else was read"
        );
    }
    (checked.is_ok(), Filter::new(&[policy]).is_ok())
}

/// Text in quotes, as YAML has them.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Loads `text` and looks at all that can be printed; nothing may panic.
fn survives(text: &str) {
    let env =
        [("SPANMILL_KAFKA_PROPERTIES".to_owned(), text.to_owned()), ("SPANMILL_TIME_STEP".to_owned(), text.to_owned())];
    let set = [text.to_owned(), format!("kafka.topics={text}"), format!("span_metrics.histogram_buckets={text}")];
    for (env, set) in [(&[][..], &[][..]), (&env[..], &set[..])] {
        let sources = Sources { file: Some(("f.yaml", text)), env, set, read_file: &read_file };
        let printed = match load(&sources) {
            Ok(loaded) => render_effective(&loaded),
            Err(problems) => problems.to_string(),
        };
        assert!(!printed.is_empty());
    }
    let nested = format!("tenants: {{a: {{span_metrics: {{filter_policies: {text}}}}}}}");
    for text in [text, &nested] {
        if let Err(problems) = load_overrides(&Config::default(), text, "o.yaml", &read_file) {
            assert!(!problems.to_string().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn text_of_yaml_punctuation_never_panics(text in "([-:,?!&*#|>%@`'\"{}\\[\\] \n\ta0~.=]|kafka|file|step|properties){0,60}") {
        survives(&text);
    }

    #[test]
    fn what_the_check_accepts_the_filter_accepts_and_the_other_way_round(
        regex in any::<bool>(),
        key in "(span|resource|)[.:]?(kind|name|status|[a-z.]{0,3}|\"[a b\\\\\"]{0,4}\"?|[ ={}a]{0,2}|duration)",
        value in "SPAN_KIND_SERVER|STATUS_CODE_OK|server|[a-z()\\[*+?\\\\d{}1,|]{0,6}",
    ) {
        let match_type = if regex { MatchType::Regex } else { MatchType::Strict };
        let (checked, filtered) = accepted(match_type, &key, &value);
        prop_assert_eq!(checked, filtered, "key {:?}, value {:?}", key, value);
    }

    #[test]
    fn a_span_name_rule_that_is_checked_can_be_compiled_and_the_other_way_round(
        pattern in "[a-c(]{1,3}|\\((\\?P<id>)?[a-c]\\)[+*]?",
        replace in "(a|\\$|\\$\\{|\\}|id|0|1|2|_|\\$1|\\$\\{id\\}){0,4}",
    ) {
        let rule = format!("span_names.rules=[{{match: {}, replace: {}}}]", quoted(&pattern), quoted(&replace));
        let checked = load(&Sources { file: None, env: &[], set: &[rule], read_file: &read_file }).is_ok();
        let rules = vec![SpanNameRule { pattern: pattern.clone(), replace: replace.clone() }];
        let compiled = Sanitizer::new(&SpanNames { mode: SanitizeMode::Enabled, builtin: true, rules, ..SpanNames::default() }).is_ok();
        prop_assert_eq!(checked, compiled, "match {:?}, replace {:?}", pattern, replace);
    }

    #[test]
    fn a_mutilated_reference_file_never_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[-:{}\\[\\]\"'\n a0#&*!\u{e4}]{0,6}"), 1..8)
    ) {
        let mut chars: Vec<char> = REFERENCE.chars().collect();
        for (at, length, instead) in cuts {
            let from = at.index(chars.len() + 1);
            let to = (from + length).min(chars.len());
            chars.splice(from..to, instead.chars());
        }
        survives(&chars.into_iter().collect::<String>());
    }
}

#[test]
fn deep_nesting_is_refused_and_never_overflows_the_stack() {
    for open in ["[", "{a: ", "- ", "? "] {
        survives(&open.repeat(50_000));
    }
    let staircase: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    survives(&staircase);
}
