//! Claims about running mmdebstrap, with shell scripts in its place.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::*;

struct Fake {
    directory: tempfile::TempDir,
    mmdebstrap: Mmdebstrap,
}

fn fake(script: &str) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mmdebstrap");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    Fake { mmdebstrap: Mmdebstrap::new(program, scratch), directory }
}

impl Fake {
    fn scratch_is_empty(&self) -> bool {
        fs::read_dir(self.directory.path().join("scratch")).unwrap().next().is_none()
    }
}

fn recipe(directory: &Path) -> Recipe {
    Recipe {
        subject: "the test".to_owned(),
        suite: "bookworm".to_owned(),
        variant: "minbase",
        mode: Mode::Root,
        packages: vec!["one".to_owned(), "two".to_owned()],
        options: vec!["--dpkgopt=x".into()],
        environment: vec![("BANGER_OUTPUT", directory.as_os_str().to_owned())],
        output: Output::Tar,
    }
}

fn read_all(mut output: File) -> std::io::Result<String> {
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    Ok(text)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn output_arguments_and_progress_reach_the_caller() {
    let fake = fake(
        "echo 'I: running apt-get update...' >&2; echo '0 upgraded, 2 newly installed, 0 to remove' >&2\n\
         echo 'I: downloading packages with apt...' >&2\n\
         echo 'Get:1 http://mirror suite/main amd64 bash amd64 5 [1 kB]' >&2; echo 'Setting up bash (5) ...' >&2\n\
         test -w \"$TMPDIR\" && echo \"$@\"",
    );
    let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
    let reporter = Reporter::new("op".to_owned(), events, CancellationToken::new());
    let recipe = recipe(fake.directory.path());
    let Ok(text) = fake.mmdebstrap.run(&recipe, &reporter, read_all).await else { panic!("the script succeeds") };
    let mode = if rustix::process::geteuid().is_root() { "root" } else { "unshare" };
    assert_eq!(
        text.trim(),
        format!("--verbose --mode={mode} --variant=minbase --include=one,two --dpkgopt=x bookworm -")
    );
    let mut told = Vec::new();
    while let Ok(event) = received.try_recv() {
        told.push(format!("{:?}", event.event));
    }
    assert!(told.iter().any(|event| event.contains("reading the package index")), "{told:?}");
    assert!(told.iter().any(|event| event.contains("installed bash") && event.contains("total: 4")), "{told:?}");
    assert!(fake.scratch_is_empty());
}

#[tokio::test]
async fn the_reason_is_among_the_last_words_although_the_script_is_repeated() {
    let fake = fake("echo 'E: the reason' >&2; for one; do echo \"E: command failed: $one\" >&2; done; exit 1");
    let mut recipe = recipe(fake.directory.path());
    let script: String = (0..100).map(|number| format!("\tstep {number}\n")).collect();
    recipe.options.push(format!("--customize-hook=set -eu\n{script}").into());
    let failed = fake.mmdebstrap.run(&recipe, &Reporter::silent("op"), read_all).await;
    let Err(RunError::Bootstrap(BootstrapError::Failed { tail, .. })) = failed else { panic!("the script fails") };
    assert!(tail.starts_with("E: the reason\n"), "{tail}");
    assert!(!tail.contains("step 99"), "{tail}");
}

#[tokio::test]
async fn cancelling_ends_every_process_and_leaves_no_scratch() {
    let fake = fake(
        "sleep 300 & echo $! >$BANGER_OUTPUT/child; trap '' TERM; echo $$ >$BANGER_OUTPUT/leader\n\
         mkdir -p $TMPDIR/tree/etc; wait; wait; sleep 300",
    );
    let cancel = CancellationToken::new();
    let (events, _received) = tokio::sync::mpsc::unbounded_channel();
    let reporter = Reporter::new("op".to_owned(), events, cancel.clone());
    let recipe = recipe(fake.directory.path());
    let leader = fake.directory.path().join("leader");
    let stop = async {
        until("the script runs", || fs::read_to_string(&leader).is_ok_and(|pid| pid.ends_with('\n'))).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(fake.mmdebstrap.run(&recipe, &reporter, read_all), stop);
    assert!(matches!(result, Err(RunError::Bootstrap(BootstrapError::Cancelled { .. }))));
    for file in ["child", "leader"] {
        let pid = fs::read_to_string(fake.directory.path().join(file)).unwrap();
        until("the process is gone", || !is_alive(pid.trim())).await;
    }
    assert!(fake.scratch_is_empty());
}

#[tokio::test]
async fn dropping_the_future_ends_every_process_too() {
    let fake = fake("sleep 300 & echo $! >$BANGER_OUTPUT/child; wait");
    let reporter = Reporter::silent("op");
    let recipe = recipe(fake.directory.path());
    let child = fake.directory.path().join("child");
    tokio::select! {
        _ = fake.mmdebstrap.run(&recipe, &reporter, read_all) => panic!("the script does not end"),
        () = until("the script runs", || fs::read_to_string(&child).is_ok_and(|pid| pid.ends_with('\n'))) => {}
    }
    let pid = fs::read_to_string(&child).unwrap();
    until("the process is gone", || !is_alive(pid.trim())).await;
    assert!(fake.scratch_is_empty());
}

#[tokio::test]
async fn a_failing_reader_ends_the_work_and_its_error_wins() {
    let fake = fake("sleep 300");
    let reporter = Reporter::silent("op");
    let recipe = recipe(fake.directory.path());
    let result = fake.mmdebstrap.run(&recipe, &reporter, |_| Err::<(), _>("disk full")).await;
    assert!(matches!(result, Err(RunError::Consumer("disk full"))));
    assert!(fake.scratch_is_empty());
}

#[tokio::test]
async fn a_failure_carries_its_last_words_and_a_way_out() {
    let fake = fake("echo partial; echo 'E: failed to parse /etc/subuid and /etc/subgid' >&2; exit 1");
    let reporter = Reporter::silent("op");
    let recipe = recipe(fake.directory.path());
    let Err(RunError::Bootstrap(error)) = fake.mmdebstrap.run(&recipe, &reporter, read_all).await else {
        panic!("the script fails")
    };
    assert!(error.to_string().contains("failed to parse /etc/subuid"), "{error}");
    assert_eq!(error.kind(), Kind::HostNotReady);
    assert!(error.hints()[0].contains("usermod --add-subuids"), "{:?}", error.hints());
}

#[tokio::test]
async fn a_missing_program_is_named_with_the_packages_to_install() {
    let mmdebstrap = Mmdebstrap::new("/nonexistent/mmdebstrap".into(), std::env::temp_dir());
    let recipe = recipe(Path::new("/"));
    let Err(RunError::Bootstrap(error)) = mmdebstrap.run(&recipe, &Reporter::silent("op"), read_all).await else {
        panic!("nothing to run")
    };
    assert!(matches!(error, BootstrapError::Missing { .. }));
    assert_eq!(error.hints(), ["Run `sudo apt-get install mmdebstrap uidmap`."]);
}

#[tokio::test]
async fn abandoned_scratch_is_removed_and_scratch_in_use_is_not() {
    let fake = fake("true");
    let parent = fake.directory.path().join("scratch");
    let in_use = Scratch::create(&parent, Path::new("/bin/true")).unwrap();
    let abandoned = parent.join(format!("banger-build-{}-old", rustix::process::geteuid().as_raw()));
    fs::create_dir_all(abandoned.join("work/tree")).unwrap();
    fs::write(abandoned.join("banger.lock"), "").unwrap();
    let foreign = parent.join("banger-build-x-theirs");
    fs::create_dir(&foreign).unwrap();
    let recipe = recipe(fake.directory.path());
    assert!(fake.mmdebstrap.run(&recipe, &Reporter::silent("op"), read_all).await.is_ok());
    assert!(!abandoned.exists());
    assert!(foreign.exists() && in_use.work().exists());
}

#[test]
fn last_words_are_understood() {
    for (line, cause) in [
        ("W: no entry in /etc/subuid for x\nE: failed to parse /etc/subuid and /etc/subgid", Cause::NoSubordinateIds),
        ("E: cannot find newuidmap", Cause::NoUidmap),
        ("  Temporary failure resolving 'mirror'\nE: Some index files failed to download.", Cause::NoNetwork),
        (
            "E: Write error - write (28: No space left on device)\nE: The package lists could not be parsed",
            Cause::DiskFull,
        ),
        ("E: The repository 'mirror nosuch Release' does not have a Release file.", Cause::NotInArchive),
        ("E: Unable to locate package nosuchpkg", Cause::NotInArchive),
        ("W: GPG error: mirror: NO_PUBKEY 0E98404D386FA1D9", Cause::NoKeyring),
        ("E: something else", Cause::Unknown),
    ] {
        let tail: Vec<String> = line.lines().map(str::to_owned).collect();
        assert_eq!(diagnose::diagnose(&tail), cause, "{line}");
    }
}
