//! `vm run` and `vm create` up to the point where a guest would have to answer: refusals, failures, Ctrl-C.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use banger_proto::failure::Kind;
use banger_proto::v1::VmState;
use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::environment::{Environment, finish, signal, until};

fn repository(environment: &Environment) -> String {
    let path = environment.path().join("repo");
    std::fs::create_dir(&path).expect("a new directory");
    std::fs::write(path.join("tracked.txt"), "one\n").expect("writable");
    std::fs::write(path.join("loose.txt"), "two\n").expect("writable");
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        environment.confine(&mut command);
        command.current_dir(&path).args(["-c", "user.name=T", "-c", "user.email=t@example.org"]).args(words);
        assert!(command.output().expect("git runs").status.success(), "git {words:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "tracked.txt"]);
    git(&["commit", "-q", "-m", "first"]);
    path.to_str().expect("text").to_owned()
}

#[test]
fn a_dry_run_tells_what_would_travel_and_needs_no_daemon() {
    let environment = Environment::new();
    let path = repository(&environment);
    let outcome = environment.run(&["vm", "run", "--dry-run", &path]).expect(0);
    assert!(outcome.text().contains("tracked.txt") && !outcome.text().contains("loose.txt"), "{outcome:?}");
    assert!(outcome.stderr.contains("1 untracked files are left out"), "{outcome:?}");
    let outcome = environment.run(&["vm", "run", "--dry-run", "--include-untracked", "--json", &path]).expect(0).json();
    let paths: Vec<&str> =
        outcome["entries"].as_array().expect("a list").iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert_eq!(paths, ["loose.txt", "tracked.txt"]);
    assert_eq!((&outcome["branch"], &outcome["files"]), (&"main".into(), &2.into()));
    let same = environment.run(&["vm", "workspace", "prepare", "--dry-run", "box", &path, "--json"]).expect(0).json();
    assert_eq!(same["files"], 1);
    assert!(!environment.runtime().exists() && !environment.state().exists(), "nothing was started or made");
}

#[test]
fn the_mode_of_a_workspace_is_shown_and_remembered() {
    let environment = Environment::new();
    let path = repository(&environment);
    let mode = |words: &[&str]| {
        let outcome = environment.run(&[words, &["--dry-run", "--json"]].concat()).expect(0).json();
        outcome["mode"].as_str().expect("a word").to_owned()
    };
    let prepare = ["vm", "workspace", "prepare", "box", &path];
    assert_eq!(mode(&prepare), "overlay");
    assert_eq!(mode(&[&prepare[..], &["--mode", "full_copy"]].concat()), "full_copy");
    assert_eq!(mode(&["vm", "run", "--mode", "full_copy", &path]), "full_copy");
    let text = environment.run(&["vm", "run", "--dry-run", "--mode", "full_copy", &path]).expect(0);
    assert!(text.text().lines().any(|line| line == "mode full_copy"), "{text:?}");
    // As a prepare leaves it.
    let records = environment.state().join("workspaces");
    std::fs::create_dir_all(&records).expect("a new directory");
    std::fs::write(records.join("0123.json"), r#"{"full_copy":true,"name":"box"}"#).expect("a new file");
    assert_eq!(mode(&prepare), "full_copy");
    assert_eq!(mode(&[&prepare[..], &["--mode", "overlay"]].concat()), "overlay");
    for words in [&["--watch", "--mode", "full_copy"][..], &["--mode", "one-way-safe"]] {
        let outcome = environment.run(&[&["vm", "run"], words, &[&path, "--", "true"]].concat());
        assert_eq!(outcome.code(), 2, "{outcome:?}");
    }
}

#[test]
fn what_cannot_be_a_workspace_is_refused_before_anything_starts() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    let plain = environment.path().join("plain");
    std::fs::create_dir(&plain).expect("a new directory");
    let outcome = environment.run(&["vm", "run", "--rm", plain.to_str().expect("text"), "--", "true"]);
    assert_ne!(outcome.code(), 0);
    environment.run(&["vm", "run", "--rm", "/nonexistent", "--", "true"]).expect(3);
    assert!(daemon.state().calls.is_empty());
}

#[test]
fn files_that_cannot_be_taken_along_end_it_before_anything_starts() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    std::fs::create_dir(environment.path().join("config/banger")).expect("a new directory");
    let configure = |host: &str| {
        let good = "[[file_sync]]\nhost = \"~/missing\"\nguest = \"~/missing\"\n";
        let text = format!("{good}[[file_sync]]\nhost = {host:?}\nguest = \"~/x\"\n");
        std::fs::write(environment.path().join("config/banger/config.toml"), text).expect("ours");
    };
    std::os::unix::fs::symlink("/etc/passwd", environment.path().join("leaves")).expect("ours");
    for (host, words) in [
        ("/etc/passwd", "entry 2: `host` \"/etc/passwd\" is outside your home directory"),
        ("~/leaves", "entry 2: ~/leaves leads out of your home directory"),
        ("~/missing/../..", "entry 2: `host` \"~/missing/../..\" has a \"..\""),
    ] {
        configure(host);
        for verb in
            [&["vm", "run", "--", "true"][..], &["vm", "create"], &["vm", "start", "x"], &["vm", "restart", "x"]]
        {
            let outcome = environment.run(verb).expect(2);
            assert!(outcome.stderr.contains(words) && outcome.stderr.contains("hint: "), "{outcome:?}");
        }
    }
    assert!(daemon.state().calls.is_empty());
    // One that is not started needs no file yet, only a sound configuration.
    configure("~/leaves");
    environment.run(&["vm", "create", "--no-start"]).expect(0);
    // Nothing there is nothing to deliver, and so no connection to a guest that does not answer here.
    configure("~/missing too");
    let outcome = environment.run(&["vm", "create"]).expect(0);
    assert!(outcome.stderr.contains("entry 1: ~/missing is not there"), "{outcome:?}");
    assert!(outcome.stderr.contains("entry 2: ~/missing too is not there"), "{outcome:?}");
}

#[test]
fn create_sends_what_was_decided_and_prints_the_name() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    std::fs::write(environment.path().join(".gitconfig"), "[user]\n\tname = Me\n\temail = me@example.org\n")
        .expect("ours");
    let words =
        ["vm", "create", "--name", "box", "--vcpu", "1", "--memory", "512", "--nat", "-p", "8080:80", "--no-start"];
    let outcome = environment.run(&words).expect(0);
    assert_eq!(outcome.text(), "box\n");
    let request = daemon.state().created.clone().expect("a request");
    let owner = request.owner.clone().expect("owner material");
    assert!(owner.authorized_keys[0].starts_with("ssh-ed25519 "), "{owner:?}");
    assert_eq!(owner.git_identity.expect("an identity").email, "me@example.org");
    assert!(!request.start);
    let outcome = environment.run(&["vm", "create", "--json"]).expect(0);
    assert_eq!(outcome.json()["state"], "running");
}

#[test]
fn a_failed_creation_is_told_and_a_kept_vm_is_named() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.fail("create", Kind::HostNotReady, "cannot make VM box: no space");
    let outcome = environment.run(&["vm", "run", "--rm", "--name", "box", "--", "true"]).expect(7);
    assert!(outcome.stderr.contains("error: cannot make VM box") && !outcome.stderr.contains("kept"), "{outcome:?}");
    assert!(outcome.stderr.contains("operation: op-00000001"), "{outcome:?}");

    daemon.fail("create", Kind::Failed, "VM box did not answer");
    daemon.state().keeps_failed = true;
    let outcome = environment.run(&["vm", "run", "--rm", "--name", "box", "--", "true"]).expect(1);
    assert!(outcome.stderr.contains("is kept for a look: `banger vm logs box`"), "{outcome:?}");
    assert_eq!(daemon.names(), ["box"], "--rm does not delete a VM whose guest never answered");
}

#[test]
fn a_name_that_is_taken_never_costs_its_owner_the_vm() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.add("box", VmState::Running);
    let outcome = environment.run(&["vm", "run", "--rm", "--name", "box", "--", "true"]).expect(4);
    assert!(!outcome.stderr.contains("kept"), "{outcome:?}");
    assert_eq!(daemon.names(), ["box"]);
    assert!(!daemon.was_called("delete box"));
}

#[test]
fn ctrl_c_while_creating_leaves_nothing() {
    for stage in ["image", "disks", "boot"] {
        for forgets_to_undo in [false, true] {
            let environment = Environment::new();
            let daemon = Daemon::start(&environment);
            daemon.state().hang_at.insert(stage.to_owned());
            daemon.state().forgets_to_undo = forgets_to_undo;
            let mut child = environment.start(&["vm", "run", "--name", "box", "--", "true"]);
            let mut errors = BufReader::new(child.stderr.take().expect("piped"));
            let mut line = String::new();
            while !line.contains(&format!("stage {stage}")) {
                line.clear();
                assert_ne!(errors.read_line(&mut line).expect("readable"), 0, "never at {stage}");
            }
            signal(&child, Signal::INT);
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut errors, &mut rest).expect("text");
            assert_eq!(finish(child).code(), 130, "{rest}");
            assert!(rest.contains("error: cancelled while creating the VM"), "{rest}");
            assert!(daemon.was_called("cancel op-00000001"));
            assert_eq!(daemon.names(), [""; 0], "at {stage}, {forgets_to_undo}");
            assert_eq!(daemon.was_called("delete box"), forgets_to_undo);
        }
    }
}

#[test]
fn what_could_not_be_cleaned_up_is_attached_to_the_error() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.state().hang_at.insert("disks".into());
    daemon.state().forgets_to_undo = true;
    daemon.fail("delete", Kind::Failed, "the disk is busy");
    let child = environment.start(&["--json", "vm", "run", "--rm", "--name", "box", "--", "true"]);
    until("it is being created", || daemon.was_called("create box"));
    signal(&child, Signal::TERM);
    let outcome = finish(child).expect(130);
    let last = outcome.stderr.lines().last().expect("an error");
    let error: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(error["error"]["kind"], "cancelled");
    let left = error["error"]["left_behind"][0].as_str().expect("text");
    assert!(left.contains("cannot delete VM box") && left.contains("the disk is busy"), "{left}");
}

#[test]
fn a_guest_that_does_not_answer_keeps_its_vm_even_with_rm() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    let words = ["vm", "run", "--rm", "--name", "box", "--wait-timeout", "1", "--", "true"];
    let outcome = environment.run(&words).expect(1);
    assert!(outcome.stderr.contains("error: VM box did not answer at 127.0.0.1:1 within"), "{outcome:?}");
    assert!(outcome.stderr.contains("in spite of --rm"), "{outcome:?}");
    assert_eq!(daemon.names(), ["box"]);
}

#[test]
fn ctrl_c_while_the_guest_does_not_answer_deletes_with_rm_only() {
    for (flags, left) in [(&["--rm"][..], &[][..]), (&[], &["box"])] {
        let environment = Environment::new();
        let daemon = Daemon::start(&environment);
        let words = [&["--json", "vm", "run", "--name", "box"], flags, &["--", "true"]].concat();
        let child = environment.start(&words);
        until("it runs", || daemon.state().vms.iter().any(|vm| vm.state() == VmState::Running));
        // Reached only once the CLI has seen the end of the creation: then it records the pinned key.
        until("it is created", || environment.state().join("ssh/known_hosts").exists());
        signal(&child, Signal::INT);
        let outcome = finish(child).expect(130);
        assert_eq!(daemon.names(), left, "{outcome:?}");
        let events: Vec<String> =
            outcome.events().iter().map(|event| event["event"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(events.first().map(String::as_str), Some("spec"));
        assert_eq!(events.last().map(String::as_str), Some(if left.is_empty() { "deleted" } else { "warning" }));
    }
}

#[test]
fn detached_without_a_workspace_needs_no_connection() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    let outcome = environment.run(&["vm", "run", "-d", "--name", "box"]).expect(0);
    assert_eq!(outcome.text(), "box\n");
    assert!(outcome.stderr.contains("ready in "), "{outcome:?}");
    let events = environment.run(&["vm", "run", "-d", "--json"]).expect(0).events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["spec", "stage", "stage", "stage", "warning", "ready"]);
    assert_eq!(events[5]["vm"]["state"], "running");
    assert_eq!(daemon.names().len(), 2);
}

#[test]
fn a_terminal_session_has_no_json_form() {
    let environment = Environment::new();
    for words in
        [&["--json", "vm", "run"][..], &["--json", "vm", "run", "-t", "--", "true"], &["--json", "vm", "ssh", "x"]]
    {
        environment.run(words).expect(2);
    }
}
