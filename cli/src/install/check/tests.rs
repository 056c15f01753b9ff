use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::install::place::{self, Undo};

/// A supported host as far as files can tell, with programs of one build beside the command line.
fn supported(root: &Path) -> (Host, PathBuf) {
    let host = Host::below(root);
    for directory in ["/run/systemd/system", "/sys/fs/cgroup", "/dev", "/usr/sbin", "/usr/bin", "/build"] {
        std::fs::create_dir_all(host.at(directory)).unwrap();
    }
    for file in ["/sys/fs/cgroup/cgroup.controllers", "/dev/kvm"] {
        std::fs::write(host.at(file), "").unwrap();
    }
    script(&host.at("/usr/sbin/nft"), "exit 0");
    script(&host.at("/usr/sbin/modprobe"), "exit 0");
    script(
        &host.at("/usr/bin/getent"),
        "case $1 in passwd) [ \"$3\" = dev ] && echo dev:x:1000:1000::/home/dev:/bin/sh ;; *) echo dev:x:1000: ;; esac",
    );
    for name in ["bangerd", "bangerd-root", "banger-guest", "banger-build", "banger"] {
        script(&host.at(format!("/build/{name}")), &format!("echo {name} {VERSION}"));
    }
    script(&host.at("/build/firecracker"), "echo Firecracker v1.12.1");
    script(&host.at("/build/jailer"), "echo Jailer v1.12.1");
    let executable = host.at("/build/banger");
    (host, executable)
}

fn script(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn for_dev() -> Asked {
    Asked { owner: Some("dev".into()), ..Asked::default() }
}

fn install(host: &Host, plan: &Plan) {
    let manifest = plan.manifest_after(host);
    let mut undo = Undo::default();
    for directory in &plan.directories {
        place::directory(host, directory, &mut undo).unwrap();
    }
    place::file(host, manifest::FILE.as_ref(), manifest.render().as_bytes(), 0o644, &mut undo).unwrap();
    for wanted in &plan.files {
        place::file(host, &wanted.path, &wanted.content, wanted.mode, &mut undo).unwrap();
    }
    assert_eq!(undo.forget(), Vec::<String>::new());
}

fn refusal(result: Result<Plan, CliError>) -> Failure {
    match result {
        Err(CliError::Failed(failure)) => *failure,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_second_plan_over_the_first_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, executable) = supported(scratch.path());
    let first = plan(&host, &executable, &for_dev()).unwrap();
    assert_eq!(first.install.owner.uid, 1000);
    let manifest = first.manifest_after(&host);
    install(&host, &first);
    let second = plan(&host, &executable, &Asked::default()).unwrap();
    assert_eq!(second.install, first.install);
    assert_eq!(second.manifest_after(&host), manifest);
    for wanted in &second.files {
        let found = manifest::compare(&host, &wanted.path, &manifest::digest(&wanted.content)).unwrap();
        assert_eq!(found, Found::Intact, "{}", wanted.path.display());
    }
}

#[test]
fn everything_the_host_lacks_is_told_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, executable) = supported(scratch.path());
    std::fs::remove_file(host.at("/dev/kvm")).unwrap();
    std::fs::remove_file(host.at("/usr/sbin/nft")).unwrap();
    script(&host.at("/usr/sbin/modprobe"), "[ $3 != dm_snapshot ]");
    let failure = refusal(plan(&host, &executable, &for_dev()));
    assert_eq!(failure.kind, Kind::HostNotReady);
    for what in ["/dev/kvm", "nft", "dm_snapshot"] {
        assert!(failure.chain.iter().any(|cause| cause.contains(what)), "{what}: {failure:?}");
    }
}

#[test]
fn vms_keep_their_owner_and_their_network() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, executable) = supported(scratch.path());
    let first = plan(&host, &executable, &for_dev()).unwrap();
    install(&host, &first);
    let other_network = Asked { network: Some("10.9.0.0/24".parse().unwrap()), ..Asked::default() };
    assert!(plan(&host, &executable, &other_network).is_ok(), "nobody has an address yet");
    std::fs::create_dir_all(host.at(format!("{STATE_DIRECTORY}/vms/{}", "a".repeat(32)))).unwrap();
    assert_eq!(refusal(plan(&host, &executable, &other_network)).kind, Kind::Refused);

    script(&host.at("/usr/bin/getent"), "echo joe:x:1001:1001::/home/joe:/bin/sh");
    let other_owner = Asked { owner: Some("joe".into()), ..Asked::default() };
    let failure = refusal(plan(&host, &executable, &other_owner));
    assert!(failure.kind == Kind::Refused && failure.chain[0].contains("of dev exist"), "{failure:?}");
}

#[test]
fn a_file_of_somebody_else_is_not_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, executable) = supported(scratch.path());
    std::fs::create_dir_all(host.at("/usr/local/bin")).unwrap();
    std::fs::write(host.at("/usr/local/bin/banger"), "mine").unwrap();
    let failure = refusal(plan(&host, &executable, &for_dev()));
    assert!(failure.kind == Kind::Refused && failure.chain[0].contains("/usr/local/bin/banger"), "{failure:?}");
}

#[test]
fn without_an_owner_or_with_a_bridge_the_readers_refuse_nothing_is_planned() {
    let scratch = tempfile::tempdir().unwrap();
    let (host, executable) = supported(scratch.path());
    assert_eq!(refusal(plan(&host, &executable, &Asked::default())).kind, Kind::Usage);
    let asked = Asked { bridge: Some("Br 0".into()), ..for_dev() };
    assert_eq!(refusal(plan(&host, &executable, &asked)).kind, Kind::Usage);
    let asked = Asked { owner: Some("nobody-here".into()), ..Asked::default() };
    assert_eq!(refusal(plan(&host, &executable, &asked)).kind, Kind::NotFound);
}
