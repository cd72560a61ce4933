//! Every case in `tests/cases`, with one owner, and with a new one after every record.

use std::path::Path;

use spanmill::tasks::cases::{Case, Owners};

#[test]
fn every_case_holds_and_no_hand_over_changes_it() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut cases, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
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
