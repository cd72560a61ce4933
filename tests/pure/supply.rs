//! The bill of materials (CycloneDX) names everything that the program is built from, with license, origin and checksum.
#![allow(clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Name and version.
type Package = (String, String);

/// What cargo builds the program from on this machine, tests apart.
fn built() -> BTreeSet<Package> {
    let tree = ["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let output = Command::new(env!("CARGO")).current_dir(ROOT).args(tree).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    text.lines().filter_map(package).filter(|(name, _)| name != "spanmill").collect()
}

/// The checksums of `Cargo.lock`.
fn locked() -> BTreeMap<Package, String> {
    let text = std::fs::read_to_string(format!("{ROOT}/Cargo.lock")).expect("it is there");
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let package = |block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    text.split("[[package]]").filter_map(package).collect()
}

fn text<'a>(component: &'a Value, key: &str) -> &'a str {
    component[key].as_str().unwrap_or_else(|| panic!("no {key}: {component}"))
}

#[test]
#[ignore = "tests/run --only supply writes the bill first"]
fn the_bill_of_materials_names_every_package_of_the_build_with_license_origin_and_checksum() {
    let file = format!("{ROOT}/target/sbom/spanmill.cdx.json");
    let bill = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}; tests/run --only supply writes it"));
    let bill: Value = serde_json::from_slice(&bill).expect("it is JSON");
    assert_eq!((text(&bill, "bomFormat"), text(&bill, "specVersion")), ("CycloneDX", "1.5"));
    assert_eq!(text(&bill["metadata"]["component"], "name"), "spanmill");
    let components = bill["components"].as_array().expect("it has components");
    let (built, locked) = (built(), locked());
    assert!(built.len() > 100, "{built:?}");
    let mut named = BTreeSet::new();
    for component in components {
        let (name, version) = (text(component, "name"), text(component, "version"));
        // In a package URL the `+` before a version's build metadata may be escaped.
        let purl = format!("pkg:cargo/{name}@{version}");
        assert!([purl.clone(), purl.replace('+', "%2B")].contains(&text(component, "purl").to_owned()), "{component}");
        assert!(!text(&component["licenses"][0], "expression").is_empty(), "{name} has no license");
        let package = (name.to_owned(), version.to_owned());
        let sum = locked.get(&package).unwrap_or_else(|| panic!("{name} {version} is not in Cargo.lock"));
        assert_eq!(text(&component["hashes"][0], "content"), sum, "{name} {version}");
        named.insert(package);
    }
    let missing: Vec<_> = built.difference(&named).collect();
    assert!(missing.is_empty(), "the bill does not name {missing:?}");
    assert_eq!(components.len(), named.len(), "a package is named twice");
    let references: BTreeSet<&str> = components.iter().map(|component| text(component, "bom-ref")).collect();
    let dependencies = bill["dependencies"].as_array().expect("it has dependencies");
    let used = dependencies.iter().flat_map(|d| d["dependsOn"].as_array().into_iter().flatten());
    let unknown: Vec<_> = used.filter_map(Value::as_str).filter(|used| !references.contains(used)).collect();
    assert!(unknown.is_empty(), "the bill refers to {unknown:?} and does not name them");
}
