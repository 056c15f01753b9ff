//! A container image from a loopback registry to an ext4 file: `banger image pull`, against skopeo, umoci and
//! mke2fs one after the other. Same registry, same image, nothing cached, alternating.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::boot::median;
use crate::account::{Account, Who};
use crate::distributions;
use crate::env::Env;
use crate::programs::target_directory;
use crate::registry::{Registry, has};

const LIMIT: Duration = Duration::from_secs(300);

/// What was measured.
#[derive(Debug, Default)]
pub struct Report {
    /// `banger image pull`.
    pub ours: Vec<Duration>,
    /// skopeo, umoci, mke2fs.
    pub theirs: Vec<[Duration; 3]>,
    /// Most memory the daemon had, in KiB.
    pub daemon_peak_kib: u64,
    /// Bytes of the uncompressed layer.
    pub layer_bytes: u64,
}

/// Measures, `rounds` times each; `None` where a program is missing.
///
/// # Panics
/// If a step fails.
pub fn measure(rounds: usize) -> Option<Report> {
    if !["umoci", "mmdebstrap"].into_iter().all(has) {
        return None;
    }
    let registry = Registry::start()?;
    let tar = distributions::debian();
    let reference = registry.push("bench/debian:1", &tar, &json!({}));
    let who = if Account::current().uid == 0 { Who::Root } else { Who::Ordinary };
    let env = Env::empty(who).expect("we are somebody");
    let mut report =
        Report { layer_bytes: std::fs::metadata(&tar).map_or(0, |found| found.len()), ..Report::default() };
    // The daemon runs before the clock does, as the peers' programs are there before theirs.
    env.banger(["image", "list"]).finish().ok();
    for _ in 0..rounds {
        report.theirs.push(by_tools(&reference));
        env.banger(["image", "cache", "prune"]).finish().ok();
        let pull = env.banger(["image", "pull", &reference, "--name", "bench", "--refresh"]).limit(LIMIT);
        report.ours.push(pull.finish().ok().elapsed);
    }
    let daemon = env.daemon().expect("the daemon runs");
    report.daemon_peak_kib = peak_kib(daemon.pid);
    let image = env.banger(["--json", "image", "show", "bench"]).finish().ok().json();
    let rootfs = image["rootfs"].as_str().expect("a path").to_owned();
    run(Command::new("/usr/sbin/e2fsck").args(["-fn", &rootfs]));
    Some(report)
}

fn by_tools(reference: &str) -> [Duration; 3] {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let layout = format!("oci:{}:it", at("layout"));
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image", &format!("{}:it", at("layout"))]);
    if Account::current().uid != 0 {
        unpack.arg("--rootless");
    }
    unpack.arg(at("bundle"));
    [
        run(Command::new("skopeo").args([
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            &format!("docker://{reference}"),
            &layout,
        ])),
        run(&mut unpack),
        run(Command::new("/usr/sbin/mke2fs").args([
            "-q",
            "-t",
            "ext4",
            "-m",
            "0",
            "-d",
            &at("bundle/rootfs"),
            &at("rootfs.ext4"),
            "8G",
        ])),
    ]
}

fn run(command: &mut Command) -> Duration {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// As JSON, in `target/bench/image.json`.
///
/// # Panics
/// If the target directory cannot be written.
pub fn write(report: &Report) -> PathBuf {
    let path = target_directory().join("bench/image.json");
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let step = |index: usize| report.theirs.iter().map(|times| times[index]).collect::<Vec<_>>();
    let document = json!({
        "unit": "seconds",
        "layer_bytes": report.layer_bytes,
        "daemon_peak_kib": report.daemon_peak_kib,
        "samples": {
            "image_pull": seconds(&report.ours),
            "skopeo_copy": seconds(&step(0)),
            "umoci_unpack": seconds(&step(1)),
            "mke2fs": seconds(&step(2)),
        },
        "medians": { "image_pull": median(&report.ours).as_secs_f64(), "tools": theirs(report).as_secs_f64() },
        "ratio": ratio(report),
    });
    write_to(&path, &(serde_json::to_string_pretty(&document).expect("plain JSON") + "\n"));
    path
}

fn write_to(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
    std::fs::write(path, text).expect("the target directory is writable");
}

fn theirs(report: &Report) -> Duration {
    median(&report.theirs.iter().map(|times| times.iter().sum()).collect::<Vec<Duration>>())
}

fn ratio(report: &Report) -> f64 {
    median(&report.ours).as_secs_f64() / theirs(report).as_secs_f64()
}

/// For people.
pub fn render(report: &Report) -> String {
    format!(
        "{} MB layer: banger image pull {:.2} s, skopeo + umoci + mke2fs {:.2} s, ratio {:.2}, daemon at most {} MiB, {} rounds",
        report.layer_bytes / 1_000_000,
        median(&report.ours).as_secs_f64(),
        theirs(report).as_secs_f64(),
        ratio(report),
        report.daemon_peak_kib / 1024,
        report.ours.len()
    )
}
