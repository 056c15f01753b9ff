//! Starting bangerd on demand. The daemons here are small scripts that keep, or break, the promise of one line.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::daemon::Daemon;
use crate::environment::{Environment, Outcome, finish, spawn};

fn script(environment: &Environment, body: &str) -> PathBuf {
    let path = environment.path().join("bangerd");
    std::fs::write(&path, format!("#!/bin/sh\n# --rootless --ready-fd N\nready=$3\n{body}\n")).expect("writable");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("ours");
    path
}

fn list_with(environment: &Environment, body: &str) -> Outcome {
    let binary = script(environment, body);
    let mut command = environment.banger(&["vm", "list"]);
    finish(spawn(command.env("BANGERD_BINARY", binary).stdin(Stdio::null())))
}

#[test]
fn a_missing_daemon_names_the_places_looked_at() {
    let environment = Environment::new();
    let outcome = environment.run(&["vm", "list"]).expect(7);
    assert!(outcome.stderr.contains("/nonexistent/bangerd") && outcome.stderr.contains("hint:"), "{outcome:?}");
}

#[test]
fn the_daemons_own_failure_is_shown_as_ours() {
    let environment = Environment::new();
    let line = r#"{"failure":{"kind":"host_not_ready","chain":["cannot find QEMU","not on PATH"],"hints":["Install `qemu`."]}}"#;
    let outcome = list_with(&environment, &print_line(line)).expect(7);
    assert_eq!(
        outcome.stderr,
        "error: bangerd cannot start\ncaused by: cannot find QEMU\ncaused by: not on PATH\nhint: Install `qemu`.\n"
    );
}

fn print_line(line: &str) -> String {
    format!("printf '%s\\n' '{line}' > /proc/self/fd/$ready")
}

#[test]
fn a_daemon_that_dies_without_a_word_is_explained_by_its_log() {
    let environment = Environment::new();
    let outcome = list_with(&environment, "echo the disk is on fire >&2; exit 3").expect(6);
    assert!(outcome.stderr.contains("the disk is on fire"), "{outcome:?}");
    let log = environment.state().join("bangerd.log");
    assert!(outcome.stderr.contains(log.to_str().expect("text")), "{outcome:?}");
    assert_eq!(std::fs::metadata(&log).expect("made").permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_daemon_leads_a_session_of_its_own() {
    let environment = Environment::new();
    let line = r#"{"failure":{"kind":"failed","chain":["x"]}}"#;
    // Field 6 of stat is the session; the name in parentheses has no space.
    let body = format!("echo $$ $(cut -d' ' -f6 /proc/$$/stat) >&2; {}", print_line(line));
    list_with(&environment, &body).expect(1);
    let log = std::fs::read_to_string(environment.state().join("bangerd.log")).expect("made");
    let numbers: Vec<&str> = log.split_whitespace().collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{log}");
}

#[test]
fn losing_the_race_to_start_is_no_error() {
    let environment = Environment::new();
    // "Somebody else holds the lock": and a moment later that somebody listens.
    let line = r#"{"failure":{"kind":"conflict","chain":["bangerd is running already"]}}"#;
    let asked = environment.path().join("asked");
    let binary = script(&environment, &format!("touch {}; {}", asked.display(), print_line(line)));
    let child = spawn(environment.banger(&["vm", "list"]).env("BANGERD_BINARY", binary).stdin(Stdio::null()));
    crate::environment::until("the loser was started", || asked.exists());
    let _daemon = Daemon::start(&environment);
    finish(child).expect(0);
}

#[test]
fn a_daemon_of_another_version_that_cannot_be_replaced_is_used_with_a_warning() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.state().version = Some("0.0.9".into());
    let outcome = environment.run(&["vm", "list"]).expect(0);
    assert!(daemon.was_called("shutdown"));
    assert!(outcome.stderr.contains("warning: bangerd 0.0.9 is running"), "{outcome:?}");
}

#[test]
fn a_runtime_directory_of_everybody_is_refused() {
    let environment = Environment::new();
    std::fs::create_dir(environment.runtime()).expect("a new directory");
    std::fs::set_permissions(environment.runtime(), PermissionsExt::from_mode(0o777)).expect("ours");
    let outcome = environment.run(&["vm", "list"]).expect(5);
    assert!(outcome.stderr.contains("0777"), "{outcome:?}");
}

#[test]
fn status_and_version_never_start_it() {
    let environment = Environment::new();
    assert_eq!(environment.run(&["system", "status", "--json"]).expect(0).json()["running"], false);
    assert!(environment.run(&["version"]).expect(0).text().contains("not running"));
    environment.run(&["system", "stop"]).expect(0);
    let daemon = Daemon::start(&environment);
    assert_eq!(environment.run(&["system", "status", "--json"]).expect(0).json()["daemon"]["mode"], "rootless");
    let refused = environment.run(&["system", "stop"]).expect(4);
    assert!(daemon.was_called("shutdown") && refused.stderr.contains("under way"), "{refused:?}");
}

#[test]
fn the_daemon_keeps_no_descriptor_of_the_callers_shell() {
    let environment = Environment::new();
    let line = r#"{"failure":{"kind":"failed","chain":["x"]}}"#;
    let binary = script(&environment, &format!("ls -l /proc/$$/fd >&2; {}", print_line(line)));
    let lock = environment.path().join("lock");
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg("exec 9>lock; exec \"$BANGER\" vm list");
    environment.confine(&mut command);
    command.env("BANGER", env!("CARGO_BIN_EXE_banger")).env("BANGERD_BINARY", binary).stdin(Stdio::null());
    finish(spawn(&mut command)).expect(1);
    assert!(lock.exists(), "the shell opened it");
    let log = std::fs::read_to_string(environment.state().join("bangerd.log")).expect("made");
    assert!(log.contains("bangerd.log") && !log.contains("/lock"), "{log}");
}
