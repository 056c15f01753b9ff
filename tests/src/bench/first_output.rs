//! From nothing running to the first byte of `cat /etc/os-release`: container images beside the default image, which
//! has everything a VM can have. Same machine, no network, alternating.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::boot::median;
use crate::account::{Account, Who};
use crate::artifacts::IMAGE;
use crate::busybox::{self, Root};
use crate::distributions;
use crate::env::Env;
use crate::programs::target_directory;
use crate::registry::{has, write_layers};

const SIZES: [&str; 4] = ["--vcpu", "2", "--memory", "2048"];
const LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

/// One image's name and samples; the first is the default image.
pub type Report = Vec<(String, Vec<Duration>)>;

/// Measures, `rounds` times each, alternating; `None` where a program is missing.
///
/// # Panics
/// If a step fails.
pub fn measure(rounds: usize) -> Option<Report> {
    if !["mmdebstrap", "python3"].into_iter().all(has) {
        return None;
    }
    let who = if Account::current().uid == 0 { Who::Root } else { Who::Ordinary };
    let env = Env::ready_alone(who).expect("we are somebody");
    let root = Root::new(&env, "alpine", &["sh", "cat"])?;
    root.write("etc/os-release", "ID=alpine\nPRETTY_NAME=\"like Alpine\"\n");
    let debian = busybox::directory(&env).join("debian");
    write_layers(&debian, &[&distributions::debian()], &json!({ "Env": ["PATH=/usr/bin:/bin"] }));
    busybox::own(&env, &debian);
    pull(&env, &root.layout(&json!({ "Env": ["PATH=/bin"] })), "like-alpine");
    pull(&env, &debian, "debian-container");
    let mut report: Report =
        [IMAGE, "like-alpine", "debian-container"].map(|name| (name.to_owned(), Vec::new())).into();
    // One round that does not count: the first reads the images from disk.
    for round in 0..=rounds {
        for (name, samples) in &mut report {
            let taken = first_output(&env, name);
            if round > 0 {
                samples.push(taken);
            }
        }
    }
    env.assert_nothing_left();
    Some(report)
}

fn pull(env: &Env, layout: &Path, name: &str) {
    env.banger(["image", "pull", &format!("oci:{}", layout.display()), "--name", name]).limit(LIMIT).finish().ok();
}

fn first_output(env: &Env, image: &str) -> Duration {
    let words = [&["vm", "run", "--rm", "--image", image], &SIZES[..], &["--", "cat", "/etc/os-release"]].concat();
    let began = Instant::now();
    let mut running = env.banger(words).limit(LIMIT).start();
    while running.stdout().is_empty() && !running.has_ended() {
        std::thread::sleep(POLL);
    }
    let taken = began.elapsed();
    let said = running.finish().ok().text();
    assert!(said.contains("ID="), "{said}");
    taken
}

/// Each image's median divided by the default image's.
fn ratios(report: &Report) -> Vec<(&str, f64)> {
    let default = report.first().map_or(Duration::ZERO, |(_, samples)| median(samples)).as_secs_f64();
    report.iter().skip(1).map(|(name, samples)| (name.as_str(), median(samples).as_secs_f64() / default)).collect()
}

/// As JSON, in `target/bench/first-output.json`.
///
/// # Panics
/// If the target directory cannot be written.
pub fn write(report: &Report) -> PathBuf {
    let path = target_directory().join("bench/first-output.json");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("the target directory is writable");
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let each = |value: &dyn Fn(&[Duration]) -> Value| -> Value {
        report.iter().map(|(name, samples)| (name.clone(), value(samples))).collect::<serde_json::Map<_, _>>().into()
    };
    let ratios = ratios(report).into_iter().map(|(name, ratio)| (name.to_owned(), json!(ratio)));
    let document = json!({
        "unit": "seconds",
        "command": "banger vm run --rm --image IMAGE -- cat /etc/os-release",
        "samples": each(&|samples| json!(seconds(samples))),
        "medians": each(&|samples| json!(median(samples).as_secs_f64())),
        "ratio_to_default_image": ratios.collect::<serde_json::Map<_, _>>(),
    });
    let text = serde_json::to_string_pretty(&document).expect("plain JSON");
    std::fs::write(&path, text + "\n").expect("the target directory is writable");
    path
}

/// As a table.
pub fn render(report: &Report) -> String {
    let mut table = String::from("until the first output                  median     min     max\n");
    for (name, times) in report {
        let seconds = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64();
        let middle = median(times).as_secs_f64();
        let (least, most) = (seconds(times.iter().min()), seconds(times.iter().max()));
        let _ = writeln!(table, "{name:<38} {middle:>7.2} {least:>7.2} {most:>7.2}");
    }
    let ratios: Vec<String> = ratios(report).iter().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
    let _ = write!(table, "ratio to the default image: {}", ratios.join(", "));
    table
}
