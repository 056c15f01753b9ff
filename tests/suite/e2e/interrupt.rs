//! Ctrl-C at every stage of `vm run --rm` leaves nothing, and says so in its exit status.

use std::time::Duration;

use banger_tests::env::Env;
use banger_tests::repository::Repository;
use banger_tests::wait::poll;
use rustix::process::Signal;

use super::{me, run_words, text};

/// Far longer than the way of a signal to the guest and the deletion of a VM take.
const LOST_AFTER: Duration = Duration::from_secs(40);

#[test]
fn an_interrupted_run_leaves_nothing_whatever_it_was_doing() {
    let Some(env) = Env::ready(me()) else { return };
    let repository = Repository::small(&env, "repo");
    let words = ["--rm", "--json", text(repository.path()), "--", "sh", "-c", "echo started; sleep 1000"];

    let moments = moments_of_a_run(&env, text(repository.path()));
    assert!(moments.len() >= 4, "too few events to interrupt at: {moments:?}");
    for moment in moments {
        let mut running = env.banger(run_words(&words)).start();
        assert!(running.reaches(&moment), "never at {moment}: {:?}", running.finish());
        running.signal(Signal::INT);
        // The guest's shell loses a SIGINT that comes while it starts; then a person presses Ctrl-C once more.
        if poll(LOST_AFTER, || running.has_ended().then_some(())).is_none() {
            running.signal(Signal::INT);
        }
        let outcome = running.finish();
        assert_eq!(outcome.code(), 130, "interrupted at {moment}: {outcome:?}");
        env.assert_nothing_left();
    }
}

/// A piece of text of each event a run announces, in order, each kind once.
fn moments_of_a_run(env: &Env, path: &str) -> Vec<String> {
    let outcome = env.banger(run_words(&["--rm", "--json", path, "--", "echo", "started"])).finish().ok();
    let mut moments: Vec<String> = Vec::new();
    for line in outcome.text().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let moment = match event["event"].as_str() {
            Some("stage") => format!("\"name\":{}", event["name"]),
            Some("ready" | "workspace" | "stdout") => format!("\"event\":{}", event["event"]),
            _ => continue,
        };
        if !moments.contains(&moment) {
            moments.push(moment);
        }
    }
    moments
}
