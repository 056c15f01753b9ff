//! Port 22 of an image without an SSH server: the agent's at once, OpenSSH's once a package manager has installed it.
//!
//! There is no internet here: the package manager is a script in the image that puts the host's real sshd, which the
//! image carries in a corner, to its place.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use banger_tests::account::Who;
use banger_tests::busybox::Root;
use banger_tests::env::Env;
use banger_tests::registry::has;
use banger_tests::run::Outcome;
use banger_tests::wait::until;
use serde_json::json;

use super::{SMALL, exec, for_both_users, text};

for_both_users!(openssh_takes_over_from_the_agent_when_it_is_installed, takes_over);

const LONG: Duration = Duration::from_secs(180);
const SSHD: &str = "/usr/sbin/sshd";
const OPENSSH: &str = "SSH-2.0-OpenSSH";

/// Waits for the word, then "installs".
const WORKING: &str = "#!/bin/sh\necho \"$@\" >/arguments\nwhile ! [ -e /go ]; do sleep 1; done\ncp -a /stash/. /\n";
const BROKEN: &str = "#!/bin/sh\necho fetching\necho 'ERROR: unable to select packages' >&2\nexit 7\n";

/// An image like Alpine's, with that package manager; `None`, with a word about it, where a program is missing.
fn pull(env: &Env, name: &str, manager: &str) -> Option<()> {
    if !has(SSHD) || !has("ssh") || !has("ldd") {
        return None;
    }
    let root = Root::new(env, name, &["sh", "cat", "cp", "sleep", "echo", "touch", "id"])?;
    root.write("etc/os-release", "ID=alpine\nPRETTY_NAME=\"like Alpine\"\n");
    // "*": no password, but not locked, as sshd sees it.
    root.write("etc/passwd", "root:*:0:0:root:/root:/bin/sh\nsshd:*:22:22::/run/sshd:/bin/sh\n");
    root.write("etc/group", "root:x:0:\nsshd:x:22:\n");
    root.write("sbin/apk", manager);
    root.set_mode("sbin/apk", 0o755);
    root.write("stash/etc/ssh/sshd_config", "UsePAM no\n");
    let listing = Command::new("ldd").arg(SSHD).output().expect("ldd runs");
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let libraries = listing.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain([SSHD]) {
        let target = format!("stash{path}");
        root.write(&target, std::fs::read(path).expect("a program of this host"));
        root.set_mode(&target, 0o755);
    }
    let layout = root.layout(&json!({ "Env": ["PATH=/bin"] }));
    env.banger(["image", "pull", &format!("oci:{}", layout.display()), "--name", name]).finish().ok();
    Some(())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback").port()
}

/// What the server at `port` says first.
fn greeting(port: u16) -> String {
    let mut bytes = [0; 15];
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    match stream.read_exact(&mut bytes) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The user's own ssh, which knows the VM's host key and nothing else.
fn ssh(env: &Env, port: u16, command: &str) -> Outcome {
    let shown = env.banger(["--json", "vm", "show", "box"]).finish().ok().json();
    let key = shown["connection"]["host_key"].as_str().expect("a running VM has a host key").to_owned();
    let known = env.write(env.home().join("known"), format!("[127.0.0.1]:{port} {key}\n").as_bytes());
    let known = format!("UserKnownHostsFile={}", known.display());
    let identity = env.state().join("ssh/id_ed25519");
    let words = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"];
    env.command("ssh")
        .args(words)
        .args(["-o", &known, "-i", text(&identity), "-p", &port.to_string(), "root@127.0.0.1", command])
        .finish()
}

fn takes_over(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let (Some(()), Some(())) = (pull(&env, "working", WORKING), pull(&env, "broken", BROKEN)) else { return };
    let port = free_port();
    let publish = format!("{port}:22");
    let create = |image: &str, more: &[&str]| {
        let words = ["vm", "create", "--name", "box", "--image", image, "--publish", &publish];
        env.banger(words).args(SMALL).args(more).finish().ok();
    };

    create("working", &["--nat"]);
    until("the agent serves port 22", LONG, || greeting(port).starts_with("SSH-2.0-"));
    assert!(!greeting(port).starts_with(OPENSSH), "nothing is installed yet");
    assert_eq!(ssh(&env, port, "id -u").ok().text(), "0\n");
    exec(&env, "box", &["touch", "/go"]).ok();
    until("OpenSSH serves port 22", LONG, || greeting(port).starts_with(OPENSSH));
    // Its sessions are not spared when memory runs out, as the agent that started it is.
    let told = ssh(&env, port, "id -u; cat /arguments /proc/self/oom_score_adj").ok().text();
    assert_eq!(told, "0\nadd --no-cache openssh-server\n0\n");
    // The agent's own port is not touched by any of this, and the next boot finds sshd there.
    exec(&env, "box", &["sh", "-c", "echo '#!/bin/sh' >/sbin/apk"]).ok();
    env.banger(["vm", "stop", "box"]).finish().ok();
    env.banger(["vm", "start", "box"]).finish().ok();
    until("OpenSSH serves port 22 again", LONG, || greeting(port).starts_with(OPENSSH));
    assert_eq!(ssh(&env, port, "id -u").ok().text(), "0\n");
    env.banger(["vm", "delete", "box"]).finish().ok();

    // Without --nat nothing is installed.
    create("broken", &[]);
    until("the agent serves port 22", LONG, || greeting(port).starts_with("SSH-2.0-"));
    assert_eq!(ssh(&env, port, "id -u").ok().text(), "0\n");
    env.banger(["vm", "delete", "box"]).finish().ok();

    // What fails is told, and the agent goes on serving.
    create("broken", &["--nat"]);
    let told = "apk cannot install an SSH server: exit status: 7: ERROR: unable to select packages";
    until("the failure is told", LONG, || env.banger(["vm", "logs", "box"]).finish().ok().text().contains(told));
    assert!(!greeting(port).starts_with(OPENSSH));
    assert_eq!(ssh(&env, port, "id -u").ok().text(), "0\n");
    env.banger(["vm", "delete", "box"]).finish().ok();
    for name in ["working", "broken"] {
        env.banger(["image", "delete", name]).finish().ok();
    }
    env.assert_nothing_left();
}
