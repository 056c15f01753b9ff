//! Tables of what parses and what does not.

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::commands::Command;
use crate::commands::vm::VmCommand;
use crate::commands::vm::run::RunArgs;

fn run(words: &[&str]) -> RunArgs {
    let words = [&["banger", "vm", "run"], words].concat();
    match Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}")).command {
        Command::Vm(Deferred(VmCommand::Run(Deferred(args)))) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_command_alone_is_understood_as_beside_all_others() {
    for words in [
        &["vm", "run", "--rm", "--json", "./repo", "--", "make", "--json"][..],
        &["--quiet", "ps"],
        &["vm", "ps"],
        &["vm", "workspace", "export", "box", "--branch", "theirs"],
        &["image", "list", "--color", "never"],
        &["system", "status", "--rootless"],
        &["version"],
    ] {
        let words = [&["banger"], words].concat();
        let parse = || Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert_eq!(format!("{:?}", quickly(parse)), format!("{:?}", parse()));
    }
    for words in
        [&["vm", "run", "--nope"][..], &["vm", "nope"], &["vm", "run", "--help"], &["--version"], &["help", "vm"], &[]]
    {
        let words = [&["banger"], words].concat();
        let parse = || Cli::try_parse_from(&words).map(drop).expect_err("no command").kind();
        assert_eq!(quickly(parse), parse(), "{words:?}");
    }
}

#[test]
fn a_run_is_understood_as_typed() {
    let args = run(&["--rm", "./repo", "-p", "8080:80", "--publish", "2222:22", "--", "make", "--json", "test"]);
    assert_eq!(args.path.as_deref(), Some(std::path::Path::new("./repo")));
    assert_eq!(args.command, ["make", "--json", "test"]);
    assert!(args.rm && !args.detach && !args.tty);
    assert_eq!(args.vm.publish, [PortPair { host: 8080, guest: 80 }, PortPair { host: 2222, guest: 22 }]);
    assert_eq!(args.vm.wait, Wait::Reachable);

    let args = run(&["--", "uname"]);
    assert_eq!((args.path, args.command.len()), (None, 1));
    let args =
        run(&["--memory", "4G", "--vcpu", "2", "--disk-size", "512", "--kernel-arg", "a=b", "--kernel-arg", "c"]);
    assert_eq!(args.vm.memory.map(banger_proto::size::MiB::get), Some(4096));
    assert_eq!(args.vm.disk_size.map(banger_proto::size::MiB::get), Some(512));
    assert_eq!(args.vm.kernel_arg, ["a=b", "c"]);
    let args = run(&["-d", "--name", "box", "--branch", "work", "--from", "HEAD~1", "--guest-path", "/srv/x/", "."]);
    assert_eq!(args.workspace.guest_path.map(|path| path.to_string()).as_deref(), Some("/srv/x"));
    assert_eq!(args.workspace.branch.as_deref(), Some("work"));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_happens() {
    for words in [
        &["-d", "--rm"][..],
        &["-d", "--", "true"],
        &["-d", "-t"],
        &["--branch", "x"],
        &["--from", "x", "."],
        &["--dry-run"],
        &["--include-untracked"],
        &["--guest-path", "/x"],
        &["--guest-path", "relative", "."],
        &["--guest-path", "/a/../b", "."],
        &["--guest-path", "/", "."],
        &["--name", "Bad_Name"],
        &["--image", "../../etc"],
        &["--kernel-ref", "a/b"],
        &["--vcpu", "0"],
        &["--vcpu", "65"],
        &["--memory", "4X"],
        &["--disk-size", "0"],
        &["-p", "80"],
        &["-p", "0:80"],
        &["-p", "80:70000"],
        &["--wait", "someday"],
        &["--wait-timeout", "0"],
        &["--kernel-arg", "two words"],
        &["--quiet", "--verbose"],
        &["one", "two"],
    ] {
        let all = [&["banger", "vm", "run"], words].concat();
        let error = Cli::try_parse_from(&all).expect_err(&format!("{words:?}"));
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
    for words in [&["vm", "exec", "box"][..], &["vm", "exec", "--", "ls"], &["vm", "start"], &["image", "show"], &["x"]]
    {
        assert!(Cli::try_parse_from([&["banger"], words].concat()).is_err(), "{words:?}");
    }
}

#[test]
fn global_flags_may_stand_anywhere_before_the_dashes() {
    for words in
        [["banger", "--json", "vm", "list"], ["banger", "vm", "--json", "list"], ["banger", "vm", "list", "--json"]]
    {
        assert!(Cli::try_parse_from(words).is_ok_and(|cli| cli.globals.json), "{words:?}");
    }
}

#[test]
fn a_port_published_twice_is_refused() {
    let args = run(&["-p", "80:80", "-p", "80:81"]);
    let host = crate::sizing::Host { cpus: 2, memory_mib: 4096 };
    let error = args.vm.decide(&crate::config::Config::default(), host).expect_err("twice");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn the_spec_line_and_the_request_say_the_same() {
    let args =
        run(&["--vcpu", "2", "--memory", "2G", "--nat", "-p", "8080:80", "--wait", "booted", "--kernel-ref", "k"]);
    let host = crate::sizing::Host { cpus: 2, memory_mib: 4096 };
    let spec = args.vm.decide(&crate::config::Config::default(), host).unwrap_or_else(|_| panic!("it is sound"));
    assert_eq!(spec.line(), "spec: 2 vcpu | 2048 MiB | 8 GiB disk | debian-bookworm | k");
    let request = spec.request(banger_proto::v1::OwnerMaterial::default());
    assert_eq!((request.image.as_str(), request.kernel.as_str(), request.start), ("debian-bookworm", "k", true));
    assert_eq!(request.wait(), banger_proto::v1::WaitFor::Booted);
    let vm = request.spec.unwrap_or_default();
    assert_eq!((vm.vcpu_count, vm.memory_mib, vm.work_disk_mib, vm.nat), (2, 2048, 8192, true));
    assert_eq!(vm.published_ports, [banger_proto::v1::PublishedPort { host_port: 8080, guest_port: 80 }]);
}
