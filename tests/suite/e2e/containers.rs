//! An image with nothing but BusyBox in it, from files to a running machine: no init, no SSH server, no network.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::registry::write_layout;
use serde_json::json;

use super::{for_both_users, run_words};

for_both_users!(an_image_of_busybox_alone_runs_commands, runs_commands);

const APPLETS: [&str; 6] = ["sh", "cat", "stat", "su", "id", "readlink"];

/// A layout with one layer; `None`, with a word about it, without a static BusyBox.
fn busybox(env: &Env) -> Option<PathBuf> {
    let program = std::fs::read("/bin/busybox").ok().filter(|bytes| !contains(bytes, b"ld-linux"));
    let Some(program) = program else {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: there is no static /bin/busybox\n");
        return None;
    };
    let root = env.path().join("tmp/root");
    env.ensure_directory(&root.join("bin"));
    env.ensure_directory(&root.join("etc"));
    std::fs::write(root.join("bin/busybox"), program).expect("our own directory");
    std::fs::set_permissions(root.join("bin/busybox"), PermissionsExt::from_mode(0o755)).expect("our own file");
    for applet in APPLETS {
        std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet)).expect("our own directory");
    }
    std::fs::write(root.join("etc/os-release"), "ID=bb\nPRETTY_NAME=\"BusyBox alone\"\n").expect("our own directory");
    std::os::unix::fs::symlink("/bin/busybox", root.join("etc/link")).expect("our own directory");
    std::fs::write(root.join("bin/setuid"), "x").expect("our own directory");
    std::fs::set_permissions(root.join("bin/setuid"), PermissionsExt::from_mode(0o4755)).expect("our own file");
    let tar = env.path().join("tmp/layer.tar");
    let status = Command::new("tar")
        .args(["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-C"])
        .arg(&root)
        .arg("-cf")
        .arg(&tar)
        .args(["bin", "etc"])
        .status()
        .expect("tar runs");
    assert!(status.success());
    let layout = env.path().join("tmp/layout");
    write_layout(
        &layout,
        &tar,
        &json!({ "Env": ["PATH=/bin", "GREETING=hello from the image"], "WorkingDir": "/etc" }),
    );
    own(env, &layout);
    Some(layout)
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn own(env: &Env, path: &Path) {
    env.account().own(path);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("our own directory").flatten() {
            own(env, &entry.path());
        }
    }
}

fn runs_commands(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let Some(layout) = busybox(&env) else { return };
    let source = format!("oci:{}", layout.display());
    let image = env.banger(["--json", "image", "pull", &source, "--name", "bb"]).finish().ok().json();
    assert_eq!((image["init"].as_str(), image["os"].as_str()), (Some("none"), Some("BusyBox alone")), "{image}");
    assert_eq!(image["working_directory"], "/etc", "{image}");
    let script =
        "cat /etc/os-release; echo $GREETING; stat -c '%a %u:%g' /bin/setuid; stat -c %h /bin/sh; readlink /etc/link";
    let said = env.banger(run_words(&["--rm", "--image", "bb", "--", "sh", "-c", script])).finish().ok().text();
    let lines: Vec<&str> = said.lines().collect();
    let names = (APPLETS.len() + 1).to_string();
    assert_eq!(
        lines,
        ["ID=bb", "PRETTY_NAME=\"BusyBox alone\"", "hello from the image", "4755 0:0", &names, "/bin/busybox"],
    );
    env.banger(["image", "delete", "bb"]).finish().ok();
    env.assert_nothing_left();
}
