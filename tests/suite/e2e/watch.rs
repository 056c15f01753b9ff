//! Edits follow into a real machine: while a command runs there, across its restarts, beside it in the background.

use std::time::Duration;

use banger_tests::env::Env;
use banger_tests::repository::Repository;
use banger_tests::wait::{poll, until};

use super::{SMALL, create, exec, me, run_words, text};

/// For what happens in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn session(env: &Env) -> serde_json::Value {
    env.banger(["vm", "workspace", "status", "--json"]).finish().ok().json()["sessions"][0].clone()
}

#[test]
fn saves_reach_a_command_that_runs_and_guest_work_is_told_and_settled() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    let script = "tail -n 1 hello.txt; for i in $(seq 3000); do
        if [ \"$(cat hello.txt)\" != \"$last\" ]; then last=$(cat hello.txt); echo \"saw $last\"; fi
        [ \"$last\" = over ] && exit 7; sleep 0.05; done";
    let words = run_words(&["--name", "box", "--watch", text(repository.path()), "--", "sh", "-c", script]);
    let mut running = env.banger(words).limit(PATIENCE * 2).start();
    assert!(running.reaches("saw hello from the host"), "{}", running.stderr());
    for number in 0..5 {
        repository.write("hello.txt", format!("save {number}\n").as_bytes());
        assert!(running.reaches(&format!("saw save {number}")), "{}\n{}", running.stdout(), running.stderr());
    }
    let shown = session(&env);
    assert_eq!((&shown["vm"], &shown["watching"]), (&"box".into(), &"events".into()), "{shown}");

    exec(&env, "box", &["sh", "-c", "echo work > Makefile"]).ok();
    until("the guest's edit is told", PATIENCE, || session(&env)["conflicts"][0]["path"] == "Makefile");
    // It is data all the same which tree that is.
    let refused = env.banger(["vm", "workspace", "flush", "box"]).finish().expect(4);
    assert!(refused.errors().contains("Makefile"), "{refused:?}");
    env.banger(["vm", "exec", "--synced", "box", "--", "true"]).finish().refused(4, &["Makefile"]);
    env.banger(["vm", "workspace", "resolve", "box", "--prefer", "host", "Makefile"]).finish().ok();
    let flushed = env.banger(["vm", "workspace", "flush", "box", "--json"]).finish().ok().json();
    assert_eq!(flushed["equal"], true, "{flushed}");

    repository.write("hello.txt", b"over\n");
    let ended = running.finish().expect(7);
    assert!(ended.errors().contains("tree b3:"), "{}", ended.errors());
    assert_eq!(
        env.banger(["vm", "workspace", "status", "--json"]).finish().ok().json()["sessions"],
        serde_json::json!([])
    );
    env.banger(["vm", "delete", "box"]).finish().ok();
    env.assert_nothing_left();
}

#[test]
fn a_session_in_the_background_survives_stop_and_start() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    create(&env, "box", &[]);
    let path = text(repository.path());
    // What the session says before it ends is its starter's to tell.
    let outside = text(repository.path().parent().expect("it is in a directory"));
    let ended = env.banger(["vm", "workspace", "sync", "--watch", "--detach", "box", outside]).finish().expect(1);
    assert!(ended.errors().contains("not in a git repository"), "{ended:?}");
    env.banger(["vm", "workspace", "sync", "--watch", "--detach", "box", path]).limit(PATIENCE).finish().ok();
    env.banger(["vm", "workspace", "sync", "--watch", "box", path]).finish().refused(4, &["another session"]);
    repository.write("hello.txt", b"first\n");
    let seen = env.banger(["vm", "exec", "--synced", "box", "--", "cat", "hello.txt"]).finish().ok();
    assert_eq!(seen.text(), "first\n");
    assert!(seen.errors().contains("tree b3:"), "{}", seen.errors());

    env.banger(["vm", "stop", "box"]).finish().ok();
    let mut seen = serde_json::Value::Null;
    let noticed = poll(PATIENCE, || {
        seen = session(&env);
        (seen["state"] == "connecting").then_some(())
    });
    assert!(noticed.is_some(), "the stop is not noticed: {seen:#}");
    // The receiver was gone before its home was unmounted.
    let console = env.banger(["vm", "logs", "box"]).finish().ok().text();
    assert!(!console.contains("root.mount") && !console.contains("Unmounting '/root' blocked"), "{console}");
    repository.write("hello.txt", b"while it was off\n");
    env.banger(["vm", "start", "box"]).limit(PATIENCE).finish().ok();
    until("it goes on by itself", PATIENCE, || exec(&env, "box", &["cat", "hello.txt"]).text() == "while it was off\n");
    reboots(&env, &repository);
    env.banger(["vm", "workspace", "pause", "box"]).finish().ok();
    env.banger(["vm", "workspace", "flush", "box"]).finish().refused(4, &["paused", "resume"]);
    env.banger(["vm", "workspace", "resume", "box"]).finish().ok();
    env.banger(["vm", "workspace", "flush", "box"]).limit(PATIENCE).finish().ok();
    env.banger(["vm", "workspace", "verify", "box"]).finish().ok();
    env.banger(["vm", "workspace", "stop", "box"]).finish().ok();
    env.banger(["vm", "workspace", "flush", "box"]).finish().refused(3, &["box"]);
    env.banger(["vm", "delete", "box"]).finish().ok();
    env.assert_nothing_left();
}

/// From inside; nobody tells the session.
fn reboots(env: &Env, repository: &Repository<'_>) {
    let boot_id = || {
        let words = ["vm", "exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id"];
        let asked = env.banger(words).limit(PATIENCE).finish();
        (asked.code() == 0).then(|| asked.text())
    };
    let before = boot_id().expect("the guest is there");
    // systemd hears nobody while it is booting itself.
    until("it may be told to reboot", PATIENCE, || {
        env.banger(["vm", "exec", "box", "--", "reboot"]).limit(PATIENCE).finish().code() == 0
    });
    until("it boots anew", PATIENCE, || boot_id().is_some_and(|now| now != before));
    repository.write("hello.txt", b"after a reboot\n");
    until("it goes on by itself", PATIENCE, || exec(env, "box", &["cat", "hello.txt"]).text() == "after a reboot\n");
}

#[test]
fn a_machine_in_the_background_takes_its_session_along_when_it_is_deleted() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    let words = [&["vm", "run"], &SMALL[..], &["-d", "--name", "box", "--watch", text(repository.path())]].concat();
    env.banger(words).limit(PATIENCE).finish().ok();
    repository.write("hello.txt", b"followed\n");
    until("the save is there", PATIENCE, || exec(&env, "box", &["cat", "hello.txt"]).text() == "followed\n");
    env.banger(["vm", "delete", "box"]).finish().ok();
    until("the session ends with its machine", PATIENCE, || {
        env.banger(["vm", "workspace", "status", "--json"]).finish().ok().json()["sessions"] == serde_json::json!([])
    });
    env.assert_nothing_left();
}
