//! Sessions that follow edits, from the command line: a real session whose VM does not run yet, and what is said where
//! there is none. Saves that arrive in a machine are the end-to-end suite's.

use std::process::Command;

use banger_proto::v1::VmState;
use serde_json::json;

use crate::daemon::Daemon;
use crate::environment::{Environment, finish, signal, until};

fn repository(environment: &Environment) -> String {
    let root = environment.path().join("repo");
    std::fs::create_dir(&root).expect("a new directory");
    std::fs::write(root.join("file"), "content\n").expect("writable");
    let git = |words: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&root).args(words).status().expect("git runs");
        assert!(done.success(), "{words:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "first"]);
    root.to_str().expect("UTF-8").to_owned()
}

fn sessions(environment: &Environment) -> serde_json::Value {
    environment.run(&["vm", "workspace", "status", "--json"]).expect(0).json()["sessions"].clone()
}

#[test]
fn a_session_answers_waits_for_its_machine_and_ends_without_a_trace() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.add("box", VmState::Stopped);
    let root = repository(&environment);
    let child = environment.start(&["vm", "workspace", "sync", "--watch", "--json", "box", &root]);
    until("the session is there", || sessions(&environment)[0]["state"] == "connecting");
    until("it says why", || sessions(&environment)[0]["problem"] == "VM box is stopped");
    let shown = sessions(&environment)[0].clone();
    assert_eq!(
        (&shown["vm"], &shown["mode"], &shown["pid"]),
        (&json!("box"), &json!("one-way-safe"), &json!(child.id()))
    );
    let second = environment.run(&["vm", "workspace", "sync", "--watch", "box", &root]).expect(4);
    assert!(second.stderr.contains("another session follows edits into VM box"), "{second:?}");
    environment.run(&["vm", "workspace", "pause", "bo"]).expect(0);
    until("paused", || sessions(&environment)[0]["state"] == "paused");
    let flushed = environment.run(&["vm", "workspace", "flush", "box"]).expect(4);
    assert!(flushed.stderr.contains("paused") && flushed.stderr.contains("resume"), "{flushed:?}");
    let settled = environment.run(&["vm", "workspace", "resolve", "box", "--prefer", "host", "file"]).expect(3);
    assert!(settled.stderr.contains("file is not in conflict"), "{settled:?}");
    let table = environment.run(&["vm", "workspace", "status"]).expect(0);
    assert!(table.text().starts_with("VM   STATE   ROOT") && table.text().contains("paused"), "{table:?}");
    environment.run(&["vm", "workspace", "stop", "box"]).expect(0);
    let ended = finish(child).expect(0);
    let events = ended.events();
    assert_eq!(events.first().map(|event| &event["event"]), Some(&json!("status")));
    assert_eq!(events.last().map(|event| &event["event"]), Some(&json!("ended")));
    assert_eq!(sessions(&environment), json!([]));
    environment.run(&["vm", "workspace", "flush", "box"]).expect(3);
}

#[test]
fn ctrl_c_ends_a_session_well_and_a_killed_one_is_shown_as_dead() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.add("box", VmState::Stopped);
    let root = repository(&environment);
    let words = ["vm", "workspace", "sync", "--watch", "--mode", "one-way-replica", "box", &root];
    let child = environment.start(&words);
    until("the session is there", || sessions(&environment)[0]["mode"] == "one-way-replica");
    signal(&child, rustix::process::Signal::INT);
    finish(child).expect(0);
    assert_eq!(sessions(&environment), json!([]));

    let mut child = environment.start(&words);
    until("the session is there", || sessions(&environment)[0]["state"] == "connecting");
    child.kill().expect("it runs");
    child.wait().expect("our child");
    assert_eq!(sessions(&environment)[0]["state"], "dead");
    let shown = environment.run(&["vm", "workspace", "status", "box"]).expect(0);
    assert!(shown.text().contains("its process is gone"), "{shown:?}");
    let refused = environment.run(&["vm", "workspace", "pause", "box"]).expect(3);
    assert!(refused.stderr.contains("sync --watch box"), "{refused:?}");
    environment.run(&["vm", "workspace", "stop", "box"]).expect(0);
    assert_eq!(sessions(&environment), json!([]));
}

#[test]
fn what_cannot_be_followed_is_refused_before_anything_runs() {
    let environment = Environment::new();
    for words in [
        &["vm", "workspace", "sync", "--mode", "one-way-replica", "box"][..],
        &["vm", "workspace", "sync", "--detach", "box"],
        &["vm", "run", "--watch"],
        &["vm", "run", "--watch", "--branch", "b", "--from", "HEAD", "."],
        &["vm", "exec", "--synced", "--auto-prepare", "box", "--", "true"],
        &["vm", "workspace", "resolve", "box", "file"],
    ] {
        environment.run(words).expect(2);
    }
    environment.run(&["vm", "workspace", "status", "box"]).expect(3);
    assert_eq!(sessions(&environment), json!([]));
}
