//! What programs read stays as it is: keys of `--json`, one document on stdout, errors as objects.

use std::collections::BTreeSet;

use banger_tests::env::Env;
use banger_tests::repository::Repository;
use serde_json::Value;

use super::{create, delete_and_check, me, run_words, text};

/// Keys of a VM. Adding one is fine and belongs here; taking one away breaks somebody.
const VM_KEYS: &[&str] = &[
    "address",
    "boot_id",
    "booted_after_ms",
    "connection",
    "console_log",
    "created",
    "id",
    "image",
    "image_id",
    "kernel",
    "last_error",
    "memory_mib",
    "name",
    "nat",
    "published_ports",
    "reachable_after_ms",
    "started",
    "state",
    "unclean",
    "vcpu",
    "vmm",
    "vmm_pid",
    "work_disk_mib",
    "workspace",
];

#[test]
fn json_keeps_its_keys() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    let empty = env.banger(["vm", "list", "--json"]).finish().ok().json();
    assert_eq!(empty, serde_json::json!({ "vms": [] }));

    create(&env, "box", &["--wait", "booted"]);
    let listed = env.vms();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let shown = env.banger(["vm", "show", "box", "--json"]).finish().ok().json();
    assert_eq!(keys(&listed[0]), VM_KEYS.iter().copied().collect());
    assert_eq!(keys(&shown), VM_KEYS.iter().copied().collect());
    assert_eq!((&shown["name"], &shown["state"]), (&Value::from("box"), &Value::from("running")));
    assert!(shown["reachable_after_ms"].as_u64() <= shown["booted_after_ms"].as_u64(), "{shown}");

    let ports = env.banger(["vm", "ports", "box", "--json"]).finish().ok().json();
    let ports = ports["ports"].as_array().expect("a list").clone();
    assert!(ports.iter().any(|port| port["port"] == 22 && port["protocol"] == "tcp"), "{ports:?}");
    let logs = env.banger(["vm", "logs", "box"]).finish().ok();
    assert!(logs.text().contains("banger-guest: reachable"), "{logs:?}");
    delete_and_check(&env, "box");

    events_of_a_run(&env, text(repository.path()));
    errors_are_objects(&env);
}

fn events_of_a_run(env: &Env, path: &str) {
    let outcome = env.banger(run_words(&["--rm", "--json", path, "--", "sh", "-c", "printf data; exit 3"])).finish();
    let outcome = outcome.expect(3);
    let events: Vec<Value> = outcome
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let kinds: Vec<&str> =
        events.iter().map(|event| event["event"].as_str().expect("every event says its kind")).collect();
    let order = ["spec", "stage", "ready", "workspace", "stdout", "exit", "deleted"];
    let firsts: Vec<usize> = order
        .iter()
        .map(|kind| kinds.iter().position(|found| found == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}")))
        .collect();
    assert!(firsts.is_sorted(), "{kinds:?}");
    let exit = events.iter().find(|event| event["event"] == "exit").expect("found above");
    assert_eq!(exit["status"], 3, "{exit}");
    env.assert_nothing_left();
}

fn errors_are_objects(env: &Env) {
    let outcome = env.banger(["vm", "show", "nobody", "--json"]).finish().expect(3);
    let error: Value = serde_json::from_slice(&outcome.stderr).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&Value::from("not_found"), &Value::from(3)));
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}
