//! Bringing a working tree to the other side of an SSH connection: what people use for it, and banger.
//!
//! Everything in one run and interleaved, through one OpenSSH server on loopback, both ends on the same cores. The
//! trees lie where `BANGER_BENCH_DIR` says (default: memory, as a disk's own noise is larger than the differences).
//! banger is measured as the two programs that are its sync crate, so that no VM is in the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::session::Session;
use super::sshd::Sshd;
use crate::programs::target_directory;

/// Files of the small repository.
const SMALL_FILES: usize = 5000;

/// One tree's samples by name of the measurement, in seconds; `peak_rss_kib` is what it says.
#[derive(Debug, Default)]
pub struct Report {
    /// Name of the tree → measurement → samples.
    pub samples: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
    /// Measurement → the command.
    pub commands: BTreeMap<&'static str, String>,
    /// Where.
    pub place: PathBuf,
}

/// Ratios to reach: ours, theirs, at most.
const GOALS: &[(&str, &str, f64)] = &[
    ("banger_first", "rsync", 0.6),
    ("banger_first", "tar_ssh", 1.15),
    ("banger_unchanged", "rsync", 0.35),
    ("banger_one_changed", "rsync", 0.1),
    ("banger_one_changed_kept", "rsync", 0.1),
    ("banger_overlay", "git_status_ls_files", 1.0),
];

/// How often one file is changed while the connection is kept.
const CHANGES: usize = 10;

/// Measures.
///
/// # Panics
/// If a program is missing or fails.
pub fn measure(rounds: usize) -> Report {
    let place = std::env::var_os("BANGER_BENCH_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from);
    let scratch = tempfile::Builder::new().prefix("banger-bench-").tempdir_in(&place).expect("the place is writable");
    let sshd = Sshd::start(scratch.path());
    let mut report = Report { place, ..Report::default() };
    let small = scratch.path().join("small");
    make_small(&small);
    measure_tree(&mut report, "5000 files", &Sides::new(&sshd, &small, scratch.path()), rounds);
    measure_kept(&mut report, "5000 files", (&sshd, &small, scratch.path()));
    let linux = match std::env::var_os("BANGER_BENCH_SOURCE") {
        Some(repository) => Some(PathBuf::from(repository)),
        None => unpack_linux(&scratch.path().join("linux")),
    };
    if let Some(linux) = linux {
        measure_tree(&mut report, "linux", &Sides::new(&sshd, &linux, scratch.path()), rounds);
        measure_kept(&mut report, "linux", (&sshd, &linux, scratch.path()));
    }
    report
}

/// The two ends of all measurements of one tree.
struct Sides {
    source: PathBuf,
    target: PathBuf,
    memory: PathBuf,
    ssh: String,
    user: String,
    sender: String,
}

impl Sides {
    fn new(sshd: &Sshd, source: &Path, scratch: &Path) -> Self {
        let sender = format!("{}/release/banger-sync-sender", target_directory().display());
        let receiver = format!("{}/release/banger-sync-receiver", target_directory().display());
        Self {
            source: source.to_owned(),
            target: scratch.join("target"),
            memory: scratch.join("memory"),
            ssh: sshd.ssh(),
            user: sshd.user(),
            sender: format!("{sender} prepare {} {receiver}", sshd.for_sender()),
        }
    }

    fn script(&self, what: &str) -> String {
        let (source, target) = (self.source.display(), self.target.display());
        let (ssh, user, sender) = (&self.ssh, &self.user, &self.sender);
        let observe = sender.split(" prepare").next().unwrap_or_default();
        match what {
            "tar_pipe" => format!("mkdir {target} && tar -C {source} --exclude=./.git -c . | tar -C {target} -x"),
            "tar_ssh" => format!(
                "mkdir {target} && tar -C {source} --exclude=./.git -c . | {ssh} {user}@127.0.0.1 tar -C {target} -x"
            ),
            "git_clone" => format!(
                "GIT_SSH_COMMAND='{}' git clone -q --depth 1 {user}@127.0.0.1:{source} {target}",
                ssh.replace(" -c aes256-gcm@openssh.com", "")
            ),
            "rsync" | "rsync_again" => {
                format!("rsync -a --delete --exclude=/.git -e '{ssh}' {source}/ {user}@127.0.0.1:{target}/")
            }
            // What ours brings too.
            "rsync_with_git" => format!("rsync -a --delete -e '{ssh}' {source}/ {user}@127.0.0.1:{target}/"),
            "git_status_ls_files" => {
                format!("git -C {source} status --porcelain > /dev/null && git -C {source} ls-files -z > /dev/null")
            }
            "banger_overlay" => format!("{observe} observe {source} {}", self.memory.display()),
            _ => format!("{sender} {source} {target} {}", self.memory.display()),
        }
    }

    fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.target);
    }
}

fn measure_tree(report: &mut Report, name: &str, sides: &Sides, rounds: usize) {
    let mut samples: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let mut peaks = Vec::new();
    let mut run = |what: &'static str| {
        let script = sides.script(what);
        report.commands.entry(what).or_insert_with(|| script.clone());
        let (seconds, output) = timed(&script);
        samples.entry(what).or_default().push(seconds);
        serde_json::from_str::<Value>(&output).unwrap_or_default()
    };
    // One that does not count: the file system's caches, git's index.
    timed(&sides.script("git_status_ls_files"));
    for _ in 0..rounds {
        for what in ["tar_pipe", "tar_ssh", "git_clone", "rsync_with_git"] {
            sides.clear();
            run(what);
        }
        sides.clear();
        run("rsync");
        run("rsync_again");
        sides.clear();
        // As on the first day: nothing is remembered.
        let _ = std::fs::remove_file(&sides.memory);
        let first = run("banger_first");
        peaks.push(first["peak_rss_kib"].as_f64().unwrap_or_default());
        run("banger_unchanged");
        let changed = change_one(&sides.source);
        run("banger_one_changed");
        restore(changed);
        // git writes its index anew for that; the next time it has nothing to write.
        timed(&sides.script("git_status_ls_files"));
        run("git_status_ls_files");
        run("banger_overlay");
    }
    sides.clear();
    samples.insert("peak_rss_kib", peaks);
    report.samples.entry(name.to_owned()).or_default().extend(samples);
}

/// One changed file where both keep their connection: a session of ours that follows edits, and rsync through a connection
/// that OpenSSH shares.
fn measure_kept(report: &mut Report, name: &str, (sshd, source, scratch): (&Sshd, &Path, &Path)) {
    let target = scratch.join("kept");
    let mut changed = |what, wait: &mut dyn FnMut()| {
        wait();
        for _ in 0..CHANGES {
            let before = change_one(source);
            let began = Instant::now();
            wait();
            let seconds = began.elapsed().as_secs_f64();
            report.samples.entry(name.to_owned()).or_default().entry(what).or_default().push(seconds);
            restore(before);
            wait();
        }
    };
    let mut session = Session::start(sshd, source, &target);
    changed("banger_one_changed_kept", &mut || session.flush());
    session.stop();
    std::fs::remove_dir_all(&target).expect("ours");
    let shared = sshd.shared_ssh(&scratch.join("kept.socket"));
    let user = sshd.user();
    let rsync = format!(
        "rsync -a --delete --exclude=/.git -e '{shared}' {}/ {user}@127.0.0.1:{}/",
        source.display(),
        target.display()
    );
    report.commands.entry("rsync_one_changed_kept").or_insert_with(|| rsync.clone());
    // Apart: whoever keeps the connection keeps its standard streams as well.
    timed(&format!("{shared} {user}@127.0.0.1 true < /dev/null > /dev/null 2>&1"));
    changed("rsync_one_changed_kept", &mut || {
        timed(&rsync);
    });
    timed(&format!("{shared} -O exit {user}@127.0.0.1 2> /dev/null"));
    std::fs::remove_dir_all(&target).expect("ours");
}

fn timed(script: &str) -> (f64, String) {
    let began = Instant::now();
    let output =
        Command::new("bash").args(["-o", "pipefail", "-c", script]).stdin(Stdio::null()).output().expect("bash runs");
    let seconds = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    (seconds, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Some file in the middle, and what it was.
fn change_one(source: &Path) -> (PathBuf, Vec<u8>) {
    let listed = Command::new("git").arg("-C").arg(source).args(["ls-files", "*.c"]).output().expect("git runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: Vec<&str> = listed.lines().filter(|name| !name.starts_with('"')).collect();
    let path = source.join(names[names.len() / 2]);
    let before = std::fs::read(&path).expect("a tracked file");
    std::fs::write(&path, [&before[..], b"/* changed */\n"].concat()).expect("writable");
    (path, before)
}

fn restore((path, before): (PathBuf, Vec<u8>)) {
    std::fs::write(path, before).expect("writable");
}

pub(super) fn make_small(root: &Path) {
    for number in 0..SMALL_FILES {
        let directory = root.join(format!("d{:02}/e{:02}", number % 50, number / 50 % 10));
        std::fs::create_dir_all(&directory).expect("writable");
        let line = format!("int value_{number}(void) {{ return {number}; }}\n");
        std::fs::write(directory.join(format!("file{number}.c")), line.repeat(number % 200)).expect("writable");
    }
    make_repository(root);
}

/// `None`, said on stderr, without the distribution's package.
pub(super) fn unpack_linux(root: &Path) -> Option<PathBuf> {
    let tarball = std::fs::read_dir("/usr/src").ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("linux-source-") && name.ends_with(".tar.xz")
    });
    let Some(tarball) = tarball else {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "skipped: the large tree needs the package linux-source");
        return None;
    };
    std::fs::create_dir_all(root).expect("writable");
    timed(&format!("tar -C {} --strip-components=1 -xf {}", root.display(), tarball.display()));
    make_repository(root);
    Some(root.to_owned())
}

fn make_repository(root: &Path) {
    timed(&format!(
        "cd {} && git init -q && git add -A -f . && \
         git -c gc.auto=0 -c maintenance.auto=false -c user.name=bench -c user.email=bench@example.com commit -q -m bench && \
         git gc -q && git status -s",
        root.display()
    ));
}

/// As JSON, in `target/bench/sync.json`.
///
/// # Panics
/// If the target directory cannot be written.
pub fn write(report: &Report) -> PathBuf {
    let path = target_directory().join("bench/sync.json");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
    let trees: BTreeMap<&String, Value> = report
        .samples
        .iter()
        .map(|(name, samples)| {
            let medians: BTreeMap<_, _> = samples.iter().map(|(what, times)| (*what, median(times))).collect();
            let ratios: Vec<Value> = GOALS
                .iter()
                .map(|(ours, theirs, goal)| {
                    let ratio = medians[ours] / medians[theirs];
                    json!({"ours": ours, "theirs": theirs, "ratio": ratio, "at_most": goal, "reached": ratio <= *goal})
                })
                .collect();
            (name, json!({"samples": samples, "medians": medians, "ratios": ratios}))
        })
        .collect();
    let document = json!({
        "unit": "seconds",
        "place": report.place,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "commands": report.commands,
        "trees": trees,
    });
    let text = serde_json::to_string_pretty(&document).expect("plain JSON");
    std::fs::write(&path, text + "\n").expect("the target directory is writable");
    path
}

/// As a table.
pub fn render(report: &Report) -> String {
    let mut table = String::new();
    for (name, samples) in &report.samples {
        let _ = writeln!(table, "{name:<24} {:>9} {:>9} {:>9}", "median", "min", "max");
        for (what, times) in samples {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let most = times.iter().copied().fold(0.0, f64::max);
            let _ = writeln!(table, "{what:<24} {:>9.3} {least:>9.3} {most:>9.3}", median(times));
        }
        for (ours, theirs, goal) in GOALS {
            let ratio = median(&samples[ours]) / median(&samples[theirs]);
            let verdict = if ratio <= *goal { "reached" } else { "NOT reached" };
            let _ = writeln!(table, "  {ours} / {theirs} = {ratio:.2}, at most {goal}: {verdict}");
        }
    }
    table
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        odd => sorted[odd / 2],
    }
}
