//! From nothing running to a command's exit: `banger vm run --rm`, against the floor below it.
//!
//! The floor is the same kernel, image, initrd and QEMU flags, started by hand ([`super::by_hand`]) on disks that were
//! made beforehand, until the guest's own sshd greets. banger's time includes all that it does: disks, seed,
//! transfer of the repository, the command, and taking everything away again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::by_hand::Machine;
use crate::account::Account;
use crate::env::Env;
use crate::programs::target_directory;
use crate::repository::Repository;

/// Sizes of both machines.
const SIZES: [&str; 4] = ["--vcpu", "2", "--memory", "2048"];

/// What was measured.
#[derive(Debug, Default)]
pub struct Report {
    /// By hand: QEMU's start to the greeting of the guest's sshd.
    pub floor: Vec<Duration>,
    /// By hand: QEMU's start to the greeting of banger's agent.
    pub floor_agent: Vec<Duration>,
    /// The whole command.
    pub ours: Vec<Duration>,
    /// The exact commands.
    pub commands: Vec<String>,
}

/// Measures, `rounds` times each, alternating.
///
/// # Panics
/// If a machine does not come up.
pub fn measure(rounds: usize) -> Report {
    let account = Account::current();
    let env =
        Env::ready_alone(if account.uid == 0 { crate::account::Who::Root } else { crate::account::Who::Ordinary })
            .expect("we are somebody");
    let repository = Repository::small(&env, "repo");
    let path = repository.path().to_str().expect("our own path").to_owned();
    let words = [&["vm", "run", "--rm"], &SIZES[..], &[path.as_str(), "--", "true"]].concat();

    let machine = Machine::learn(&env, &SIZES);
    let mut report = Report::default();
    report.commands.push(machine.command_line());
    report.commands.push(format!("banger {}", words.join(" ")));
    // One round that does not count: the first reads the image from disk.
    env.banger(&words).finish().ok();
    for _ in 0..rounds {
        let greeted = machine.boot(&env);
        report.floor.push(greeted.sshd);
        report.floor_agent.push(greeted.agent);
        report.ours.push(env.banger(&words).finish().ok().elapsed);
    }
    env.assert_nothing_left();
    report
}

/// As JSON, in `target/bench/boot.json`.
///
/// # Panics
/// If the target directory cannot be written.
pub fn write(report: &Report) -> PathBuf {
    let path = target_directory().join("bench/boot.json");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
    let samples = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let document: Value = json!({
        "unit": "seconds",
        "commands": report.commands,
        "samples": {
            "floor_sshd": samples(&report.floor),
            "floor_agent": samples(&report.floor_agent),
            "vm_run": samples(&report.ours),
        },
        "medians": {
            "floor_sshd": median(&report.floor).as_secs_f64(),
            "floor_agent": median(&report.floor_agent).as_secs_f64(),
            "vm_run": median(&report.ours).as_secs_f64(),
        },
        "ratio_to_floor": ratio(report),
    });
    let text = serde_json::to_string_pretty(&document).expect("plain JSON");
    std::fs::write(&path, text + "\n").expect("the target directory is writable");
    path
}

/// As a table.
pub fn render(report: &Report) -> String {
    let mut table = String::from("                                        median     min     max\n");
    for (name, times) in [
        ("by hand, until the guest's sshd greets", &report.floor),
        ("by hand, until the agent greets", &report.floor_agent),
        ("banger vm run --rm ./repo -- true", &report.ours),
    ] {
        let (least, most) = (times.iter().min().copied(), times.iter().max().copied());
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
        let _ = writeln!(
            table,
            "{name:<38} {:>7.2} {:>7.2} {:>7.2}",
            median(times).as_secs_f64(),
            seconds(least),
            seconds(most)
        );
    }
    let _ = write!(table, "ratio of banger to the floor: {:.2}, {} rounds", ratio(report), report.ours.len());
    table
}

fn ratio(report: &Report) -> f64 {
    median(&report.ours).as_secs_f64() / median(&report.floor).as_secs_f64()
}

pub(super) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    match sorted.len() {
        0 => Duration::ZERO,
        even if even % 2 == 0 => (sorted[even / 2 - 1] + sorted[even / 2]) / 2,
        odd => sorted[odd / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let seconds = |all: &[u64]| all.iter().map(|second| Duration::from_secs(*second)).collect::<Vec<_>>();
        assert_eq!(median(&seconds(&[9, 1, 5])), Duration::from_secs(5));
        assert_eq!(median(&seconds(&[4, 1, 2, 9])), Duration::from_secs(3));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
