//! From a save to its content on the other side: banger's session and lsyncd beside each other, on a large tree.
//!
//! Both ends in memory and on the same cores, through one OpenSSH server on loopback. A save is what editors do: a new
//! file renamed over the old one. Besides: how long after a checkout of 10,000 files both sides are equal, and what an
//! idle session costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::session::Session;
use super::sshd::Sshd;
use super::sync::{make_small, unpack_linux};
use crate::programs::target_directory;

/// Files that a checkout changes.
const CHECKOUT_FILES: usize = 10_000;
/// Barriers with nothing to send.
const BARRIERS: usize = 10;
/// How long an idle session is watched.
const IDLE: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two saves, so that each is one.
const PAUSE: Duration = Duration::from_millis(150);

/// All samples, in milliseconds where nothing else is said.
#[derive(Debug, Default)]
pub struct Report {
    /// Measurement → samples.
    pub samples: BTreeMap<&'static str, Vec<f64>>,
    /// Which tree.
    pub tree: String,
    /// Its files.
    pub files: usize,
    /// Share of one core that an idle session takes.
    pub idle_share: f64,
    /// Most memory the session had, checkouts included.
    pub peak_memory_mib: f64,
}

/// Measures.
///
/// # Panics
/// If a program is missing or fails.
pub fn measure(saves: usize) -> Report {
    let place = std::env::var_os("BANGER_BENCH_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("banger-bench-").tempdir_in(place).expect("the place is writable");
    let sshd = Sshd::start(scratch.path());
    let mut report = Report::default();
    let source = match unpack_linux(&scratch.path().join("linux")) {
        Some(linux) => {
            report.tree = "linux".into();
            linux
        }
        None => {
            let small = scratch.path().join("small");
            make_small(&small);
            report.tree = "5000 files".into();
            small
        }
    };
    let files = tracked(&source);
    report.files = listed(&source, &[]).len();
    let branches = make_branches(&source, &files);
    let target = scratch.path().join("banger");
    let mut session = Session::start(&sshd, &source, &target);
    session.flush();
    report.samples.insert("banger_save", save_and_see(&source, &target, &files, saves));
    // The saves stand in the way of a checkout.
    git(&source, &["reset", "-q", "--hard"]);
    session.flush();
    for round in 0..4 {
        let (checkout, in_step) = check_out(&mut session, &source, branches[round % 2]);
        report.samples.entry("checkout").or_default().push(checkout);
        report.samples.entry("checkout_in_step").or_default().push(in_step);
    }
    for _ in 0..BARRIERS {
        let began = Instant::now();
        session.flush();
        report.samples.entry("barrier").or_default().push(milliseconds(began));
    }
    report.peak_memory_mib = peak_memory_mib(session.pid());
    let before = cpu_seconds(session.pid());
    std::thread::sleep(IDLE);
    report.idle_share = (cpu_seconds(session.pid()) - before) / IDLE.as_secs_f64();
    session.stop();
    std::fs::remove_dir_all(&target).expect("ours");
    if let Some(lsyncd) = Lsyncd::start(&sshd, &source, scratch.path()) {
        report.samples.insert("lsyncd_save", save_and_see(&source, &lsyncd.target, &files, saves));
    }
    report
}

/// How long the checkout took, and from its end until both sides were known to be equal.
fn check_out(session: &mut Session, source: &Path, branch: &str) -> (f64, f64) {
    let began = Instant::now();
    git(source, &["checkout", "-q", branch]);
    let checkout = milliseconds(began);
    let ended = Instant::now();
    session.flush();
    (checkout, milliseconds(ended))
}

/// lsyncd with no delay, rsync over a shared connection: as fast as it gets.
struct Lsyncd {
    child: Child,
    target: PathBuf,
}

impl Lsyncd {
    /// `None`, said on stderr, where it is not installed.
    fn start(sshd: &Sshd, source: &Path, scratch: &Path) -> Option<Self> {
        if !Path::new("/usr/bin/lsyncd").exists() {
            let _ = writeln!(std::io::stderr(), "skipped: lsyncd is not installed");
            return None;
        }
        let target = scratch.join("lsyncd");
        let shared = sshd.shared_ssh(&scratch.join("control"));
        let config = format!(
            "settings {{ nodaemon = true, insist = true }}\n\
             sync {{ default.rsync, source = {:?}, target = \"{}@127.0.0.1:{}/\", delay = 0, exclude = {{ \"/.git\" }},\n\
             rsync = {{ archive = true, rsh = {shared:?} }} }}\n",
            source.display().to_string(),
            sshd.user(),
            target.display(),
        );
        let file = scratch.join("lsyncd.lua");
        std::fs::write(&file, config).expect("writable");
        std::fs::create_dir_all(&target).expect("writable");
        let child = Command::new("/usr/bin/lsyncd")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("lsyncd runs");
        let lsyncd = Self { child, target };
        // Its first rsync is over when a save arrives.
        let marked = tracked(source)[0].clone();
        save(source, &marked, b"is it there?\n");
        crate::wait::until("lsyncd is in step", PATIENCE, || {
            std::fs::read(lsyncd.target.join(&marked)).is_ok_and(|there| there == b"is it there?\n")
        });
        Some(lsyncd)
    }
}

impl Drop for Lsyncd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn save_and_see(source: &Path, target: &Path, files: &[String], saves: usize) -> Vec<f64> {
    let mut samples = Vec::with_capacity(saves);
    for number in 0..saves {
        let name = &files[number * 7919 % files.len()];
        let content = format!("/* save {number} of {} */\n", target.display()).repeat(40);
        let place = target.join(name);
        let began = Instant::now();
        save(source, name, content.as_bytes());
        while std::fs::read(&place).map_or(true, |there| there != content.as_bytes()) {
            assert!(began.elapsed() < PATIENCE, "{name} never arrived");
            // Short beside what is measured, and leaves the core to those who work.
            std::thread::sleep(Duration::from_micros(200));
        }
        samples.push(milliseconds(began));
        std::thread::sleep(PAUSE);
    }
    samples
}

fn save(root: &Path, name: &str, content: &[u8]) {
    let temporary = root.join(format!("{name}.new"));
    std::fs::write(&temporary, content).expect("writable");
    std::fs::rename(temporary, root.join(name)).expect("writable");
}

/// C sources, for saves and checkouts.
fn tracked(root: &Path) -> Vec<String> {
    let plain = |name: &String| !name.starts_with('"') && !root.join(name).is_symlink();
    listed(root, &["*.c"]).into_iter().filter(plain).collect()
}

fn listed(root: &Path, patterns: &[&str]) -> Vec<String> {
    let listed = Command::new("git").arg("-C").arg(root).arg("ls-files").args(patterns).output().expect("git runs");
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

/// Two branches that differ in many files.
fn make_branches(root: &Path, files: &[String]) -> [&'static str; 2] {
    git(root, &["checkout", "-q", "-b", "bench-one"]);
    git(root, &["checkout", "-q", "-b", "bench-two"]);
    for name in files.iter().rev().take(CHECKOUT_FILES) {
        let mut file = std::fs::OpenOptions::new().append(true).open(root.join(name)).expect("a tracked file");
        file.write_all(b"/* the other branch */\n").expect("writable");
    }
    git(root, &["-c", "user.name=b", "-c", "user.email=b@example.com", "commit", "-q", "-a", "-m", "two"]);
    ["bench-one", "bench-two"]
}

fn git(root: &Path, arguments: &[&str]) {
    // Ten thousand new objects would have git tidy up beside the measurement.
    let status = Command::new("git")
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false", "-C"])
        .arg(root)
        .args(arguments)
        .status()
        .expect("git runs");
    assert!(status.success(), "git {arguments:?}");
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("the name ends").1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_memory_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// The value below which this share of the samples is.
fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// As a table.
pub fn render(report: &Report) -> String {
    let mut table = format!("{}, {} files\n", report.tree, report.files);
    let _ = writeln!(table, "{:<24} {:>9} {:>9} {:>9}  ms", "", "p50", "p99", "max");
    for (what, samples) in &report.samples {
        let (middle, high, most) = (percentile(samples, 0.5), percentile(samples, 0.99), percentile(samples, 1.0));
        let _ = writeln!(table, "{what:<24} {middle:>9.1} {high:>9.1} {most:>9.1}");
    }
    let _ = writeln!(table, "{:<24} {:>8.2} % of a core", "idle", report.idle_share * 100.0);
    let _ = writeln!(table, "{:<24} {:>8.0} MiB", "session's peak memory", report.peak_memory_mib);
    let middle = |what| report.samples.get(what).map_or(f64::INFINITY, |samples| percentile(samples, 0.5));
    let (total, most) = (middle("checkout") + middle("checkout_in_step"), 1.2 * middle("checkout") + 1000.0);
    let reached = if total <= most { "reached" } else { "NOT reached" };
    let _ = writeln!(table, "  a checkout is in step {total:.0} ms after its start, at most {most:.0}: {reached}");
    table
}

/// As JSON, in `target/bench/latency.json`.
///
/// # Panics
/// If the target directory cannot be written.
pub fn write(report: &Report) -> PathBuf {
    let path = target_directory().join("bench/latency.json");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
    let medians: BTreeMap<_, _> =
        report.samples.iter().map(|(what, samples)| (*what, percentile(samples, 0.5))).collect();
    let document = json!({
        "unit": "milliseconds",
        "tree": report.tree,
        "files": report.files,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "samples": report.samples,
        "p50": medians,
        "idle_share_of_a_core": report.idle_share,
        "peak_memory_mib": report.peak_memory_mib,
    });
    let text = serde_json::to_string_pretty(&document).expect("plain JSON");
    std::fs::write(&path, text + "\n").expect("the target directory is writable");
    path
}
