//! The kernel and image every machine of the suite boots from, made once and shared.
//!
//! Making them takes a minute, so the first test that needs them pulls them *as its user, through the product*,
//! and keeps the two stores in `target/test-artifacts/<uid>/`. Later environments get hard links; `make smoke` carries
//! them into its host. What the product's own sources say about images and kernels is the key: change them and they
//! are made again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::env::Env;
use crate::programs::{target_directory, workspace_root};
use crate::slots;
use crate::wait::until;

/// The default kernel.
pub const KERNEL: &str = "generic-6.12";
/// The default image.
pub const IMAGE: &str = "debian-bookworm";
/// A bootstrap of a whole distribution, on a slow machine with a slow mirror.
const PULL_LIMIT: Duration = Duration::from_secs(900);
/// What is shared.
const STORES: [&str; 2] = ["images", "kernels"];

/// Makes kernel and image for this account unless they are there.
///
/// # Panics
/// If the product cannot make them.
pub fn ensure(account: &Account) {
    let store = store(account);
    if store.is_dir() {
        return;
    }
    let _lock = slots::exclusive(&format!("artifacts-{}", account.uid));
    if store.is_dir() {
        return;
    }
    let env = Env::of(account.clone());
    env.banger(["kernel", "pull", KERNEL]).limit(PULL_LIMIT).finish().ok();
    env.banger(["image", "pull", IMAGE]).limit(PULL_LIMIT).finish().ok();
    if let Some(daemon) = env.daemon() {
        daemon.signal(Signal::TERM);
        until("the daemon ends when told to", Duration::from_secs(30), || env.daemon().is_none());
    }
    // Made beside and renamed: a test that was stopped half-way leaves nothing that looks complete.
    let (parent, unfinished) = (store.parent().expect("a parent"), store.with_extension("unfinished"));
    std::fs::create_dir_all(parent).expect("the target directory is writable");
    remove(&unfinished);
    std::fs::create_dir(&unfinished).expect("the target directory is writable");
    for name in STORES {
        copy(&env.state().join(name), &unfinished.join(name));
    }
    // Older ones, of other sources, only take room.
    for entry in std::fs::read_dir(parent).expect("just made").filter_map(Result::ok) {
        if entry.path() != unfinished {
            remove(&entry.path());
        }
    }
    std::fs::rename(&unfinished, &store).expect("the same directory");
}

/// Puts the two stores into an environment.
pub fn provide(env: &Env) {
    env.ensure_directory(&env.state());
    for name in STORES {
        copy(&store(env.account()).join(name), &env.state().join(name));
    }
}

fn store(account: &Account) -> PathBuf {
    let key = banger_smoke::store::key(&workspace_root()).expect("the sources can be read");
    target_directory().join("test-artifacts").join(account.uid.to_string()).join(key)
}

/// With owner, mode and holes; hard links where both lie on one file system.
fn copy(source: &Path, target: &Path) {
    for how in ["--link", "--sparse=always"] {
        let done = Command::new("cp").args(["--archive", how]).arg(source).arg(target).output().expect("cp runs");
        if done.status.success() {
            return;
        }
        remove(target);
        assert!(how == "--link", "cp {}: {}", source.display(), String::from_utf8_lossy(&done.stderr));
    }
}

fn remove(path: &Path) {
    if path.symlink_metadata().is_ok() {
        std::fs::remove_dir_all(path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }
}
