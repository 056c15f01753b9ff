//! Guests that never answer: the error names machine and stage, points at logs and show, and the machine is kept.

use std::time::Duration;

use banger_tests::env::Env;
use banger_tests::repository::Repository;
use banger_tests::run::Outcome;
use banger_tests::wait::until;

use super::{create, delete_and_check, exec, me, run_words, state_of, text};

/// From the end of a session to the end of the VMM.
const SETTLES: Duration = Duration::from_secs(60);

#[test]
fn a_guest_that_never_starts_is_kept_for_a_look_even_with_rm() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    // The kernel finds no program to start and panics.
    let words = ["--rm", "--name", "dead", "--kernel-arg", "rdinit=/nonexistent", "--wait-timeout", "20"];
    let outcome = env.banger(run_words(&[&words[..], &[text(repository.path()), "--", "true"]].concat())).finish();
    explains(&outcome, "dead");

    assert!(state_of(&env, "dead").is_some(), "the machine is kept: {outcome:?}");
    let logs = env.banger(["vm", "logs", "dead"]).finish().ok();
    assert!(logs.text().contains("Kernel panic"), "the console shows why: {logs:?}");
    env.banger(["vm", "show", "dead"]).finish().ok();
    delete_and_check(&env, "dead");
}

#[test]
fn a_guest_whose_ssh_server_is_dead_is_reachable_but_not_booted() {
    let Some(env) = Env::ready(me()) else { return };
    // systemctl needs a system that has booted.
    create(&env, "box", &["--wait", "booted"]);
    exec(&env, "box", &["systemctl", "mask", "ssh.service", "ssh.socket"]).ok();
    env.banger(["vm", "stop", "box"]).finish().ok();

    let outcome = env.banger(["vm", "start", "box", "--wait", "booted", "--wait-timeout", "30"]).finish();
    explains(&outcome, "box");

    // The agent's own server still answers: the machine can be looked into.
    assert_eq!(state_of(&env, "box").as_deref(), Some("running"));
    exec(&env, "box", &["systemctl", "unmask", "ssh.service", "ssh.socket"]).ok();
    delete_and_check(&env, "box");
}

#[test]
fn a_guest_with_a_full_root_disk_can_still_be_entered() {
    let Some(env) = Env::ready(me()) else { return };
    create(&env, "box", &[]);
    let fill = "fallocate -l $(( $(df --output=avail -k / | tail -n 1) * 1024 )) /fill; dd if=/dev/zero of=/fill2 bs=4k; df /; true";
    exec(&env, "box", &["sh", "-c", fill]).ok();
    env.banger(["vm", "stop", "box"]).finish().ok();

    let outcome = env.banger(["vm", "start", "box", "--wait", "reachable", "--wait-timeout", "60"]).finish();
    if outcome.code() == 0 {
        exec(&env, "box", &["rm", "-f", "/fill", "/fill2"]).ok();
    } else {
        explains(&outcome, "box");
        assert!(outcome.errors().contains("No space left") || outcome.errors().contains("full"), "{outcome:?}");
    }
    delete_and_check(&env, "box");
}

#[test]
fn a_guest_that_switches_itself_off_is_kept_with_its_work_even_with_rm() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    // A kernel that powers off takes the disks from what still runs. From a systemd that is still starting, too: it would
    // die of that, and the kernel panic and start again instead of switching off.
    let script = "until systemctl is-system-running --wait | grep -E 'running|degraded'; do sleep 1; done
        echo work > new && sync && poweroff -f";
    let words = ["--rm", "--name", "off", text(repository.path()), "--", "sh", "-c", script];
    let outcome = env.banger(run_words(&words)).finish();
    assert_ne!(outcome.code(), 0, "a session that broke off is no success: {outcome:?}");
    assert!(outcome.errors().contains("vm delete --discard off"), "the way out is named: {outcome:?}");

    // The session breaks off while the guest is still on its way down.
    until("the VM is stopped", SETTLES, || state_of(&env, "off").as_deref() == Some("stopped"));
    env.banger(["vm", "start", "off"]).finish().ok();
    assert_eq!(exec(&env, "off", &["cat", "/root/repo/new"]).ok().text(), "work\n");
    env.banger(["vm", "delete", "--discard", "off"]).finish().ok();
    env.assert_nothing_left();
}

#[track_caller]
fn explains(outcome: &Outcome, name: &str) {
    let code = outcome.code();
    assert!(code != 0, "a dead guest is no success: {outcome:?}");
    let errors = outcome.errors();
    let stages = ["launch", "boot", "reachable", "booted", "kernel", "ssh"];
    assert!(errors.lines().any(|line| line.starts_with("error:") && line.contains(name)), "{outcome:?}");
    assert!(stages.iter().any(|stage| errors.contains(stage)), "no stage is named: {outcome:?}");
    for command in ["vm logs", "vm show"] {
        assert!(errors.contains(&format!("{command} {name}")), "no `{command} {name}` in: {outcome:?}");
    }
}
