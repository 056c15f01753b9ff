//! Commands in a guest: statuses, streams, signals, quoting; and the one-line session of the README.

use std::fs::File;
use std::io::Read as _;

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::repository::Repository;
use rustix::process::Signal;

use super::{create, delete_and_check, exec, for_both_users, run_words, text};

for_both_users!(a_run_brings_the_repository_and_returns_the_status, run_in_a_disposable_machine);
for_both_users!(a_command_is_as_good_as_local, commands_in_one_machine);

fn run_in_a_disposable_machine(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let repository = Repository::small(&env, "repo");
    let path = text(repository.path());

    let outcome = env.banger(run_words(&["--rm", path, "--", "sh", "-c", "cat hello.txt; exit 42"])).finish();
    let outcome = outcome.expect(42);
    assert_eq!(outcome.text(), "hello from the host\n", "{outcome:?}");
    env.assert_nothing_left();

    let outcome = env.banger(run_words(&["--rm", path, "--", "make", "test"])).finish().ok();
    assert_eq!(outcome.text(), "cat hello.txt\nhello from the host\n", "{outcome:?}");
    env.assert_nothing_left();

    // Outside any repository there is still a machine.
    let outcome = env.banger(run_words(&["--rm", "--", "sh", "-c", "id -u; pwd"])).finish().ok();
    assert_eq!(outcome.text(), "0\n/root\n", "{outcome:?}");
    env.assert_nothing_left();
}

fn commands_in_one_machine(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    create(&env, "box", &[]);

    exec(&env, "box", &["sh", "-c", "exit 42"]).expect(42);
    exec(&env, "box", &["sh", "-c", "kill -TERM $$"]).expect(128 + 15);
    exec(&env, "box", &["/no/such/program"]).expect(127);

    a_command_is_neither_spared_nor_preferred(&env);
    streams_stay_apart(&env);
    words_arrive_as_they_are(&env);
    many_bytes_survive_both_ways(&env);
    a_signal_reaches_the_command(&env);
    a_closed_stdin_ends_the_reader(&env);

    delete_and_check(&env, "box");
}

/// As its parent is, the agent.
fn a_command_is_neither_spared_nor_preferred(env: &Env) {
    let outcome =
        exec(env, "box", &["sh", "-c", "cut -d ' ' -f 19 /proc/self/stat; cat /proc/self/oom_score_adj"]).ok();
    assert_eq!(outcome.text(), "0\n0\n", "{outcome:?}");
}

fn streams_stay_apart(env: &Env) {
    let outcome = exec(env, "box", &["sh", "-c", "printf out; printf err >&2"]).ok();
    assert_eq!(outcome.stdout, b"out", "{outcome:?}");
    assert_eq!(outcome.stderr, b"err", "{outcome:?}");
}

fn words_arrive_as_they_are(env: &Env) {
    let words = ["two words", "it's", "\"quoted\"", "$HOME `id` $(id)", "", "*", "-n", "new\nline", "back\\slash", "ü"];
    let outcome = exec(env, "box", &[&["printf", "%s|"], &words[..]].concat()).ok();
    assert_eq!(outcome.text(), words.map(|word| format!("{word}|")).concat(), "{outcome:?}");
}

fn many_bytes_survive_both_ways(env: &Env) {
    let mut noise = vec![0; 100_000_000];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut noise)).expect("random bytes");
    let outcome =
        env.banger(["vm", "exec", "box", "--", "sh", "-c", "cat; printf end >&2"]).input(noise.clone()).finish().ok();
    assert_eq!(outcome.stderr, b"end");
    assert!(outcome.stdout == noise, "{} bytes came back of {}, or not the same", outcome.stdout.len(), noise.len());
}

fn a_signal_reaches_the_command(env: &Env) {
    let script = "trap 'echo caught; exit 7' INT; echo started; while :; do sleep 0.1; done";
    let mut running = env.banger(["vm", "exec", "box", "--", "sh", "-c", script]).start();
    assert!(running.reaches("started"), "{:?}", running.finish());
    running.signal(Signal::INT);
    let outcome = running.finish().expect(7);
    assert_eq!(outcome.text(), "started\ncaught\n", "{outcome:?}");
}

fn a_closed_stdin_ends_the_reader(env: &Env) {
    let outcome = exec(env, "box", &["wc", "-c"]).ok();
    assert_eq!(outcome.text().trim(), "0", "{outcome:?}");
}
