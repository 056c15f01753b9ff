//! A root filesystem and a kernel of the user's own: used in place, modules out of an initrd, promoted, deleted.

use std::path::{Path, PathBuf};
use std::process::Command;

use banger_tests::account::Who;
use banger_tests::artifacts::KERNEL;
use banger_tests::busybox::{self, Root};
use banger_tests::env::Env;
use banger_tests::registry::has;
use serde_json::json;

use super::{SMALL, for_both_users, text};

for_both_users!(a_kernel_of_ones_own_boots_with_the_modules_of_its_initrd, boots);

/// The default kernel as somebody might have it: vmlinux, an initrd like a distribution's, and its release.
fn kernel(env: &Env) -> Option<(PathBuf, PathBuf, String)> {
    if !has("/usr/sbin/debugfs") || !has("cpio") || !has("gzip") {
        return None;
    }
    let show = env.banger(["--json", "kernel", "show", KERNEL]).finish().ok().json();
    let (directory, release) = (show["directory"].as_str()?, show["release"].as_str()?.to_owned());
    let made = busybox::directory(env);
    let (vmlinux, initrd) = (made.join("vmlinux"), made.join("initrd.img"));
    // Microcode first and uncompressed, then everything else, as initramfs-tools does.
    let script = "set -eu; directory=$1 release=$2 made=$3
        cp \"$directory/vmlinux\" \"$made/vmlinux\"
        mkdir -p \"$made/early/kernel/x86\" \"$made/main/usr/lib/modules/$release\"
        echo patch >\"$made/early/kernel/x86/microcode\"
        /usr/sbin/debugfs -R \"rdump / $made/main/usr/lib/modules/$release\" \"$directory/modules.ext4\" 2>/dev/null
        rmdir \"$made/main/usr/lib/modules/$release/lost+found\"
        { (cd \"$made/early\" && find . | cpio --quiet -o -H newc)
          (cd \"$made/main\" && find . | cpio --quiet -o -H newc | gzip -1); } >\"$made/initrd.img\"";
    let output = Command::new("sh").args(["-c", script, "sh", directory, &release, text(&made)]).output();
    let output = output.expect("sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    busybox::own(env, &made);
    Some((vmlinux, initrd, release))
}

fn boots(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let Some((vmlinux, initrd, release)) = kernel(&env) else { return };
    let Some(root) = Root::new(&env, "own", &["sh", "cat", "ls", "uname"]) else { return };
    let layout = format!("oci:{}", root.layout(&json!({})).display());
    let pull = ["--json", "image", "pull", &layout, "--name", "source", "--size", "256M"];
    let source = env.banger(pull).finish().ok().json();
    let rootfs = busybox::directory(&env).join("mine.ext4");
    std::fs::copy(source["rootfs"].as_str().expect("a path"), &rootfs).expect("our own directory");
    busybox::own(&env, &rootfs);
    let before = std::fs::read(&rootfs).expect("our own file");

    let files = ["--rootfs", text(&rootfs), "--kernel", text(&vmlinux), "--initrd", text(&initrd), "--init", "none"];
    let register = [&["--json", "image", "register", "--name", "mine", "--in-place"], &files[..]].concat();
    let image = env.banger(register).finish().ok().json();
    assert_eq!((image["in_place"].as_bool(), image["kernel"].as_str()), (Some(true), Some("mine")), "{image}");
    assert_eq!(image["rootfs"].as_str(), rootfs.to_str(), "{image}");
    assert_eq!(image["shared_bytes"], image["allocated_bytes"], "{image}");
    let run = ["vm", "run", "--rm", "--image", "mine"];
    let script = format!("uname -r; ls -d /lib/modules/{release}/kernel; echo written >/here");
    let said = env.banger(run).args(SMALL).args(["--", "sh", "-c", &script]).finish().ok().text();
    assert_eq!(said, format!("{release}\n/lib/modules/{release}/kernel\n"));
    assert!(std::fs::read(&rootfs).expect("our own file") == before, "what a VM writes is its own");

    // The only kernel the image has, and the file it needs, are not taken from it silently.
    env.banger(["kernel", "delete", "mine"]).finish().refused(4, &["only one", "mine"]);
    env.banger(["image", "promote", "mine"]).finish().ok();
    let again = env.banger(["image", "promote", "mine"]).finish().ok().errors();
    assert!(again.contains("mine is banger's own already"), "{again}");
    std::fs::write(&rootfs, "changed").expect("our own file");
    let said = env.banger(run).args(SMALL).args(["--", "uname", "-r"]).finish().ok().text();
    assert_eq!(said.trim(), release);

    // In place again: a file that is no filesystem is none, and one that changed is noticed.
    let refused = ["image", "register", "--name", "other", "--in-place", "--rootfs", text(&rootfs), "--init", "none"];
    env.banger(refused).finish().expect(1);
    changed_in_place(&env, &before, &rootfs);
    for (kind, name) in [("image", "mine"), ("image", "source"), ("kernel", "mine")] {
        env.banger([kind, "delete", name]).finish().ok();
    }
    env.assert_nothing_left();
}

fn changed_in_place(env: &Env, content: &[u8], rootfs: &Path) {
    std::fs::write(rootfs, content).expect("our own file");
    let register = ["image", "register", "--name", "loose", "--in-place", "--rootfs", text(rootfs), "--init", "none"];
    env.banger(register).finish().ok();
    let appended = [content, &[0; 4096]].concat();
    std::fs::write(rootfs, appended).expect("our own file");
    for command in [&["vm", "run", "--rm", "--image", "loose", "--", "true"][..], &["image", "promote", "loose"]] {
        env.banger(command).finish().refused(4, &["is not what it was when it was registered"]);
    }
    env.banger(["image", "delete", "loose"]).finish().ok();
    assert!(rootfs.exists(), "the file is the user's");
}
