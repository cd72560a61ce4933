//! Configurations as people published them, each with a few words on what the real component does with it in its first lines,
//! and beside it what the import makes of it: the configuration, and the list.
//!
//! Where something else comes out, the test writes it to a folder of its own and names it: compare, and copy what is right.

use std::path::PathBuf;

use super::{Input, Request, import, loaded};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import/reports")
}

/// The configurations, by name, and what becomes of them.
fn all() -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    let said = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let file = Input { name: "in.yaml", text: &text };
        let request = Request { file, overrides: None, kind: None, overrides_path: Some("overrides.yaml") };
        let imported = import(&request).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        loaded(&imported);
        let overrides = imported.overrides.as_deref().map(|text| format!("---\n{text}")).unwrap_or_default();
        let out = format!("{}{overrides}---\n{}", imported.config, imported.render_list(false));
        (path.with_extension("said"), out)
    };
    files.into_iter().map(said).collect()
}

#[test]
fn published_configurations_become_what_stands_beside_them() {
    let all = all();
    assert!(all.len() > 20, "only {} configurations", all.len());
    let new = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reports");
    std::fs::create_dir_all(&new).expect("a folder");
    let mut differ = Vec::new();
    for (path, said) in all {
        if said != std::fs::read_to_string(&path).unwrap_or_default() {
            let new = new.join(path.file_name().expect("a file"));
            std::fs::write(&new, said).expect("written");
            differ.push((path, new));
        }
    }
    assert!(differ.is_empty(), "what stands there, and what comes out now: {differ:#?}");
}
