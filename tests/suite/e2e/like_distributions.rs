//! Images like those of distributions, of the packages of this host's: what only a real kernel can tell about them.
//!
//! None of them has an init or an SSH server, and no network is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use banger_tests::account::Who;
use banger_tests::busybox::Root;
use banger_tests::env::Env;
use banger_tests::registry::{has, write_layers};
use banger_tests::{busybox, distributions};
use serde_json::json;

use super::{SMALL, exec, for_both_users, run_words};

for_both_users!(debian_and_what_is_like_ubuntu_keep_what_makes_them_work, debian_like);
for_both_users!(what_is_like_alpine_runs_programs_of_musl, alpine_like);
for_both_users!(an_image_with_a_shell_and_nothing_else_runs_it, distroless);

fn pull(env: &Env, layout: &Path, name: &str) -> serde_json::Value {
    let source = format!("oci:{}", layout.display());
    env.banger(["--json", "image", "pull", &source, "--name", name]).finish().ok().json()
}

/// As whoever `user` is, in the VM `box`.
fn say(env: &Env, user: &str, script: &str) -> String {
    env.banger(["vm", "exec", "box", "--user", user, "--", "sh", "-c", script]).finish().ok().text()
}

/// What the layer above Debian's has: another distribution's name, links into the lower layer, nodes, and ways to
/// become root without a terminal.
const UPPER: &str = r#"
add('etc/os-release', data='ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="like Ubuntu"\n', mode=0o644)
add('etc/sudoers.d/all', data='ALL ALL=(ALL) NOPASSWD: ALL\n', mode=0o440)
add('etc/passwd', data='root::0:0:root:/root:/bin/bash\nnobody:*:65534:65534::/:/usr/sbin/nologin\n', mode=0o644)
add('etc/shadow', data='root::19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n', mode=0o640, gid=42)
add('usr/local/bin/again', tarfile.LNKTYPE, linkname='usr/bin/getent')
add('opt/own', data='x', mode=0o4750, uid=1234, gid=4321)
add('opt/other', tarfile.LNKTYPE, linkname='opt/own')
add('opt/null', tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
add('opt/disk', tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=8, devminor=9)
add('opt/pipe', tarfile.FIFOTYPE, mode=0o600)
"#;

fn debian_like(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    if !has("mmdebstrap") || !has("python3") {
        return;
    }
    let lower = distributions::debian();
    let upper = busybox::directory(&env).join("upper.tar");
    distributions::layer(&upper, UPPER);
    let layout = |name: &str, layers: &[&Path]| -> PathBuf {
        let layout = busybox::directory(&env).join(name);
        write_layers(&layout, layers, &json!({ "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }));
        busybox::own(&env, &layout);
        layout
    };
    let plain = pull(&env, &layout("plain", &[&lower]), "debian");
    assert_eq!((plain["init"].as_str(), plain["has_sshd"].as_bool()), (Some("none"), Some(false)), "{plain}");
    let words = ["--rm", "--image", "debian", "--", "cat", "/etc/os-release"];
    assert!(env.banger(run_words(&words)).finish().ok().text().contains("ID=debian\n"));

    let image = pull(&env, &layout("both", &[&lower, &upper]), "ubuntu");
    assert_eq!(image["os"], "like Ubuntu", "{image}");
    env.banger(["vm", "create", "--name", "box", "--image", "ubuntu"]).args(SMALL).finish().ok();
    assert!(exec(&env, "box", &["cat", "/etc/os-release"]).ok().text().starts_with("ID=ubuntu\n"));

    // Setuid: both programs make root of somebody who is not.
    assert_eq!(say(&env, "root", "stat -c '%a %u:%g' /usr/bin/su /usr/bin/sudo"), "4755 0:0\n4755 0:0\n");
    assert_eq!(say(&env, "nobody", "id -u; sudo -n id -u; su -c 'id -u'"), "65534\n0\n0\n");
    // Capabilities: named by getcap, and the kernel honours them. A copy has none and cannot.
    assert_eq!(say(&env, "root", "getcap /usr/bin/ping"), "/usr/bin/ping cap_net_raw=ep\n");
    let ping = "ping -c 1 -W 5 127.0.0.1 >/dev/null && echo pong";
    let copied = "cp /usr/bin/ping /tmp/ping; sysctl -qw net.ipv4.ping_group_range='1 0' 2>/dev/null; \
        echo '1 0' >/proc/sys/net/ipv4/ping_group_range";
    say(&env, "root", copied);
    assert_eq!(say(&env, "nobody", ping), "pong\n");
    assert_eq!(
        say(&env, "nobody", "/tmp/ping -c 1 -W 5 127.0.0.1 >/dev/null 2>&1; [ $? != 0 ] && echo denied"),
        "denied\n"
    );
    // Hard links: of the package, across layers, within a layer.
    let links = "[ /usr/bin/perl -ef /usr/bin/perl5.36.0 ] && echo one; [ /usr/local/bin/again -ef /usr/bin/getent ] && \
        echo two; stat -c '%h %a %u:%g' /opt/own /opt/other";
    assert_eq!(say(&env, "root", links), "one\ntwo\n2 4750 1234:4321\n2 4750 1234:4321\n");
    // Nodes: there, with owner and mode, and the kernel's.
    let nodes = "stat -c '%F %t:%T %a %g' /opt/null /opt/disk /opt/pipe; echo gone >/opt/null; wc -c </opt/null";
    let expected = "character special file 1:3 666 0\nblock special file 8:9 660 6\nfifo 0:0 600 0\n0\n";
    assert_eq!(say(&env, "root", nodes), expected);
    env.banger(["vm", "delete", "box"]).finish().ok();
    for name in ["debian", "ubuntu"] {
        env.banger(["image", "delete", name]).finish().ok();
    }
    env.assert_nothing_left();
}

/// musl's loader and a program that needs it, as the host's packages have them; `None`, with a word about it, without.
fn musl(root: &Root<'_>, env: &Env) -> Option<()> {
    const LOADER: &str = "/lib/ld-musl-x86_64.so.1";
    if !has("musl-gcc") {
        return None;
    }
    let (source, program) = (busybox::directory(env).join("hello.c"), busybox::directory(env).join("hello"));
    std::fs::write(&source, HELLO).expect("our own directory");
    let output = Command::new("musl-gcc").arg("-o").arg(&program).arg(&source).output().expect("musl-gcc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&program).expect("just made");
    assert!(bytes.windows(LOADER.len()).any(|window| window == LOADER.as_bytes()), "it must need the loader");
    for (path, content) in [("usr/bin/hello", bytes), (&LOADER[1..], std::fs::read(LOADER).expect("a package's"))] {
        root.write(path, content);
        root.set_mode(path, 0o755);
    }
    Some(())
}

/// Says who it is: the resolver of users is musl's own, not glibc's.
const HELLO: &str = "#include <pwd.h>\n#include <stdio.h>\n#include <unistd.h>\n
int main(void) { struct passwd *me = getpwuid(geteuid()); printf(\"musl %s\\n\", me ? me->pw_name : \"nobody\"); return 0; }\n";

fn alpine_like(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let applets = ["sh", "cat", "id", "stat", "ls", "ping", "echo"];
    let Some(root) = Root::new(&env, "alpine", &applets) else { return };
    let Some(()) = musl(&root, &env) else { return };
    root.write("etc/os-release", "NAME=\"like Alpine\"\nID=alpine\nPRETTY_NAME=\"like Alpine v3\"\n");
    root.write("etc/alpine-release", "3.20.0\n");
    root.write("etc/passwd", "root::0:0:root:/root:/bin/ash\nguest:x:405:100:guest:/dev/null:/sbin/nologin\n");
    root.write("etc/group", "root:x:0:root\nusers:x:100:guest\n");
    // As in Alpine's own image: an init without anything to start, and a setuid program beside the others.
    root.write("etc/inittab", "::sysinit:/sbin/openrc sysinit\n");
    let busybox = std::fs::read("/bin/busybox").expect("looked at above");
    root.write("bin/bbsuid", busybox);
    root.set_mode("bin/bbsuid", 0o4711);
    for (link, target) in [("bin/su", "/bin/bbsuid"), ("bin/ash", "/bin/busybox"), ("sbin/init", "/bin/busybox")] {
        env.ensure_directory(root.at(link).parent().expect("below the root"));
        std::os::unix::fs::symlink(target, root.at(link)).expect("our own directory");
    }
    let image = pull(&env, &root.layout(&json!({ "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] })), "alpine");
    assert_eq!((image["init"].as_str(), image["os"].as_str()), (Some("none"), Some("like Alpine v3")), "{image}");
    let words = ["--rm", "--image", "alpine", "--", "cat", "/etc/os-release"];
    assert!(env.banger(run_words(&words)).finish().ok().text().contains("ID=alpine\n"));
    env.banger(["vm", "create", "--name", "box", "--image", "alpine"]).args(SMALL).finish().ok();
    assert_eq!(say(&env, "root", "hello; id -u"), "musl root\n0\n");
    assert_eq!(say(&env, "guest", "hello; id -u; id -G"), "musl guest\n405\n100\n");
    // By its path: this BusyBox prefers what is built into its shell, which is not setuid.
    assert_eq!(say(&env, "guest", "/bin/su -c 'id -u; hello'"), "0\nmusl root\n");
    assert_eq!(say(&env, "root", "ping -c 1 127.0.0.1 >/dev/null && echo pong"), "pong\n");
    env.banger(["vm", "delete", "box"]).finish().ok();
    env.banger(["image", "delete", "alpine"]).finish().ok();
    env.assert_nothing_left();
}

/// As distroless images with a shell have it: not in /bin, not even /etc is there.
fn distroless(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let Some(root) = Root::new(&env, "distroless", &[]) else { return };
    for applet in ["sh", "cat", "id", "ls"] {
        env.ensure_directory(&root.at("busybox"));
        std::fs::hard_link(root.at("bin/busybox"), root.at(&format!("busybox/{applet}"))).expect("our own directory");
    }
    std::fs::remove_dir_all(root.at("bin")).expect("our own directory");
    root.write("app/hello.txt", "hello\n");
    pull(&env, &root.layout(&json!({ "Env": ["PATH=/busybox"], "User": "65532:65532", "WorkingDir": "/app" })), "bare");
    let script = "cat hello.txt; id -u; id -g; ls -d /etc/passwd 2>/dev/null || echo none";
    let said = env.banger(run_words(&["--rm", "--image", "bare", "--", "sh", "-c", script])).finish().ok().text();
    assert_eq!(said, "hello\n65532\n65532\nnone\n");
    env.banger(["image", "delete", "bare"]).finish().ok();
    env.assert_nothing_left();
}
