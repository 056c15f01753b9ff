//! The daemon dies (kill -9) at the worst moments: the next command tells the truth and can clean up.

use banger_tests::env::Env;
use banger_tests::run::SHORT;
use banger_tests::wait::until;

use super::{create, delete_and_check, exec, me, state_of};

#[test]
fn a_machine_outlives_its_daemon() {
    let Some(env) = Env::ready(me()) else { return };
    create(&env, "box", &[]);
    let machine = env.machines();
    let boot_id = exec(&env, "box", &["cat", "/proc/sys/kernel/random/boot_id"]).ok().text();

    env.kill_daemon();
    assert_eq!(env.machines(), machine, "the machine died with the daemon");
    assert_eq!(state_of(&env, "box").as_deref(), Some("running"));
    assert_eq!(exec(&env, "box", &["cat", "/proc/sys/kernel/random/boot_id"]).ok().text(), boot_id);

    // And a machine that dies while no daemon watches is not called running.
    env.kill_daemon();
    env.machines().iter().for_each(|machine| machine.signal(rustix::process::Signal::KILL));
    until("the machine is gone", SHORT, || env.machines().is_empty());
    assert_ne!(state_of(&env, "box").as_deref(), Some("running"));
    delete_and_check(&env, "box");
}

#[test]
fn a_daemon_killed_while_creating_leaves_only_what_it_admits() {
    let Some(env) = Env::ready(me()) else { return };
    for stage in stages_of_create(&env) {
        let arguments = ["vm", "create", "--name", "box", "--json"];
        let mut creating = env.banger(arguments).args(super::SMALL).start();
        // A stage that is over before we look is as good a moment as any.
        let _ = creating.reaches(&format!("\"{stage}\""));
        if env.daemon().is_some() {
            env.kill_daemon();
        }
        let outcome = creating.finish();
        if outcome.code() != 0 {
            assert!(outcome.errors().contains("error"), "killed at {stage}: {outcome:?}");
        }
        match state_of(&env, "box") {
            Some(_) => delete_and_check(&env, "box"),
            None => env.assert_nothing_left(),
        }
    }
}

#[test]
fn a_delete_that_was_cut_short_can_be_finished() {
    let Some(env) = Env::ready(me()) else { return };
    for wait_for_the_machine in [false, true] {
        create(&env, "box", &[]);
        let deleting = env.banger(["vm", "delete", "box"]).start();
        if wait_for_the_machine {
            until("the machine ends", SHORT, || env.machines().is_empty());
        }
        env.kill_daemon();
        let _ = deleting.finish();
        if state_of(&env, "box").is_some() {
            env.banger(["vm", "delete", "box"]).finish().ok();
        }
        env.assert_nothing_left();
    }
}

/// The stages `vm create` goes through here, as it names them itself.
fn stages_of_create(env: &Env) -> Vec<String> {
    let outcome = env.banger(["vm", "create", "--name", "scout", "-v"]).args(super::SMALL).finish().ok();
    let list = env.banger(["vm", "show", "scout", "--json"]).finish().ok();
    assert_eq!(list.json()["name"], "scout", "{outcome:?}");
    delete_and_check(env, "scout");
    ["disks", "launch", "boot"].map(str::to_owned).to_vec()
}
