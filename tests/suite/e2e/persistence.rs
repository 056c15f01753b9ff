//! What is written in a guest is there after stop and start.

use banger_tests::env::Env;
use banger_tests::repository::Repository;

use super::{create, exec, me, state_of, text};

#[test]
fn files_survive_stop_and_start() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    create(&env, "box", &[]);
    env.banger(["vm", "workspace", "prepare", "box", text(repository.path())]).finish().ok();
    // Not synced on purpose: stopping must do that.
    exec(
        &env,
        "box",
        &["sh", "-c", "echo work > /root/kept; echo system > /etc/kept; echo edit >> /root/repo/hello.txt"],
    )
    .ok();

    env.banger(["vm", "stop", "box"]).finish().ok();
    assert_eq!(state_of(&env, "box").as_deref(), Some("stopped"));
    assert!(env.machines().is_empty(), "a stopped machine has no process: {:?}", env.machines());
    let shown = env.banger(["vm", "show", "box", "--json"]).finish().ok().json();
    assert_eq!(shown["unclean"], false, "{shown}");
    exec(&env, "box", &["true"]).refused(4, &["box", "stopped"]);

    env.banger(["vm", "start", "box"]).finish().ok();
    let kept = exec(&env, "box", &["sh", "-c", "cd && cat kept /etc/kept repo/hello.txt"]).ok();
    assert_eq!(kept.text(), "work\nsystem\nhello from the host\nedit\n", "{kept:?}");

    env.banger(["vm", "kill", "box"]).finish().ok();
    assert_eq!(state_of(&env, "box").as_deref(), Some("stopped"));
    env.banger(["vm", "start", "box"]).finish().ok();
    let kept = exec(&env, "box", &["cat", "/root/kept", "/etc/kept"]).ok();
    assert_eq!(kept.text(), "work\nsystem\n", "{kept:?}");
    // The edit of hello.txt exists nowhere else.
    env.banger(["vm", "delete", "box"]).finish().refused(5, &["box", "hello.txt", "--discard"]);
    env.banger(["vm", "delete", "--discard", "box"]).finish().ok();
    env.assert_nothing_left();
}

#[test]
fn guests_do_not_see_each_other_s_files() {
    let Some(env) = Env::ready_alone(me()) else { return };
    create(&env, "one", &[]);
    exec(&env, "one", &["sh", "-c", "echo secret > /etc/secret; echo secret > /root/secret; sync"]).ok();
    create(&env, "two", &[]);
    exec(&env, "two", &["sh", "-c", "test ! -e /etc/secret && test ! -e /root/secret"]).ok();
    env.banger(["vm", "delete", "one", "two"]).finish().ok();
    env.assert_nothing_left();
}
