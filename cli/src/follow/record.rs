//! Which sessions there are: one small file each below the state directory, and a lock that lives as long as its session.
//!
//! ```text
//! state/sessions/<name>.json   what it follows, and how it was last
//!                <name>.lock   held while it lives
//!                <name>.log    output of one that runs in the background
//! runtime/watch/<name>.sock    where it answers
//! ```
//! A session that ends well takes its file along.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::failure::Kind;
use banger_proto::v1::Vm;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::paths::Paths;
use crate::view::follow::StatusView;

/// Somebody who only looks whether a session lives has its lock for a moment.
const LOOKERS: Duration = Duration::from_secs(2);

/// What is written down of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Of the VM.
    pub vm_id: String,
    /// Of the VM.
    pub vm_name: String,
    /// In the guest.
    pub guest_path: String,
    /// How it was last.
    pub last: StatusView,
}

/// A session that lives; the lock goes with it.
#[derive(Debug)]
pub struct Claim {
    place: Place,
    _lock: File,
}

/// Where a session's files are.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
    runtime: PathBuf,
    name: String,
}

impl Place {
    /// Of the session for this directory of this VM.
    pub fn of(paths: &Paths, vm_id: &str, guest_path: &str) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&(vm_id, guest_path), &mut hasher);
        let name = format!("{:016x}", std::hash::Hasher::finish(&hasher));
        Self { directory: directory(paths), runtime: paths.runtime.join("watch"), name }
    }

    fn named(paths: &Paths, name: &str) -> Self {
        Self { directory: directory(paths), runtime: paths.runtime.join("watch"), name: name.to_owned() }
    }

    /// Where it answers.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join(format!("{}.sock", self.name))
    }

    /// Its output, in the background.
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.name))
    }

    /// True while its session lives.
    pub fn is_alive(&self) -> bool {
        let Ok(lock) = File::open(self.file("lock")) else { return false };
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Takes the session's place.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if there is one.
    pub fn claim(self, paths: &Paths, vm: &Vm) -> Result<Claim, CliError> {
        let failed = |what: &str, error: &std::io::Error| {
            CliError::new(Kind::HostNotReady, format!("cannot {what} in {}", self.directory.display()))
                .map(|failure| failure.caused_by(error.to_string()))
        };
        paths.ensure_runtime()?;
        for directory in [&self.directory, &self.runtime] {
            make_private(directory).map_err(|error| failed("make a directory", &error))?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(self.file("lock"));
        let lock = lock.map_err(|error| failed("open a lock", &error))?;
        let deadline = Instant::now() + LOOKERS;
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() > deadline {
                let name = &vm.name;
                return Err(CliError::new(Kind::Conflict, format!("another session follows edits into VM {name}"))
                    .hint(format!("See it with `banger vm workspace status {name}`."))
                    .hint(format!("End it with `banger vm workspace stop {name}`.")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // What a session left that ended badly.
        let _ = fs::remove_file(self.socket());
        Ok(Claim { place: self, _lock: lock })
    }

    fn load(&self) -> Option<SessionRecord> {
        serde_json::from_slice(&fs::read(self.file("json")).ok()?).ok()
    }

    /// Forgets a session that is dead.
    pub fn forget(&self) {
        for kind in ["json", "log"] {
            // Not being there is fine.
            let _ = fs::remove_file(self.file(kind));
        }
        let _ = fs::remove_file(self.socket());
    }
}

impl Claim {
    /// Where its files are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Writes down how it is.
    pub fn save(&self, record: &SessionRecord) {
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(&self.place.directory)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.persist(self.place.file("json")).map_err(|error| error.error)?;
            Ok::<_, std::io::Error>(())
        })();
        if let Err(error) = written {
            tracing::debug!(%error, "how the session is is not written down");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.place.forget();
    }
}

/// A session that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its files.
    pub place: Place,
    /// What it follows.
    pub record: SessionRecord,
    /// It lives.
    pub alive: bool,
}

/// All sessions, by the name of the VM.
pub fn all(paths: &Paths) -> Vec<Found> {
    let entries = fs::read_dir(directory(paths)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let path = entry.path();
        let is_record = path.extension().is_some_and(|kind| kind.as_bytes() == b"json");
        if is_record { path.file_stem()?.to_str().map(str::to_owned) } else { None }
    });
    let mut found: Vec<Found> = names
        .filter_map(|name| {
            let place = Place::named(paths, &name);
            let record = place.load()?;
            Some(Found { alive: place.is_alive(), place, record })
        })
        .collect();
    found.sort_by(|one, other| {
        (&one.record.vm_name, &one.record.guest_path).cmp(&(&other.record.vm_name, &other.record.guest_path))
    });
    found
}

/// Those of one VM, by its name, id or a beginning of either.
pub fn of_vm(paths: &Paths, reference: &str) -> Vec<Found> {
    let all = all(paths);
    let exact = |found: &&Found| found.record.vm_name == reference || found.record.vm_id == reference;
    let some: Vec<Found> = all.iter().filter(exact).cloned().collect();
    if !some.is_empty() {
        return some;
    }
    let begins =
        |found: &Found| found.record.vm_name.starts_with(reference) || found.record.vm_id.starts_with(reference);
    all.into_iter().filter(begins).collect()
}

/// The one that follows edits into this VM.
///
/// # Errors
/// [`Kind::NotFound`], or [`Kind::Usage`] where there are several.
pub fn the_one(paths: &Paths, reference: &str) -> Result<Found, CliError> {
    let mut alive: Vec<Found> = of_vm(paths, reference).into_iter().filter(|found| found.alive).collect();
    match (alive.pop(), alive.len()) {
        (Some(found), 0) => Ok(found),
        (None, _) => Err(CliError::new(Kind::NotFound, format!("no session follows edits into VM {reference}"))
            .hint(format!("Begin one with `banger vm workspace sync --watch {reference}`."))),
        (Some(_), _) => Err(CliError::usage(format!("several sessions fit {reference}"))
            .hint("Name the VM in full; see them with `banger vm workspace status`.")),
    }
}

fn directory(paths: &Paths) -> PathBuf {
    paths.state.join("sessions")
}

fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn paths(place: &Path) -> Paths {
        let sub = |name: &str| place.join(name);
        Paths { runtime: sub("run"), state: sub("state"), config: sub("config") }
    }

    #[test]
    fn a_session_lives_as_long_as_its_lock_and_one_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let paths = paths(home.path());
        let vm = Vm { id: "id-1".into(), name: "box".into(), ..Vm::default() };
        let place = Place::of(&paths, &vm.id, "/root/repo");
        assert!(!place.is_alive() && the_one(&paths, "box").is_err());
        let claim = place.clone().claim(&paths, &vm).unwrap();
        let record = SessionRecord {
            vm_id: vm.id.clone(),
            vm_name: vm.name.clone(),
            guest_path: "/root/repo".into(),
            last: StatusView::default(),
        };
        claim.save(&record);
        assert!(place.is_alive());
        assert_eq!(the_one(&paths, "bo").unwrap().record.vm_id, "id-1");
        let second = place.clone().claim(&paths, &vm).unwrap_err();
        assert_eq!(second.kind(), Some(Kind::Conflict));
        drop(claim);
        assert!(!place.is_alive() && all(&paths).is_empty(), "one that ends well leaves nothing");

        // One that is killed leaves its record, and is told for what it is.
        let claim = place.clone().claim(&paths, &vm).unwrap();
        claim.save(&record);
        let kept = fs::read(place.file("json")).unwrap();
        drop(claim);
        fs::write(place.file("json"), kept).unwrap();
        let found = of_vm(&paths, "id-1");
        assert!(found.len() == 1 && !found[0].alive);
        assert_eq!(the_one(&paths, "box").unwrap_err().kind(), Some(Kind::NotFound));
        place.claim(&paths, &vm).unwrap();
    }
}
