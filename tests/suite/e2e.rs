//! The product from the outside: real programs, real machines, for root and for an ordinary user.
//!
//! Every boot costs seconds without hardware virtualisation, so one machine serves as many claims as it can.
//! A test ends by checking that nothing is left. What is common is here; each file holds one theme.

mod bad_input;
mod compiled_kernel;
mod concurrency;
mod containers;
mod crash;
mod dead_guest;
mod file_sync;
mod full_copy;
mod image_user;
mod interrupt;
mod json;
mod like_distributions;
mod own_kernel;
mod parity;
mod persistence;
mod port22;
mod refusal;
mod session;
mod terminal;
mod watch;

use std::path::Path;

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::run::Outcome;

/// The same claim for uid 0 and for an ordinary user.
macro_rules! for_both_users {
    ($claim:ident, $scenario:ident) => {
        mod $claim {
            #[test]
            fn as_root() {
                super::$scenario(banger_tests::account::Who::Root);
            }

            #[test]
            fn as_an_ordinary_user() {
                super::$scenario(banger_tests::account::Who::Ordinary);
            }
        }
    };
}
pub(crate) use for_both_users;

/// Whoever runs the tests.
fn me() -> Who {
    if rustix::process::getuid().is_root() { Who::Root } else { Who::Ordinary }
}

/// The smallest machine that boots the default image in comfort: tests measure claims, not memory.
const SMALL: [&str; 4] = ["--vcpu", "1", "--memory", "1024"];

/// `vm create --name <name>` and whatever else is asked.
#[track_caller]
fn create(env: &Env, name: &str, more: &[&str]) {
    env.banger(["vm", "create", "--name", name]).args(SMALL).args(more).finish().ok();
}

/// `vm run` with a small machine; `words` is what follows.
fn run_words<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["vm", "run"], &SMALL[..], words].concat()
}

/// `vm exec <name> -- <words>`.
fn exec(env: &Env, name: &str, words: &[&str]) -> Outcome {
    env.banger(["vm", "exec", name, "--"]).args(words).finish()
}

/// `vm delete <name>`, then nothing may be left.
#[track_caller]
fn delete_and_check(env: &Env, name: &str) {
    env.banger(["vm", "delete", name]).finish().ok();
    env.assert_nothing_left();
}

/// The state `vm list` shows; `None` if it is not listed.
fn state_of(env: &Env, name: &str) -> Option<String> {
    env.vms().iter().find(|vm| vm["name"] == name).map(|vm| vm["state"].as_str().unwrap_or_default().to_owned())
}

/// As text, for arguments.
fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' own paths are UTF-8")
}
