//! Where bangerd keeps its files. Computed once from the environment; nothing else reads it.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)   bangerd.sock, vm/<short id>/ sockets   0700
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)          bangerd.db, bangerd.log, lock, vms/<id>/, images/, kernels/
//! cache    $XDG_CACHE_HOME/banger  (~/.cache/banger)                downloads and staged builds
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)               config.toml
//! ```
//! In system mode they are the fixed places of [`banger_proto::install`], made by `banger system install`.
//! The CLI computes the runtime directory by the same rule to find the socket: [`banger_proto::roots`].
//! [`Paths::resolve`] is pure; [`ensure`](Paths::ensure) creates the roots and refuses unsafe ones.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::install;
use banger_proto::roots::{self, Environment, RootsError};

/// File name of the static binary that becomes PID 1 of every guest.
const GUEST_BINARY_NAME: &str = "banger-guest";

/// The four roots. Unix socket paths must stay under 108 bytes: keep `runtime` short.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Sockets; gone after a reboot.
    pub runtime: PathBuf,
    /// Everything that must survive.
    pub state: PathBuf,
    /// Everything that can be made again.
    pub cache: PathBuf,
    /// The user's configuration.
    pub config: PathBuf,
}

/// `banger-guest` is nowhere to be found.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the guest binary banger-guest, looked at {}", looked_at.join(", "))]
pub struct GuestBinaryError {
    /// Every place that was tried.
    pub looked_at: Vec<String>,
}

impl Classified for GuestBinaryError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "Install `banger-guest` beside `bangerd`, or name it with `BANGER_GUEST_BINARY=/path/to/banger-guest`."
                .into(),
        ]
    }
}

impl Paths {
    /// The roots for this environment.
    ///
    /// # Errors
    /// [`RootsError::NoHome`].
    pub fn resolve(environment: &Environment) -> Result<Self, RootsError> {
        Ok(Self {
            runtime: environment.runtime(),
            state: environment.state()?,
            cache: environment.cache()?,
            config: environment.config()?,
        })
    }

    /// The roots of an installation.
    pub fn system() -> Self {
        Self {
            runtime: install::RUNTIME_DIRECTORY.into(),
            state: install::STATE_DIRECTORY.into(),
            cache: install::CACHE_DIRECTORY.into(),
            config: install::CONFIG_DIRECTORY.into(),
        }
    }

    /// Creates runtime, state and cache with mode 0700 and refuses any that is not ours alone.
    ///
    /// # Errors
    /// [`RootsError`]. The runtime root is never repaired: in /tmp anybody could have made it.
    pub fn ensure(&self) -> Result<(), RootsError> {
        roots::ensure_private(&self.runtime)?;
        for root in [&self.state, &self.cache] {
            roots::ensure_directory(root)?;
            // These lie in the user's home: a mode loosened by a restore or a copy is put right.
            let io = |attempt| move |source| RootsError::Io { attempt, path: root.clone(), source };
            let found = std::fs::metadata(root).map_err(io("look at"))?;
            if let Some(problem) = roots::owned_by_another(&found) {
                return Err(RootsError::Unsafe { path: root.clone(), problem });
            }
            if found.mode() & 0o077 != 0 {
                std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))
                    .map_err(io("restrict to mode 0700"))?;
            }
        }
        Ok(())
    }

    /// The static binary that becomes PID 1 of every guest: $BANGER_GUEST_BINARY, else beside this
    /// executable, else in `../lib/banger/` from it.
    ///
    /// # Errors
    /// [`GuestBinaryError`] naming every place that was tried.
    pub fn guest_binary(&self) -> Result<PathBuf, GuestBinaryError> {
        let named = std::env::var_os("BANGER_GUEST_BINARY").map(PathBuf::from);
        let candidates = guest_binary_candidates(named, std::env::current_exe().ok().as_deref());
        candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| GuestBinaryError {
            looked_at: candidates.iter().map(|path| path.display().to_string()).collect(),
        })
    }

    /// The gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("bangerd.sock")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.state.join("bangerd.db")
    }

    /// The daemon's log when the CLI started it.
    pub fn log(&self) -> PathBuf {
        self.state.join("bangerd.log")
    }

    /// Held (flock) by the one running daemon.
    pub fn lock(&self) -> PathBuf {
        self.state.join("bangerd.lock")
    }

    /// Durable files of all VMs. A file system of its own may be mounted there.
    pub fn vms(&self) -> PathBuf {
        self.state.join("vms")
    }

    /// Durable files of one VM: disks, console log, host key.
    pub fn vm(&self, id: &banger_proto::names::VmId) -> PathBuf {
        self.vms().join(id.as_str())
    }

    /// Sockets of one VM. Short, so that socket paths fit 108 bytes.
    pub fn vm_runtime(&self, id: &banger_proto::names::VmId) -> PathBuf {
        self.runtime.join("vm").join(id.short())
    }

    /// The image store.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// The kernel store.
    pub fn kernels(&self) -> PathBuf {
        self.state.join("kernels")
    }

    /// True if `path` lies below one of the roots.
    pub fn owns(&self, path: &Path) -> bool {
        [&self.runtime, &self.state, &self.cache].iter().any(|root| path.starts_with(root))
    }
}

/// An explicitly named binary is the only candidate: a typing mistake must not fall back silently.
fn guest_binary_candidates(named: Option<PathBuf>, executable: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named];
    }
    let Some(directory) = executable.and_then(Path::parent) else { return Vec::new() };
    let mut candidates = vec![directory.join(GUEST_BINARY_NAME)];
    if let Some(prefix) = directory.parent() {
        candidates.push(prefix.join("lib/banger").join(GUEST_BINARY_NAME));
    }
    candidates
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_root_that_others_could_use_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = |runtime: PathBuf| Paths {
            runtime,
            state: scratch.path().join("state"),
            cache: scratch.path().join("cache"),
            config: scratch.path().join("config"),
        };
        let open = scratch.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = roots(open).ensure().expect_err("mode 0755");
        assert!(error.to_string().contains("0755"), "{error}");

        let private = scratch.path().join("private");
        roots(private.clone()).ensure().unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        let error = roots(link).ensure().expect_err("a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_loosened_state_directory_is_made_private_again() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths {
            runtime: scratch.path().join("run"),
            state: state.clone(),
            cache: scratch.path().join("cache"),
            config: scratch.path().join("config"),
        };
        paths.ensure().unwrap();
        assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_named_guest_binary_never_falls_back() {
        let executable = Path::new("/opt/bin/bangerd");
        assert_eq!(guest_binary_candidates(Some("/x".into()), Some(executable)), [Path::new("/x")]);
        assert_eq!(
            guest_binary_candidates(None, Some(executable)),
            [Path::new("/opt/bin/banger-guest"), Path::new("/opt/lib/banger/banger-guest")]
        );
    }
}
