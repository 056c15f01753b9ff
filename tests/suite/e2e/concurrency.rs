//! Several at once.

use banger_tests::env::Env;
use banger_tests::repository::Repository;

use super::{me, run_words, text};

#[test]
fn four_runs_at_once_all_succeed_and_leave_nothing() {
    let Some(env) = Env::ready_alone(me()) else { return };
    let repositories: Vec<_> = (0..4)
        .map(|number| {
            let repository = Repository::small(&env, &format!("repo-{number}"));
            repository.write("number.txt", format!("{number}\n").as_bytes());
            repository.commit("number");
            repository
        })
        .collect();
    // No daemon runs yet: they also race to start it.
    let running: Vec<_> = repositories
        .iter()
        .map(|repository| env.banger(run_words(&["--rm", text(repository.path()), "--", "cat", "number.txt"])).start())
        .collect();
    for (number, run) in running.into_iter().enumerate() {
        let outcome = run.finish().ok();
        assert_eq!(outcome.text(), format!("{number}\n"), "{outcome:?}");
    }
    env.assert_nothing_left();
}

#[test]
fn a_verb_on_several_machines_goes_on_after_a_failure() {
    let Some(env) = Env::ready(me()) else { return };
    for name in ["one", "two"] {
        env.banger(["vm", "create", "--name", name, "--no-start"]).finish().ok();
    }
    let outcome = env.banger(["vm", "delete", "one", "missing", "two"]).finish();
    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.errors().contains("missing"), "{outcome:?}");
    env.assert_nothing_left();
}
