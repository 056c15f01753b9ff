//! Verbs on VMs, and the other commands that are one call.

use banger_proto::failure::Kind;
use banger_proto::v1::VmState;
use serde_json::json;

use crate::daemon::Daemon;
use crate::environment::{Environment, finish, signal, until};

fn with_vms(vms: &[(&str, VmState)]) -> (Environment, Daemon) {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    for (name, state) in vms {
        daemon.add(name, *state);
    }
    (environment, daemon)
}

#[test]
fn good_targets_still_run_when_others_fail_and_the_first_failure_decides() {
    let (environment, daemon) =
        with_vms(&[("one", VmState::Running), ("two", VmState::Running), ("three", VmState::Running)]);
    daemon.fail("stop two", Kind::Conflict, "cannot stop VM two");
    let outcome = environment.run(&["vm", "stop", "three", "two", "missing", "one", "three"]).expect(4);
    let mut calls: Vec<String> = daemon.state().calls.clone();
    calls.sort();
    assert_eq!(calls, ["stop one", "stop three", "stop two"], "each once");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let place =
        |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:?}"));
    assert!(place("stopped three") < place("no VM is called \"missing\""), "{lines:?}");
    assert!(place("stopped one") < place("error: cannot stop VM two"), "the status' own error is last: {lines:?}");
    assert!(outcome.stdout.is_empty());

    let outcome = environment.run(&["--json", "vm", "stop", "missing", "one"]).expect(3);
    let results = outcome.json()["results"].clone();
    assert_eq!(results[0]["error"]["kind"], "not_found");
    assert_eq!((&results[1]["name"], &results[1]["ok"]), (&json!("one"), &json!(true)));
    let error: serde_json::Value = serde_json::from_str(outcome.stderr.trim()).expect("one JSON object");
    assert_eq!(error["error"]["exit_code"], 3);
}

#[test]
fn ambiguous_and_unique_beginnings_are_told_apart() {
    let (environment, daemon) = with_vms(&[("box-1", VmState::Running), ("box-2", VmState::Running)]);
    let outcome = environment.run(&["vm", "kill", "box"]).expect(2);
    assert!(outcome.stderr.contains("box-1, box-2"), "{outcome:?}");
    environment.run(&["vm", "kill", "box-2"]).expect(0);
    assert!(daemon.was_called("kill box-2"));
}

#[test]
fn restart_stops_only_what_runs() {
    let (environment, daemon) = with_vms(&[("up", VmState::Running), ("off", VmState::Stopped)]);
    environment.run(&["vm", "restart", "up", "off"]).expect(0);
    let calls = daemon.state().calls.clone();
    assert!(calls.contains(&"stop up".to_owned()) && !calls.contains(&"stop off".to_owned()), "{calls:?}");
    assert!(calls.contains(&"start up".to_owned()) && calls.contains(&"start off".to_owned()), "{calls:?}");
}

#[test]
fn deleting_forgets_the_pinned_key_and_starting_records_it() {
    let (environment, daemon) = with_vms(&[("box", VmState::Stopped)]);
    environment.run(&["vm", "start", "box"]).expect(0);
    let known_hosts = environment.state().join("ssh/known_hosts");
    let id = daemon.state().vms[0].id.clone();
    let text = std::fs::read_to_string(&known_hosts).expect("recorded");
    assert!(text.starts_with(&format!("banger-{id} ssh-ed25519 ")), "{text}");
    environment.run(&["vm", "delete", "box"]).expect(0);
    assert_eq!(std::fs::read_to_string(&known_hosts).expect("still there"), "");
    assert!(daemon.names().is_empty());
}

#[test]
fn prune_needs_a_yes_or_force() {
    let (environment, daemon) =
        with_vms(&[("up", VmState::Running), ("off", VmState::Stopped), ("bad", VmState::Broken)]);
    let outcome = environment.run(&["vm", "prune"]).expect(5);
    assert!(outcome.stderr.contains("hint: Add `--force`"), "{outcome:?}");
    assert_eq!(daemon.names().len(), 3);
    environment.run(&["vm", "prune", "-f"]).expect(0);
    assert_eq!(daemon.names(), ["up"]);
    let outcome = environment.run(&["vm", "prune", "-f"]).expect(0);
    assert!(outcome.stderr.contains("nothing to delete"), "{outcome:?}");
}

#[test]
fn an_interrupted_verb_ends_with_130() {
    let (environment, _daemon) = with_vms(&[("box", VmState::Running)]);
    let child = environment.start(&["vm", "logs", "-f", "box"]);
    let mut child = child;
    let mut first = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut first).expect("the log begins");
    signal(&child, rustix::process::Signal::INT);
    assert_eq!(finish(child).code(), 130);
}

#[test]
fn logs_go_into_a_pipe_as_they_are() {
    let (environment, _daemon) = with_vms(&[("box", VmState::Running)]);
    let outcome = environment.run(&["vm", "logs", "box"]).expect(0);
    assert_eq!(outcome.stdout, b"Linux version\r\n\x1b[31mred\n");
    environment.run(&["vm", "logs", "box", "--json"]).expect(2);
}

#[test]
fn ports_are_those_of_running_vms_and_a_silent_one_does_not_hide_the_others() {
    let (environment, daemon) =
        with_vms(&[("one", VmState::Running), ("two", VmState::Running), ("off", VmState::Stopped)]);
    daemon.fail("ports one", Kind::Failed, "VM one does not answer");
    let outcome = environment.run(&["vm", "ports", "--json"]).expect(1);
    let ports = outcome.json()["ports"].clone();
    assert_eq!(ports.as_array().map(Vec::len), Some(1), "{ports}");
    assert_eq!((&ports[0]["vm"], &ports[0]["port"]), (&json!("two"), &json!(22)));
}

#[test]
fn commands_in_a_stopped_vm_are_refused_with_the_way_out() {
    let (environment, _daemon) = with_vms(&[("box", VmState::Stopped)]);
    for words in [&["vm", "exec", "box", "--", "true"][..], &["vm", "ssh", "box"]] {
        let outcome = environment.run(words).expect(4);
        assert!(outcome.stderr.contains("error: VM box is stopped"), "{outcome:?}");
        assert!(outcome.stderr.contains("hint: Start it with `banger vm start box`."), "{outcome:?}");
    }
    environment.run(&["vm", "exec", "nobody", "--", "true"]).expect(3);
}

#[test]
fn images_and_kernels_are_listed_pulled_and_deleted() {
    let (environment, _daemon) = with_vms(&[]);
    assert!(environment.run(&["image", "list"]).expect(0).text().contains("debian-bookworm"));
    assert!(environment.run(&["image", "list", "--available"]).expect(0).text().contains("alpine"));
    let pulled = environment.run(&["image", "pull", "debian-bookworm", "--json"]).expect(0).json();
    assert_eq!(pulled["name"], "debian-bookworm");
    assert_eq!(environment.run(&["image", "delete", "x", "--json"]).expect(0).json()["name"], "x");
    assert_eq!(environment.run(&["kernel", "list", "--json"]).expect(0).json()["kernels"][0]["name"], "generic-6.12");
    assert_eq!(environment.run(&["kernel", "pull", "k", "--json"]).expect(0).json()["local"], true);
    assert!(environment.run(&["kernel", "show", "k"]).expect(0).text().contains("k"));
}

#[test]
fn the_list_is_read_page_by_page() {
    let (environment, _daemon) = with_vms(&[("a", VmState::Running), ("b", VmState::Stopped), ("c", VmState::Broken)]);
    let listed = environment.run(&["ps", "--json"]).expect(0).json();
    let names: Vec<&str> =
        listed["vms"].as_array().expect("a list").iter().filter_map(|vm| vm["name"].as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    until("show finds each", || environment.run(&["vm", "show", "b"]).code() == 0);
}

#[test]
fn settings_are_sent_as_given_and_nothing_else() {
    let (environment, daemon) = with_vms(&[("box", VmState::Running)]);
    environment.run(&["vm", "set", "box", "--no-nat", "--memory", "2G"]).expect(0);
    assert!(daemon.was_called("set box Some(false) None Some(2048)"), "{:?}", daemon.state().calls);
    environment.run(&["vm", "set", "box"]).expect(2);
    environment.run(&["vm", "set", "box", "--nat", "--no-nat"]).expect(2);
    environment.run(&["vm", "set", "box", "--vcpu", "0"]).expect(2);
}

#[test]
fn what_changes_the_host_is_refused_to_anybody_but_root() {
    if rustix::process::getuid().is_root() {
        // The whole way is walked on a real host: smoke/scenarios.
        return;
    }
    let environment = Environment::new();
    for words in [["system", "install"], ["system", "uninstall"], ["system", "restart"]] {
        let outcome = environment.run(&words).expect(5);
        assert!(outcome.stderr.contains("sudo banger system"), "{outcome:?}");
    }
}
