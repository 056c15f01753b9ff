//! `[[file_sync]]`: files of the owner's home in every guest, at every start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::run::SHORT;

use super::{SMALL, create, exec, for_both_users, run_words};

const USAGE: i32 = 2;
const SECRET: &str = "machine example.invalid password hunter2";

for_both_users!(files_of_the_home_are_in_every_guest, are_in_every_guest);

fn entry(host: &str, guest: &str, mode: Option<&str>) -> String {
    let mode = mode.map(|mode| format!("mode = {mode:?}\n")).unwrap_or_default();
    format!("[[file_sync]]\nhost = {host:?}\nguest = {guest:?}\n{mode}")
}

fn configure(env: &Env, entries: &[String]) {
    env.write("config/banger/config.toml", entries.concat().as_bytes());
}

fn link(env: &Env, target: &str, path: &str) {
    let path = env.home().join(path);
    std::os::unix::fs::symlink(target, &path).expect("our own directory");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our own file");
}

fn are_in_every_guest(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    refused_before_anything_is_made(&env);

    env.write("home/.netrc", SECRET.as_bytes());
    env.write("home/tool/rc", b"one\n");
    set_mode(&env.write("home/tool/bin/run", b"#!/bin/sh\necho ran\n"), 0o755);
    link(&env, "bin/run", "tool/runs");
    link(&env, "../.netrc", "tool/out");
    configure(
        &env,
        &[
            entry("~/.netrc", "~/.netrc", None),
            entry("~/tool/rc", "/root/.config/tool/rc", Some("0644")),
            entry("~/tool", "~/tool", None),
            entry("~/missing", "~/missing", None),
        ],
    );

    let made = env.banger(["vm", "create", "--name", "box"]).args(SMALL).finish().ok();
    let errors = made.errors();
    assert!(errors.contains("5 files of file_sync, "), "{errors}");
    assert!(errors.contains("entry 4: ~/missing is not there"), "{errors}");
    assert!(errors.contains("entry 3: ~/tool/out is a link out of the directory"), "{errors}");
    let look = "cd; stat -c '%a %u:%g %n' .netrc .config/tool .config/tool/rc tool/bin/run; readlink tool/runs; \
        tool/runs; cat .netrc .config/tool/rc; ls tool";
    let seen = exec(&env, "box", &["sh", "-c", look]).ok();
    let wanted = format!(
        "600 0:0 .netrc\n700 0:0 .config/tool\n644 0:0 .config/tool/rc\n755 0:0 tool/bin/run\nbin/run\nran\n{SECRET}one\n\
         bin\nrc\nruns\n"
    );
    assert_eq!(seen.text(), wanted, "{seen:?}");

    // A start brings what is new, brings back what was deleted, and keeps what the guest made its own.
    exec(&env, "box", &["sh", "-c", "cd; echo mine > .config/tool/rc; rm .netrc; echo own > own"]).ok();
    env.banger(["vm", "stop", "box"]).finish().ok();
    env.write("home/tool/rc", b"two\n");
    let started = env.banger(["vm", "start", "box"]).finish().ok();
    let errors = started.errors();
    assert!(errors.contains("/root/.config/tool/rc in box was changed in the guest and stays"), "{errors}");
    let seen = exec(&env, "box", &["sh", "-c", "cd; cat .config/tool/rc tool/rc own .netrc"]).ok();
    assert_eq!(seen.text(), format!("mine\ntwo\nown\n{SECRET}"), "{seen:?}");

    nowhere_but_in_the_guest(&env);
    env.banger(["vm", "delete", "box"]).finish().ok();

    // A run has them before its command begins, and says so to programs.
    let run = env.banger(run_words(&["--json", "--rm", "--", "cat", ".netrc"])).finish().ok();
    let events: Vec<serde_json::Value> =
        run.text().lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let at = |wanted: &str| names.iter().position(|name| *name == wanted);
    assert!(at("ready") < at("files") && at("files") < at("stdout"), "{names:?}");
    let files = &events[at("files").expect("asserted above")];
    assert_eq!((&files["files"], &files["conflicts"]), (&5.into(), &serde_json::json!([])), "{files}");
    assert!(!run.text().contains("hunter2") && !run.errors().contains("hunter2"), "{run:?}");
    env.assert_nothing_left();
}

fn refused_before_anything_is_made(env: &Env) {
    let refused = |entry: String, words: &[&str]| {
        configure(env, &[self::entry("~/fine", "~/fine", None), entry]);
        for command in ["create", "run"] {
            env.banger(["vm", command]).limit(SHORT).finish().refused(USAGE, words);
        }
    };
    env.write("home/fine", b"fine");
    refused(entry("/etc/passwd", "~/passwd", None), &["entry 2", "/etc/passwd", "outside your home"]);
    refused(entry("~/fine", "/etc/passwd", None), &["entry 2", "outside /root"]);
    refused(entry("~/fine", "~/other", Some("rw")), &["entry 2", "`mode`"]);
    link(env, "/etc/passwd", "leaves");
    refused(entry("~/leaves", "~/leaves", None), &["entry 2", "~/leaves", "leads out of your home"]);
    env.assert_nothing_left();
}

/// Not in the daemon's files, nor in its log, while the VM is there.
fn nowhere_but_in_the_guest(env: &Env) {
    let mut pending = vec![env.state(), env.runtime()];
    let mut looked_at = 0;
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("ours").map(|entry| entry.expect("ours")) {
            let kind = entry.file_type().expect("ours");
            let path = entry.path();
            // The guest's own disk has them: that is the point.
            let is_disk = path.components().any(|part| part.as_os_str() == "images")
                || path.metadata().is_ok_and(|found| found.len() > 8 << 20);
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() && !is_disk {
                looked_at += 1;
                // The daemon goes on meanwhile: what it removes has no secret either.
                let Ok(content) = std::fs::read(&path) else { continue };
                let found = content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                assert!(!found, "a secret is in {}", path.display());
            }
        }
    }
    assert!(looked_at > 3, "the daemon's files were found");
}

#[test]
fn a_vm_without_file_sync_has_no_trace_of_it() {
    let Some(env) = Env::ready(super::me()) else { return };
    create(&env, "box", &[]);
    exec(&env, "box", &["test", "!", "-e", "/root/.banger"]).ok();
    env.banger(["vm", "delete", "box"]).finish().ok();
    env.assert_nothing_left();
}
