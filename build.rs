//! Compiles `proto/` without a protobuf compiler on the machine, and says what is built.
#![allow(clippy::disallowed_methods, reason = "a build script is told everything by its environment")]

use std::error::Error;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/prometheus_write.proto", "proto/prometheus_write_v2.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    // Not SPANMILL_: cargo passes them to the programs that it runs as well, where those are settings.
    for name in ["TARGET", "PROFILE"] {
        println!("cargo:rustc-env=MILL_BUILD_{name}={}", std::env::var(name)?);
    }
    // Release builds only: otherwise each commit would recompile the crate during development.
    let commit = if std::env::var("PROFILE")? == "release" { commit() } else { None };
    println!("cargo:rustc-env=MILL_BUILD_COMMIT={}", commit.unwrap_or_default());
    Ok(())
}

/// The commit of the sources, if they lie in a repository of their own and there is a git.
fn commit() -> Option<String> {
    let root = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if !Path::new(&root).join(".git").exists() {
        return None;
    }
    let git = |args: &[&str]| {
        let said =
            Command::new("git").arg("-C").arg(&root).args(args).output().ok().filter(|said| said.status.success())?;
        String::from_utf8(said.stdout).ok().map(|text| text.trim().to_owned())
    };
    // What a commit or a checkout changes: the head, and what it names.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        let path = Path::new(&root).join(path);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
