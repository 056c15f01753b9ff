//! `tools/install-deps` on a machine that only it can see: a directory of stand-ins for apt and the packages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use banger_tests::programs::workspace_root;

/// Records its arguments; "installs" by making the commands appear. QEMU's package takes another's tools away.
const APT_GET: &str = r#"#!/bin/bash
echo "$*" >>"$MACHINE/calls"
[ "$1" = install ] || exit 0
for package in "$@"; do
  case $package in
    qemu-system-x86) touch "$MACHINE/qemu-system-x86_64"; chmod +x "$MACHINE/qemu-system-x86_64"; rm -f "$MACHINE/qemu-img" ;;
    qemu-utils) touch "$MACHINE/qemu-img"; chmod +x "$MACHINE/qemu-img" ;;
    uidmap) [ -e "$MACHINE/uidmap-is-broken" ] || { touch "$MACHINE/newuidmap"; chmod +x "$MACHINE/newuidmap"; } ;;
  esac
done
"#;

/// A machine with every command `install-deps` looks for, or uses itself.
fn machine() -> tempfile::TempDir {
    let machine = tempfile::tempdir().expect("a scratch directory");
    let program = |name: &str, text: &str| {
        let path = machine.path().join(name);
        std::fs::write(&path, text).expect("scratch");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("scratch");
    };
    let images = "skopeo umoci docker-registry htpasswd busybox musl-gcc";
    let others = "cargo qemu-system-x86_64 qemu-img mmdebstrap newuidmap mke2fs git ssh sshd kmod make shellcheck cc \
                  cpio python3 pip3";
    for name in others.split(' ').chain(images.split(' ')) {
        program(name, "");
    }
    program("apt-get", APT_GET);
    // Asks for no password, writes no policy of the real machine.
    program("id", "#!/bin/bash\necho 0\n");
    program("sh", "#!/bin/bash\n");
    for name in ["bash", "env", "sed", "dirname", "rm", "touch", "chmod"] {
        let real = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(name));
        let real = real.iter().find(|path| path.exists()).expect("a basic tool");
        std::os::unix::fs::symlink(real, machine.path().join(name)).expect("scratch");
    }
    machine
}

fn install_deps(machine: &Path) -> Output {
    // The script as it is, but for the system's own directories.
    let script = std::fs::read_to_string(workspace_root().join("tools/install-deps")).expect("it is there");
    let script = script
        .replace("$PATH:/usr/local/sbin:/usr/sbin:/sbin", "$PATH")
        .replace("/usr/sbin/policy-rc.d", &machine.join("policy-rc.d").display().to_string())
        .replace("cd \"$(dirname \"$0\")/..\"", &format!("cd {}", workspace_root().display()))
        .replace("/usr/share/keyrings/debian-archive-keyring.gpg", "/");
    let path = machine.join("install-deps");
    std::fs::write(&path, script).expect("scratch");
    Command::new("/bin/bash").arg(path).env_clear().env("PATH", machine).env("MACHINE", machine).output().expect("bash")
}

fn calls(machine: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(machine.join("calls")).unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("install"))
        .map(|line| line.rsplit(" -o ").next().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn a_ready_machine_is_left_alone_in_silence() {
    let machine = machine();
    let output = install_deps(machine.path());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(calls(machine.path()).is_empty());
}

#[test]
fn a_package_that_takes_another_away_is_followed_by_a_second_round() {
    let machine = machine();
    std::fs::remove_file(machine.path().join("qemu-system-x86_64")).expect("scratch");
    let output = install_deps(machine.path());
    assert!(output.status.success(), "{output:?}");
    assert!(machine.path().join("qemu-img").exists(), "{output:?}");
    let packages: Vec<String> =
        calls(machine.path()).iter().map(|call| call.rsplit(' ').next().unwrap_or("").to_owned()).collect();
    assert_eq!(packages, ["qemu-system-x86", "qemu-utils"]);
}

#[test]
fn what_cannot_be_installed_is_named_in_the_end() {
    let machine = machine();
    std::fs::remove_file(machine.path().join("newuidmap")).expect("scratch");
    std::fs::write(machine.path().join("uidmap-is-broken"), "").expect("scratch");
    let output = install_deps(machine.path());
    assert!(!output.status.success(), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("error: still missing") && errors.contains("uidmap"), "{errors}");
    assert!(!machine.path().join("policy-rc.d").exists());
}
