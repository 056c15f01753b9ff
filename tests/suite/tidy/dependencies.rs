//! Which crate may know which, and what never reaches the privileged program.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::sources::{expect_none, root};

/// Crate (by directory) → our crates it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("features", &[]),
    ("proto", &[]),
    ("sync", &["proto"]),
    ("guest", &["proto", "sync"]),
    ("root-helper", &["proto"]),
    ("daemon", &["features", "proto"]),
    ("cli", &["features", "proto", "sync"]),
    ("tests", &["proto", "generate", "smoke"]),
    ("tests/generate", &[]),
    ("smoke", &["proto"]),
];

/// What our packages are called → the directory name used above.
const PACKAGES: &[(&str, &str)] = &[
    ("banger-features", "features"),
    ("banger-proto", "proto"),
    ("banger-sync", "sync"),
    ("banger-guest", "guest"),
    ("bangerd-root", "root-helper"),
    ("bangerd", "daemon"),
    ("banger", "cli"),
    ("banger-tests", "tests"),
    ("banger-generate", "generate"),
    ("banger-smoke", "smoke"),
];

#[test]
fn crates_know_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let packages: BTreeMap<&str, &str> = PACKAGES.iter().copied().collect();
    let workspace: toml::Table = toml::from_str(&read_manifest("")).expect("the workspace manifest is TOML");
    let members = workspace["workspace"]["members"].as_array().expect("a list of members");
    let mut violations = Vec::new();
    for member in members.iter().map(|member| member.as_str().expect("a path")) {
        let Some(may) = allowed.get(member) else {
            violations.push(format!("{member} is not in EDGES"));
            continue;
        };
        for name in ours_in(&read_manifest(member)) {
            match packages.get(name.as_str()) {
                Some(directory) if may.contains(directory) => {}
                _ => violations.push(format!("{member} depends on {name}")),
            }
        }
    }
    expect_none(
        &violations,
        "design: proto <- sync <- cli, guest; proto <- daemon, root-helper; nobody knows a program",
    );
}

#[test]
fn no_http_reaches_the_root_helper() {
    let tree = cargo_tree(&["-p", "bangerd-root", "-e", "normal,build", "--format", "{p}"]);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("bangerd-root"), "cargo tree printed nothing useful: {tree}");
    let forbidden =
        ["tonic", "hyper", "hyper-util", "h2", "http", "tower", "axum", "rustls", "ring", "russh", "gix", "clap"];
    let violations: Vec<String> =
        forbidden.iter().filter(|name| names.contains(*name)).map(|name| (*name).to_owned()).collect();
    expect_none(&violations, "the privileged program speaks framed prost and nothing else");
}

/// Else `make test` compiles again what `make build` has compiled, our own crates included.
#[test]
fn the_tests_ask_for_the_same_features_as_the_programs() {
    let format = ["--format", "{p} [{f}]"];
    let programs = cargo_tree(&[&["-p", "banger", "-p", "bangerd", "-e", "normal,build"][..], &format].concat());
    let everything = cargo_tree(&[&["--workspace", "-e", "normal,build,dev"][..], &format].concat());
    let everything: BTreeSet<&str> = everything.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let programs: BTreeSet<&str> = programs.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(programs.iter().any(|line| line.starts_with("tokio v")), "cargo tree printed nothing useful");
    let violations: Vec<String> = programs.difference(&everything).map(|line| (*line).to_owned()).collect();
    expect_none(&violations, "name in features/Cargo.toml what the other members ask of these crates");
}

fn cargo_tree(arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("names are ASCII")
}

fn read_manifest(member: &str) -> String {
    let path = root().join(member).join("Cargo.toml");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Our own packages that a manifest names, in any kind of dependency.
fn ours_in(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(manifest).expect("a manifest is TOML");
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(toml::Table::keys)
        .filter(|name| name.starts_with("banger"))
        .cloned()
        .collect()
}
