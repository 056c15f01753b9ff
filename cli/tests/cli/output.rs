//! What goes where: channels, colours, quiet, usage errors, broken pipes.

use std::process::Stdio;

use banger_proto::v1::VmState;

use crate::daemon::Daemon;
use crate::environment::{Environment, finish, spawn};

#[test]
fn help_is_data_and_usage_errors_have_a_way_out() {
    let environment = Environment::new();
    let help = environment.run(&["vm", "run", "--help"]).expect(0);
    assert!(help.text().contains("banger vm run --rm ./repo -- make test"), "{help:?}");
    assert!(help.stderr.is_empty());
    let bare = environment.run(&["vm"]).expect(2);
    assert!(bare.stdout.is_empty() && bare.stderr.contains("Commands:"), "{bare:?}");
    let wrong = environment.run(&["vm", "create", "--memory", "4X"]).expect(2);
    assert!(wrong.stderr.starts_with("error: ") && wrong.stderr.contains("\nhint: "), "{wrong:?}");
    let wrong = environment.run(&["--json", "vm", "create", "--memory", "4X"]).expect(2);
    let error: serde_json::Value = serde_json::from_str(&wrong.stderr).expect("one JSON object");
    assert_eq!(error["error"]["kind"], "usage");
    assert_eq!(environment.run(&["-V"]).expect(0).text().lines().count(), 1);
}

#[test]
fn colours_come_only_when_asked_for_or_on_a_terminal() {
    let environment = Environment::new();
    let plain = environment.run(&["vm", "list"]).expect(7);
    assert!(!plain.stderr.contains('\u{1b}'), "{plain:?}");
    let coloured = environment.run(&["--color", "always", "vm", "list"]).expect(7);
    assert!(coloured.stderr.contains('\u{1b}'), "{coloured:?}");
    let never = environment.run(&["--color=never", "vm", "list"]).expect(7);
    assert!(!never.stderr.contains('\u{1b}'), "{never:?}");
}

#[test]
fn quiet_leaves_only_data_warnings_and_errors() {
    let environment = Environment::new();
    let _daemon = Daemon::start(&environment);
    let normal = environment.run(&["vm", "create", "--name", "one"]).expect(0);
    assert!(normal.stderr.contains("spec: ") && normal.stderr.contains("stage boot"), "{normal:?}");
    let quiet = environment.run(&["-q", "vm", "create", "--name", "two"]).expect(0);
    assert_eq!(quiet.stderr, "warning: no KVM\n");
    assert_eq!(quiet.text(), "two\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.add("box", VmState::Running);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    let mut command = environment.banger(&["vm", "list"]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let outcome = finish(command.spawn().expect("banger starts"));
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (141, ""));
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let environment = Environment::new();
    let daemon = Daemon::start(&environment);
    daemon.add("evil\u{1b}]0;title\u{7}", VmState::Running);
    let outcome = environment.run(&["vm", "list"]).expect(0);
    assert!(!outcome.text().contains('\u{1b}') && outcome.text().contains("\\u{1b}"), "{outcome:?}");
}

#[test]
fn a_configuration_error_names_file_key_and_position() {
    let environment = Environment::new();
    let _daemon = Daemon::start(&environment);
    std::fs::create_dir(environment.path().join("config/banger")).expect("a new directory");
    std::fs::write(environment.path().join("config/banger/config.toml"), "[vm_defaults]\nmemroy = 3\n")
        .expect("writable");
    let outcome = environment.run(&["vm", "create"]).expect(2);
    for part in ["config.toml", "line 2, column 1", "vm_defaults.memroy"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
    }
    environment.run(&["vm", "list"]).expect(0);
}

#[test]
fn doctor_fails_where_a_check_fails_and_says_what_to_do() {
    let environment = Environment::new();
    let _daemon = Daemon::start(&environment);
    // No bangerd program: BANGERD_BINARY names none.
    let outcome = environment.run(&["doctor"]).expect(7);
    for line in ["PASS  configuration", "FAIL  bangerd program", "WARN  KVM", "      - emulating", "PASS  bangerd"] {
        assert!(outcome.text().lines().any(|found| found == line), "{line}: {outcome:?}");
    }
    let json = environment.run(&["doctor", "--json"]).expect(7).json();
    assert_eq!(json["failed"], 1, "{json}");
}

#[test]
fn completion_offers_live_names_and_never_starts_a_daemon() {
    let environment = Environment::new();
    let complete = || {
        let mut command = environment.banger(&["--", "banger", "vm", "stop", "b"]);
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").stdin(Stdio::null());
        finish(spawn(&mut command)).expect(0)
    };
    assert_eq!(complete().text(), "");
    assert!(!environment.socket().exists());
    let daemon = Daemon::start(&environment);
    daemon.add("box", VmState::Running);
    daemon.add("web", VmState::Running);
    assert_eq!(complete().text().trim(), "box");
}

#[test]
fn services_that_are_not_installed_are_missed_only_where_they_were_asked_for() {
    let environment = Environment::new();
    let _daemon = Daemon::start(&environment);
    let with_mode = |words: &[&str]| {
        let mut command = environment.banger(words);
        command.env("BANGER_MODE", "system").stdin(Stdio::null());
        finish(spawn(&mut command))
    };
    if !std::path::Path::new(banger_proto::install::INSTALL_FILE).exists() {
        let missed = with_mode(&["vm", "list"]).expect(7);
        assert!(missed.stderr.contains("sudo banger system install"), "{missed:?}");
    }
    with_mode(&["--rootless", "vm", "list"]).expect(0);
}
