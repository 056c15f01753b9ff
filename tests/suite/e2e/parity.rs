//! Git in the guest says what git on the host says, for every kind of repository that is handled.

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::repository::CASES;
use banger_tests::run::Outcome;

use super::{create, delete_and_check, for_both_users, text};

for_both_users!(git_in_the_guest_agrees_with_git_on_the_host, every_case);

/// Prints everything compared, each part with its exit status. $1: whether untracked files count ("no", "normal").
/// The last part is the content itself, so that an index that wrongly claims to be fresh cannot hide a difference.
const SCRIPT: &str = r#"
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
section() { printf '\n=== %s\n' "$*"; "$@" 2>/dev/null; printf '\n--- status %s\n' "$?"; }
section git status --porcelain=v1 -z --untracked-files="$1"
section git log -1
section git rev-parse HEAD
section git symbolic-ref HEAD
section git diff --binary
section git diff --cached --binary
section git ls-files -s -z
section git remote get-url origin
others=
[ "$1" = no ] || others=--others
printf '\n=== content\n'
# A directory stands here only where a tracked file was replaced by one; its content is untracked.
git ls-files -z --cached $others --exclude-standard | sort -z -u |
  xargs -0 sh -c 'for path; do [ -d "$path" ] && [ ! -L "$path" ] || printf "%s\0" "$path"; done' sh |
  tar --create --null --no-recursion --files-from - --format gnu --mtime @0 --owner 0 --group 0 --numeric-owner \
      --mode u=rwX,go= 2>/dev/null | sha256sum
"#;

for_both_users!(each_case_is_what_git_takes_for_a_repository, cases_alone);

/// No machine: what the comparison below compares is not empty.
fn cases_alone(who: Who) {
    let Some(env) = Env::empty(who) else { return };
    for case in CASES {
        let repository = (case.build)(&env);
        let host = repository.command("sh").args(["-c", SCRIPT, "sh", "normal"]).finish().ok();
        let text = host.stdout.escape_ascii().to_string();
        assert!(text.contains("git status --porcelain=v1 -z --untracked-files=normal"), "{}: {text}", case.name);
        let nothing = "84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652";
        assert!(!text.contains(nothing), "{}: the content is empty", case.name);
    }
}

fn every_case(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    create(&env, "box", &[]);
    let mut differences = Vec::new();
    for case in CASES {
        let repository = (case.build)(&env);
        let given = repository.path().join(case.inside);
        for (untracked, flags) in [("no", &[][..]), ("normal", &["--include-untracked"][..])] {
            let guest_path = format!("/root/{untracked}/{}", case.name);
            let prepare = ["vm", "workspace", "prepare", "box", text(&given), "--guest-path", &guest_path];
            env.banger(prepare).args(flags).finish().ok();
            let host = repository.command("sh").args(["-c", SCRIPT, "sh", untracked]).finish().ok();
            let guest = git_in_guest(&env, &guest_path, untracked).ok();
            if let Some(difference) = first_difference(&host, &guest) {
                differences.push(format!("{} (untracked files: {untracked}): {difference}", case.name));
            }
            let extra = untracked_in_guest(&env, &guest_path);
            if untracked == "no" && !extra.is_empty() {
                differences.push(format!("{}: untracked files arrived unasked: {extra:?}", case.name));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    delete_and_check(&env, "box");
}

fn git_in_guest(env: &Env, guest_path: &str, untracked: &str) -> Outcome {
    let script = format!("cd \"$2\" || exit 1\n{SCRIPT}");
    env.banger(["vm", "exec", "box", "--", "sh", "-c", &script, "sh", untracked, guest_path]).finish()
}

/// Files in the guest that git does not track there, ignored ones included.
fn untracked_in_guest(env: &Env, guest_path: &str) -> String {
    let listing = ["vm", "exec", "box", "--", "git", "-C", guest_path, "ls-files", "--others", "-z"];
    env.banger(listing).finish().ok().text()
}

/// The first part in which two outputs differ.
fn first_difference(host: &Outcome, guest: &Outcome) -> Option<String> {
    let parts = |outcome: &Outcome| -> Vec<String> {
        outcome.stdout.escape_ascii().to_string().split("\\n=== ").map(str::to_owned).collect()
    };
    let (host, guest) = (parts(host), parts(guest));
    let differ = host.iter().zip(&guest).find(|(host, guest)| host != guest);
    differ.map(|(host, guest)| format!("\n  host:  {}\n  guest: {}", shortened(host), shortened(guest)))
}

fn shortened(text: &str) -> &str {
    text.get(..1500).unwrap_or(text)
}
