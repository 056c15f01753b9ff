//! The machine that banger starts, started without banger.
//!
//! QEMU's arguments are those of a real VM, read from its process; only what two machines cannot share is replaced:
//! directory, sockets, disks and forwarded ports. The initrd, which the product removes once QEMU has read it, is
//! caught by a hard link while it exists.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::run::BOOT;
use crate::wait::poll;

/// Ports of the guest that greet: the image's sshd, banger's agent.
const SSHD: u16 = 22;
const AGENT: u16 = 4022;

/// A machine that can be started again and again.
#[derive(Debug)]
pub struct Machine {
    arguments: Vec<String>,
    directory: PathBuf,
    runtime: PathBuf,
    // Where the VM that was looked at had them.
    original: (String, String),
    root_image: String,
}

/// How long after QEMU's start each server greeted.
#[derive(Debug, Clone, Copy)]
pub struct Greeted {
    /// Port 22.
    pub sshd: Duration,
    /// banger's own.
    pub agent: Duration,
}

impl Machine {
    /// Looks at a VM that banger made, keeps what it needs of it, and deletes it.
    ///
    /// # Panics
    /// If the VM does not look as expected: then there is nothing to compare with.
    pub fn learn(env: &Env, sizes: &[&str]) -> Self {
        let directory = env.path().join("by-hand");
        env.ensure_directory(&directory);
        let watch = InitrdWatch::start(env.state().join("vms"), directory.join("initrd.cpio"));
        env.banger(["vm", "create", "--name", "model", "--wait", "booted"]).args(sizes).finish().ok();
        watch.stop();
        assert!(directory.join("initrd.cpio").is_file(), "the initrd was gone before it could be kept");

        let arguments = env.machines().first().expect("a running VM has a QEMU").argv.clone();
        let initrd = value_of(&arguments, "-initrd").expect("QEMU gets an initrd");
        let vm_directory = Path::new(&initrd).parent().expect("in the VM's directory").to_owned();
        let runtime = runtime_of(&arguments, &env.runtime());
        env.banger(["vm", "stop", "model"]).finish().ok();
        let image = backing_file(&vm_directory.join("root.qcow2"));
        // A used work disk, as good as a new one: made by the product, and cleanly unmounted.
        copy(&vm_directory.join("work.ext4"), &directory.join("work.model"));
        env.banger(["vm", "delete", "model"]).finish().ok();
        Self {
            arguments,
            runtime: directory.join("run"),
            original: (vm_directory.display().to_string(), runtime),
            root_image: image,
            directory,
        }
    }

    /// The command line, for the report.
    pub fn command_line(&self) -> String {
        self.arguments_for(SSHD, AGENT).join(" ")
    }

    /// Boots once, on fresh disks, and ends it.
    ///
    /// # Panics
    /// If the guest does not greet.
    pub fn boot(&self, env: &Env) -> Greeted {
        env.ensure_directory(&self.runtime);
        let overlay = self.directory.join("root.qcow2");
        let _ = fs::remove_file(&overlay);
        let options = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &self.root_image];
        let made = env.command("qemu-img").args(options).args([&overlay]).finish();
        made.ok();
        copy(&self.directory.join("work.model"), &self.directory.join("work.ext4"));
        env.account().own(&self.directory.join("work.ext4"));

        let (sshd, agent) = (free_port(), free_port());
        let arguments = self.arguments_for(sshd, agent);
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).env_clear().envs(env.variables()).current_dir(&self.directory);
        env.account().apply(&mut command);
        let began = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        let machine = Ended(child.expect("QEMU starts"));
        let agent = greeted(agent, began);
        let sshd = greeted(sshd, began);
        drop(machine);
        Greeted { sshd, agent }
    }

    fn arguments_for(&self, sshd: u16, agent: u16) -> Vec<String> {
        let (vm_directory, runtime) = &self.original;
        let here = |argument: &String| {
            argument
                .replace(vm_directory, &self.directory.display().to_string())
                .replace(runtime, &self.runtime.display().to_string())
        };
        let ports = |argument: String| {
            if argument.contains("hostfwd=") { forwarded(&argument, &[(SSHD, sshd), (AGENT, agent)]) } else { argument }
        };
        self.arguments.iter().map(|argument| ports(here(argument))).collect()
    }
}

/// The network option with other host ports.
fn forwarded(option: &str, ports: &[(u16, u16)]) -> String {
    let kept = option.split(',').filter(|part| !part.starts_with("hostfwd="));
    let ours = ports.iter().map(|(guest, host)| format!("hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
    kept.map(str::to_owned).chain(ours).collect::<Vec<_>>().join(",")
}

fn value_of(arguments: &[String], option: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == option)?;
    arguments.get(at + 1).cloned()
}

/// The VM's directory of sockets: what follows the runtime root in the first socket's path, but its name.
fn runtime_of(arguments: &[String], root: &Path) -> String {
    let root = root.display().to_string();
    let path = arguments
        .iter()
        .flat_map(|argument| argument.split(','))
        .filter_map(|part| part.strip_prefix("path="))
        .find(|path| path.starts_with(&root))
        .expect("QEMU has a socket in the runtime directory");
    Path::new(path).parent().expect("in the VM's directory").display().to_string()
}

fn backing_file(overlay: &Path) -> String {
    let output = Command::new("qemu-img").args(["info", "--output=json"]).arg(overlay).output().expect("qemu-img runs");
    let described: serde_json::Value = serde_json::from_slice(&output.stdout).expect("qemu-img writes JSON");
    described["full-backing-filename"].as_str().expect("an overlay has a backing file").to_owned()
}

fn copy(source: &Path, target: &Path) {
    let done =
        Command::new("cp").args(["--sparse=always", "--force"]).arg(source).arg(target).output().expect("cp runs");
    assert!(done.status.success(), "cp {}: {}", source.display(), String::from_utf8_lossy(&done.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("loopback").port()
}

/// Connects until somebody says "SSH-": QEMU itself accepts long before the guest does.
fn greeted(port: u16, began: Instant) -> Duration {
    let greeting = poll(BOOT, || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).ok()?;
        (&greeting == b"SSH-").then_some(())
    });
    assert!(greeting.is_some(), "nobody greets on port {port}");
    began.elapsed()
}

/// Ends the machine when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps a hard link to the first `initrd.cpio` that appears below a directory.
struct InitrdWatch {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl InitrdWatch {
    fn start(vms: PathBuf, keep: PathBuf) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let candidates = fs::read_dir(&vms).into_iter().flatten().filter_map(Result::ok);
                for candidate in candidates {
                    if fs::hard_link(candidate.path().join("initrd.cpio"), &keep).is_ok() {
                        return;
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { done, thread }
    }

    fn stop(self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch never panics");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_forwarded_ports_change() {
        let option = "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:4022,hostfwd=tcp:127.0.0.1:8080-:80";
        assert_eq!(
            forwarded(option, &[(22, 1001), (4022, 1002)]),
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:1001-:22,hostfwd=tcp:127.0.0.1:1002-:4022"
        );
    }
}
