//! Reading a repository executes nothing of it: the kernel kills a process that would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_sync::overlay::{CopyMode, ObserveOptions, observe};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

use crate::repo::Repo;

/// Where the child finds the repository.
const VARIABLE: &str = "BANGER_TEST_READ_ONLY_REPOSITORY";
const EXECVE: i64 = 59;
const EXECVEAT: i64 = 322;

/// Everything git would run: a monitor, filters, hooks, an external diff, a text conversion, a pager, an editor.
fn planted(repo: &Repo) -> PathBuf {
    let mark = repo.place.path().join("executed");
    let program = repo.place.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$0\" >> '{}'\ncat\n", mark.display())).unwrap();
    Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    let program = program.to_str().unwrap();
    repo.write(".gitattributes", b"*.c filter=evil diff=evil\n*.md filter=long\n");
    repo.write("untracked.c", b"int x;\n");
    repo.commit("attributes");
    repo.write("README.md", b"modified\n");
    for (key, value) in [
        ("core.fsmonitor", program),
        ("core.hooksPath", repo.place.path().to_str().unwrap()),
        ("core.pager", program),
        ("core.editor", program),
        ("core.sshCommand", program),
        ("core.alternateRefsCommand", program),
        ("filter.evil.clean", program),
        ("filter.evil.smudge", program),
        ("filter.evil.required", "true"),
        ("filter.long.process", program),
        ("diff.external", program),
        ("diff.evil.textconv", program),
        ("diff.evil.command", program),
        ("credential.helper", program),
        ("gpg.program", program),
    ] {
        repo.git(&["config", key, value]);
    }
    for hook in ["post-checkout", "post-index-change", "fsmonitor-watchman", "pre-auto-gc", "reference-transaction"] {
        std::fs::copy(program, repo.path(format!(".git/hooks/{hook}"))).unwrap();
    }
    mark
}

#[test]
fn reading_a_repository_executes_nothing_of_it() {
    if let Some(root) = std::env::var_os(VARIABLE) {
        return read_without_execution(Path::new(&root));
    }
    let repo = Repo::new();
    let mark = planted(&repo);
    let run = |root: &Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "seccomp::reading_a_repository_executes_nothing_of_it", "--nocapture"])
            .env(VARIABLE, root)
            .output()
            .unwrap()
    };
    let output = run(&repo.root);
    assert!(output.status.success(), "{output:?}");
    assert!(!mark.exists(), "{:?}", std::fs::read_to_string(&mark));
    // And git does run what was planted, so there was something to run.
    let _ = crate::repo::git_command(&repo.root).args(["status", "--porcelain"]).output().unwrap();
    assert!(mark.exists(), "git was not tempted");
}

fn read_without_execution(root: &Path) {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = [(EXECVE, Vec::new()), (EXECVEAT, Vec::new())].into();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, TargetArch::x86_64).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
    for include_untracked in [false, true] {
        let options = ObserveOptions { include_untracked, ..ObserveOptions::default() };
        let overlay = observe(root, &options).unwrap();
        assert!(overlay.manifest.entries.len() >= 6);
        assert!(overlay.tree_digest().to_string().starts_with("b3:"));
        let mut observer = banger_sync::overlay::again::Observer::new(root, &options, None);
        for side in [banger_sync::overlay::again::GitSide::Read, banger_sync::overlay::again::GitSide::Unmoved] {
            assert_eq!(observer.observe(side).unwrap().tree_digest(), overlay.tree_digest());
        }
    }
    let whole = ObserveOptions { mode: CopyMode::FullCopy, ..ObserveOptions::default() };
    assert_eq!(
        observe(root, &whole).unwrap().tree_digest(),
        observe(root, &ObserveOptions::default()).unwrap().tree_digest()
    );
    assert_eq!(faults_of_children(), 0, "not even a process was made for it");
    // The filter is there: what executes something is killed, and a process is noticed.
    let killed = Command::new("true").status().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(31), "{killed:?}");
    assert_ne!(faults_of_children(), 0);
}

/// Page faults of all processes this one made and waited for; none without a process.
fn faults_of_children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').nth(8).unwrap().parse().unwrap()
}
