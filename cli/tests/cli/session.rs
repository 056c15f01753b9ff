//! Commands through a real sshd on loopback: streams, statuses, quoting, speed, signals, `--rm`.

mod sshd;

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Instant;

use banger_proto::failure::Kind;
use banger_proto::v1::VmState;
use rustix::process::Signal;
pub use sshd::Sshd;

use crate::daemon::Daemon;
use crate::environment::{Environment, Outcome, finish, signal, spawn};

/// A VM "box" whose guest is an sshd of this host.
pub fn with_guest() -> Option<(Environment, Daemon, Sshd)> {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    // Makes the key.
    environment.run(&["doctor"]);
    let sshd = Sshd::start(&environment)?;
    daemon.state().connection = Some(sshd.connection());
    daemon.add("box", VmState::Running);
    Some((environment, daemon, sshd))
}

fn exec(environment: &Environment, words: &[&str]) -> Outcome {
    environment.run(&[&["vm", "exec", "box", "--guest-path", "/tmp", "--"], words].concat())
}

#[test]
fn statuses_streams_and_words_are_those_of_the_command() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    exec(&environment, &["sh", "-c", "exit 42"]).expect(42);
    exec(&environment, &["/no/such/program"]).expect(127);
    exec(&environment, &["sh", "-c", "kill -TERM $$"]).expect(143);
    let outcome = exec(&environment, &["sh", "-c", "printf out; printf err >&2; pwd"]).expect(0);
    assert_eq!((outcome.text(), outcome.stderr.as_str()), ("out/tmp\n", "err"));
    let words = ["printf", "%s|", "two words", "it's", "$HOME `id`", "", "*", "-n", "new\nline", "ü"];
    assert_eq!(exec(&environment, &words).expect(0).text(), "two words|it's|$HOME `id`||*|-n|new\nline|ü|");
    let outcome = environment.run(&["vm", "exec", "box", "--guest-path", "/no/such/directory", "--", "true"]);
    assert_ne!(outcome.code(), 0);
}

#[test]
fn many_bytes_survive_both_ways_and_quickly() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let mut noise = vec![0; 100_000_000];
    std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut noise)).expect("random bytes");
    let began = Instant::now();
    let mut command = environment.banger(&["vm", "exec", "box", "--guest-path", "/tmp", "--", "cat"]);
    let mut child = spawn(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().expect("piped");
    let sent = noise.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let outcome = finish(child).expect(0);
    writer.join().expect("the writer ends").expect("everything is read");
    assert!(outcome.stdout == noise, "{} bytes came back", outcome.stdout.len());
    assert!(began.elapsed().as_secs() < 40, "100 MB took {:?}", began.elapsed());
}

#[test]
fn a_closed_stdin_ends_the_reader_and_a_closed_stdout_the_writer() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    assert_eq!(exec(&environment, &["cat"]).expect(0).stdout, b"");
    let mut command = environment.banger(&["vm", "exec", "box", "--guest-path", "/tmp", "--", "yes"]);
    let mut child = spawn(command.stdin(Stdio::null()));
    let mut first = [0; 4];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("output");
    drop(child.stdout.take());
    let outcome = finish(child).expect(141);
    assert_eq!((&first, outcome.stderr.as_str()), (b"y\ny\n", ""));
}

#[test]
fn three_signals_end_the_wait_for_a_command_that_ignores_them() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let script = "trap '' INT; echo started; sleep 30";
    let mut child = environment.start(&["vm", "exec", "box", "--guest-path", "/tmp", "--", "sh", "-c", script]);
    let mut first = [0; 8];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("output");
    let began = Instant::now();
    for _ in 0..2 {
        signal(&child, Signal::INT);
        // Two pending signals of one kind are one: let each be seen.
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(child.try_wait().expect("our child").is_none(), "it waits");
    }
    signal(&child, Signal::INT);
    finish(child).expect(130);
    assert!(began.elapsed().as_secs() < 20);
}

#[test]
fn a_slow_reader_does_not_keep_signals_from_working() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let mut child = environment.start(&["vm", "exec", "box", "--guest-path", "/tmp", "--", "yes"]);
    let mut first = [0; 4];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("output");
    // Nobody reads on: everything is full by now or soon.
    let unread = child.stdout.take();
    for _ in 0..3 {
        signal(&child, Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let outcome = finish(child);
    assert!([130].contains(&outcome.code()), "{outcome:?}");
    drop(unread);
}

#[test]
fn events_carry_the_bytes_and_the_status() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let words = ["--json", "vm", "exec", "box", "--guest-path", "/tmp", "--", "sh", "-c", "printf 'a\\377'; exit 3"];
    let outcome = environment.run(&words).expect(3);
    let events = outcome.events();
    assert_eq!(events[0], serde_json::json!({ "event": "stdout", "data_base64": "Yf8=" }));
    assert_eq!(events[1], serde_json::json!({ "event": "exit", "status": 3, "signal": null }));
}

#[test]
fn an_ephemeral_run_deletes_its_vm_whatever_the_status() {
    if !rustix::process::getuid().is_root() {
        return sshd::skipped("commands without a workspace run in /root");
    }
    let Some((environment, daemon, _sshd)) = with_guest() else { return };
    let run = |words: &[&str]| environment.run(&[&["vm", "run", "--rm", "--name", "run", "--"], words].concat());
    run(&["sh", "-c", "exit 9"]).expect(9);
    assert_eq!(daemon.names(), ["box"]);
    let outcome = run(&["pwd"]).expect(0);
    assert_eq!(outcome.text(), "/root\n");
    assert!(!environment.state().join("ssh/known_hosts").exists() || !known_hosts(&environment).contains("banger-"));

    // The status of a failing command is worth more than our failing clean-up; that of a good one is not.
    daemon.fail("delete run", Kind::Failed, "the disk is busy");
    assert!(run(&["sh", "-c", "exit 9"]).expect(9).stderr.contains("the disk is busy"));
    daemon.state().vms.retain(|vm| vm.name != "run");
    assert!(run(&["true"]).expect(1).stderr.contains("error: cannot delete VM run"));
}

fn known_hosts(environment: &Environment) -> String {
    std::fs::read_to_string(environment.state().join("ssh/known_hosts")).unwrap_or_default()
}

#[test]
fn ctrl_c_in_a_session_still_deletes_the_vm() {
    if !rustix::process::getuid().is_root() {
        return sshd::skipped("commands without a workspace run in /root");
    }
    let Some((environment, daemon, _sshd)) = with_guest() else { return };
    let script = "trap '' INT; echo started; sleep 60";
    let mut child = environment.start(&["vm", "run", "--rm", "--name", "run", "--", "sh", "-c", script]);
    let mut first = [0; 8];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("output");
    for _ in 0..3 {
        signal(&child, Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    finish(child).expect(130);
    assert_eq!(daemon.names(), ["box"]);
}

#[test]
fn another_host_key_than_the_pinned_one_is_refused() {
    let Some((environment, daemon, _sshd)) = with_guest() else { return };
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJEGkgkQYXUCfK7sRoDMQpIm8tVfnC3g0cFJoqTHrKXE";
    for vm in &mut daemon.state().vms {
        if let Some(connection) = &mut vm.connection {
            connection.host_key = other.into();
        }
    }
    let outcome = exec(&environment, &["true"]).expect(5);
    assert!(outcome.stderr.contains("another host key"), "{outcome:?}");
}
