//! Every case in `tests/cases`, with one owner, and with a new one after every record.

use std::path::Path;

use spanmill::tools::cases::{Case, Owners};

#[test]
fn every_case_holds_and_no_hand_over_changes_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut cases, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_none_or(|extension| extension != "case") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable case");
        let case = Case::parse(&text).unwrap_or_else(|error| panic!("{name}, {error}"));
        for owners in [Owners::One, Owners::OneForEachRecord] {
            let report = case.run(owners);
            assert!(report.checks > 0, "{name} checks nothing");
            failures.extend(report.failures.iter().map(|f| format!("{name}, {owners:?}, {f}")));
        }
        cases += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases >= 25, "only {cases} cases");
}

#[test]
fn every_test_that_the_table_of_reports_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/cases/README.md")).expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| report"));
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let mut file = String::new();
        // A file, then the tests in it.
        for name in tests.split('`').skip(1).step_by(2) {
            if name.ends_with(".case") {
                assert!(root.join("tests/cases").join(name).is_file(), "{name} is not there: {row}");
            } else if name.contains('/') {
                assert!(root.join(name).exists(), "{name} is not there: {row}");
                name.clone_into(&mut file);
                continue;
            } else {
                let text = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(text.contains(&format!("fn {name}(")), "{file} has no test {name}");
            }
            named += 1;
        }
    }
    assert!(named > 40, "only {named} tests are named");
}
