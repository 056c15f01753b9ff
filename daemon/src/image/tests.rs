//! Claims about the image store, with a shell script in place of mmdebstrap.

mod finished;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use banger_proto::failure::{Classified, Kind};
use tokio_util::sync::CancellationToken;

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    store: ImageStore,
}

/// A builder that counts its runs, waits for the file `go`, and prints a small root as tar.
fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("./usr/lib/os-release", "PRETTY_NAME=\"Test 1\"\n"), ("./usr/sbin/sshd", "ELF")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    fs::write(at("root.tar"), tar.into_inner().unwrap()).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {}\necho run >>runs\nwhile ! test -e go; do sleep 0.02; done\nexec cat root.tar\n",
        directory.path().display()
    );
    fs::write(at("mmdebstrap"), script).unwrap();
    fs::set_permissions(at("mmdebstrap"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(at("scratch")).unwrap();
    let store = ImageStore::open(at("images"), at("cache"))
        .unwrap()
        .with_mmdebstrap(Mmdebstrap::new(at("mmdebstrap"), at("scratch")));
    Fixture { directory, store }
}

impl Fixture {
    fn runs(&self) -> usize {
        fs::read_to_string(self.directory.path().join("runs")).unwrap_or_default().lines().count()
    }

    fn go(&self) {
        fs::write(self.directory.path().join("go"), "").unwrap();
    }

    async fn until_runs(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.runs() < count {
            assert!(Instant::now() < deadline, "timed out waiting for run {count}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.directory.path().join("images/.staging")).unwrap().count()
    }

    fn spawn(
        &self,
        refresh: Refresh,
    ) -> (CancellationToken, tokio::task::JoinHandle<Result<ImageArtifacts, ImagePullError>>) {
        let cancel = CancellationToken::new();
        let reporter = Reporter::new("op".to_owned(), tokio::sync::mpsc::unbounded_channel().0, cancel.clone());
        let store = self.store.clone();
        (cancel, tokio::spawn(async move { store.ensure(&name(), refresh, &reporter).await }))
    }
}

fn name() -> ImageName {
    "debian-bookworm".parse().unwrap()
}

#[tokio::test]
async fn a_build_is_stored_with_what_was_learned_from_it() {
    let fixture = fixture();
    fixture.go();
    let made = fixture.store.ensure(&name(), Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap();
    assert_eq!((made.os_pretty_name.as_str(), made.has_sshd, made.init.as_str()), ("Test 1", true, "none"));
    assert_eq!(made.size_bytes, fs::metadata(&made.rootfs).unwrap().len());
    assert!(made.size_bytes >= 8 << 30 && made.allocated_bytes < 64 << 20, "sparse: {made:?}");
    assert_eq!(fixture.store.list(), std::slice::from_ref(&made));
    assert_eq!(fixture.store.get(&name()), Some(made));
    assert_eq!(fixture.staged(), 0);
}

#[tokio::test]
async fn concurrent_calls_share_one_build() {
    let fixture = fixture();
    let calls: Vec<_> = (0..4).map(|_| fixture.spawn(Refresh::Always).1).collect();
    fixture.until_runs(1).await;
    fixture.go();
    let mut ids = Vec::new();
    for call in calls {
        ids.push(call.await.unwrap().unwrap().rootfs);
    }
    ids.dedup();
    assert_eq!((ids.len(), fixture.runs()), (1, 1));
}

#[tokio::test]
async fn a_waiter_takes_over_when_the_builder_is_cancelled() {
    let fixture = fixture();
    let (cancel, first) = fixture.spawn(Refresh::IfAbsent);
    fixture.until_runs(1).await;
    let (_keep, second) = fixture.spawn(Refresh::IfAbsent);
    cancel.cancel();
    assert_eq!(first.await.unwrap().unwrap_err().kind(), Kind::Cancelled);
    fixture.until_runs(2).await;
    fixture.go();
    assert!(second.await.unwrap().is_ok());
    assert_eq!(fixture.staged(), 0);
}

#[tokio::test]
async fn a_cancelled_build_leaves_nothing_behind() {
    let fixture = fixture();
    let (cancel, call) = fixture.spawn(Refresh::IfAbsent);
    fixture.until_runs(1).await;
    cancel.cancel();
    assert_eq!(call.await.unwrap().unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(fixture.staged(), 0);
    assert!(fixture.store.list().is_empty());
    assert_eq!(fs::read_dir(fixture.directory.path().join("scratch")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_rebuild_keeps_the_files_that_running_vms_use() {
    let fixture = fixture();
    fixture.go();
    let reporter = Reporter::silent("op");
    let first = fixture.store.ensure(&name(), Refresh::IfAbsent, &reporter).await.unwrap();
    let again = fixture.store.ensure(&name(), Refresh::IfAbsent, &reporter).await.unwrap();
    assert_eq!((&first, fixture.runs()), (&again, 1));
    let second = fixture.store.ensure(&name(), Refresh::Always, &reporter).await.unwrap();
    assert_ne!(first.rootfs, second.rootfs);
    assert!(first.rootfs.exists());
    assert_eq!(first.id, second.id, "same recipe, same content");
    let old = fixture.store.superseded();
    assert_eq!(old.iter().map(|image| &image.rootfs).collect::<Vec<_>>(), [&first.rootfs]);
    fixture.store.remove_superseded(&old[0]).unwrap();
    assert!(!first.rootfs.exists() && second.rootfs.exists());
}

#[tokio::test]
async fn deleting_removes_every_build_and_only_our_files() {
    let fixture = fixture();
    fixture.go();
    let reporter = Reporter::silent("op");
    let first = fixture.store.ensure(&name(), Refresh::IfAbsent, &reporter).await.unwrap();
    let second = fixture.store.ensure(&name(), Refresh::Always, &reporter).await.unwrap();
    let foreign = second.rootfs.with_file_name("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    assert_eq!(fixture.store.delete(&name()).await.unwrap().rootfs, second.rootfs);
    assert!(!first.rootfs.exists() && !second.rootfs.exists() && foreign.exists());
    assert!(fixture.store.list().is_empty());
    let error = fixture.store.delete(&name()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn an_unknown_name_lists_what_is_available() {
    let fixture = fixture();
    let unknown = "nosuch".parse().unwrap();
    let error = fixture.store.ensure(&unknown, Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("debian-bookworm"), "{error}");
    assert!(error.hints()[0].contains("banger image list --available"));
}

#[tokio::test]
async fn a_build_that_fails_reports_why_and_can_be_tried_again() {
    let fixture = fixture();
    let script = fixture.directory.path().join("mmdebstrap");
    let good = fs::read(&script).unwrap();
    fs::write(&script, "#!/bin/sh\necho 'E: Unable to locate package nosuch' >&2\nexit 1\n").unwrap();
    let reporter = Reporter::silent("op");
    let error = fixture.store.ensure(&name(), Refresh::IfAbsent, &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(fixture.staged(), 0);
    fs::write(&script, good).unwrap();
    fixture.go();
    assert!(fixture.store.ensure(&name(), Refresh::IfAbsent, &reporter).await.is_ok());
}
