//! Bad input and bad hosts: one clear error with a way out, the right exit code, nothing left.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use banger_tests::account::{Who, skipped};
use banger_tests::env::Env;
use banger_tests::run::SHORT;
use banger_tests::wait::until;
use rustix::process::Signal;

use super::me;

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const HOST_NOT_READY: i32 = 7;

#[test]
fn nonsense_is_refused_before_anything_is_made() {
    let Some(env) = Env::ready(me()) else { return };
    let create = |words: &[&str]| env.banger(["vm", "create", "--no-start"]).args(words).limit(SHORT).finish();
    create(&["--name", "Bad_Name"]).refused(USAGE, &["Bad_Name"]);
    create(&["--name", "-dash"]).expect(USAGE);
    create(&["--vcpu", "0"]).refused(USAGE, &["vcpu"]);
    create(&["--vcpu", "many"]).refused(USAGE, &["many"]);
    create(&["--memory", "1"]).refused(USAGE, &["memory"]);
    create(&["--memory", "4X"]).refused(USAGE, &["4X"]);
    create(&["--disk-size", "0"]).refused(USAGE, &["disk"]);
    create(&["--image", "no-such-image"]).refused(NOT_FOUND, &["no-such-image"]);
    create(&["--image", "../../etc"]).refused(USAGE, &["../../etc"]);
    for words in [["vm", "show", "nobody"], ["vm", "start", "nobody"], ["vm", "delete", "nobody"]] {
        env.banger(words).limit(SHORT).finish().refused(NOT_FOUND, &["nobody"]);
    }
    env.banger(["vm", "exec", "nobody", "--", "true"]).limit(SHORT).finish().refused(NOT_FOUND, &["nobody"]);
    env.banger(["kernel", "pull", "no-such-kernel"]).limit(SHORT).finish().refused(NOT_FOUND, &["no-such-kernel"]);
    env.assert_nothing_left();
}

#[test]
fn a_name_is_taken_only_once() {
    let Some(env) = Env::ready(me()) else { return };
    env.banger(["vm", "create", "--no-start", "--name", "box"]).finish().ok();
    env.banger(["vm", "create", "--no-start", "--name", "box"]).finish().refused(CONFLICT, &["box"]);
    env.banger(["vm", "delete", "box"]).finish().ok();
    env.assert_nothing_left();
}

#[test]
fn a_published_port_in_use_is_named() {
    let Some(env) = Env::ready(me()) else { return };
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").port();
    let publish = format!("{port}:80");
    let words = ["vm", "create", "--name", "box", "--publish", &publish];
    env.banger(words).finish().refused(CONFLICT, &[&port.to_string()]);
    env.assert_nothing_left();
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let Some(env) = Env::ready(me()) else { return };
    let path = without_qemu(&env);
    let create = env.banger(["vm", "create", "--name", "box"]).env("PATH", &path);
    create.finish().refused(HOST_NOT_READY, &["qemu"]);
    env.assert_nothing_left();
}

#[test]
fn a_second_daemon_refuses_to_start() {
    let Some(env) = Env::empty(me()) else { return };
    env.banger(["vm", "list"]).limit(SHORT).finish().ok();
    let first = env.daemon().expect("the command started one");
    env.command(env.program("bangerd")).limit(SHORT).finish().refused(CONFLICT, &["running"]);
    assert_eq!(env.daemon().map(|daemon| daemon.pid), Some(first.pid), "the first one goes on");
    env.banger(["vm", "list"]).limit(SHORT).finish().ok();
}

#[test]
fn a_store_that_is_not_one_is_left_alone_and_named() {
    let Some(env) = Env::empty(me()) else { return };
    env.banger(["vm", "list"]).limit(SHORT).finish().ok();
    let daemon = env.daemon().expect("the command started one");
    daemon.signal(Signal::TERM);
    until("the daemon ends when told to", SHORT, || env.daemon().is_none());
    let store = env.state().join("bangerd.db");
    assert!(store.is_file(), "the store is where the documentation says");
    for name in ["bangerd.db-wal", "bangerd.db-shm"] {
        let _ = std::fs::remove_file(env.state().join(name));
    }
    let garbage = b"this is not a database, but it may have been one\n".repeat(200);
    env.write(&store, &garbage);
    env.banger(["vm", "list"]).limit(SHORT).finish().refused(HOST_NOT_READY, &["bangerd.db"]);
    assert_eq!(std::fs::read(&store).expect("still there"), garbage, "nothing overwrites what it cannot read");
}

#[test]
fn a_full_disk_fails_the_create_and_leaves_nothing() {
    let Some(env) = Env::ready(me()) else { return };
    if env.account().uid != 0 {
        return skipped("a small file system can only be mounted by root").unwrap_or_default();
    }
    let vms = env.state().join("vms");
    env.ensure_directory(&vms);
    let Some(_mounted) = Mounted::tmpfs(&vms, "256k") else { return };
    let outcome = env.banger(["vm", "create", "--name", "box"]).finish();
    outcome.refused(HOST_NOT_READY, &["space"]);
    env.assert_nothing_left();
}

/// A directory with a link to every program on PATH but QEMU's.
fn without_qemu(env: &Env) -> std::path::PathBuf {
    let directory = env.path().join("path");
    env.ensure_directory(&directory);
    for source in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let Ok(entries) = std::fs::read_dir(&source) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with("qemu") {
                // The first on PATH wins, as it does for a shell.
                let _ = std::os::unix::fs::symlink(entry.path(), directory.join(name));
            }
        }
    }
    directory
}

/// A small file system, unmounted when dropped.
struct Mounted<'p>(&'p Path);

impl<'p> Mounted<'p> {
    fn tmpfs(path: &'p Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .output()
            .expect("mount runs");
        if !done.status.success() {
            return skipped(&format!("cannot mount: {}", String::from_utf8_lossy(&done.stderr)));
        }
        Some(Self(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_directory_others_can_write_is_not_trusted() {
    let Some(env) = Env::empty(Who::Ordinary) else { return };
    let runtime = env.runtime();
    env.ensure_directory(&runtime);
    std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("our directory");
    let outcome = env.banger(["vm", "list"]).limit(SHORT).finish();
    assert!([5, 6, 7].contains(&outcome.code()), "{outcome:?}");
    let code = outcome.code();
    outcome.refused(code, &["0777"]);
}
