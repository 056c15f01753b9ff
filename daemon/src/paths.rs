//! Where bangerd keeps its files. Computed once from the environment; nothing else reads it.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)   bangerd.sock, vm/<short id>/ sockets   0700
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)          bangerd.db, bangerd.log, lock, vms/<id>/, images/, kernels/
//! cache    $XDG_CACHE_HOME/banger  (~/.cache/banger)                downloads and staged builds
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)               config.toml
//! ```
//! In system mode they are the fixed places of [`banger_proto::install`], made by `banger system install`.
//! The CLI computes the runtime directory by the same rule to find the socket: [`runtime_directory`].
//! [`Paths::resolve`] is pure; [`ensure`](Paths::ensure) creates the roots and refuses unsafe ones.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::install;

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

/// What the paths depend on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Who we are.
    pub uid: u32,
    /// $HOME.
    pub home: Option<PathBuf>,
    /// $XDG_RUNTIME_DIR, only if it is a directory of ours.
    pub runtime_home: Option<PathBuf>,
    /// $XDG_STATE_HOME.
    pub state_home: Option<PathBuf>,
    /// $XDG_CACHE_HOME.
    pub cache_home: Option<PathBuf>,
    /// $XDG_CONFIG_HOME.
    pub config_home: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment. Relative and empty values are ignored, as the XDG specification asks.
    pub fn observe() -> Self {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let uid = rustix::process::getuid().as_raw();
        let ours = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid);
        Self {
            uid,
            home: absolute("HOME"),
            runtime_home: absolute("XDG_RUNTIME_DIR").filter(ours),
            state_home: absolute("XDG_STATE_HOME"),
            cache_home: absolute("XDG_CACHE_HOME"),
            config_home: absolute("XDG_CONFIG_HOME"),
        }
    }
}

/// The runtime root. `runtime_home` is $XDG_RUNTIME_DIR if it is an existing directory owned by `uid`.
pub fn runtime_directory(runtime_home: Option<&Path>, uid: u32) -> PathBuf {
    match runtime_home {
        Some(home) => home.join("banger"),
        None => PathBuf::from(format!("/tmp/banger-runtime-{uid}")),
    }
}

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// Neither $HOME nor the XDG variable is set.
    #[error("cannot tell where to keep files: neither HOME nor {variable} is set to an absolute path")]
    NoHome {
        /// The XDG variable that would decide.
        variable: &'static str,
    },
    /// A root exists but somebody else could reach into it.
    #[error("refusing to use {}: {problem}", path.display())]
    Unsafe {
        /// The root.
        path: PathBuf,
        /// What is wrong, as a clause.
        problem: String,
    },
    /// A root cannot be created or looked at.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// "create the directory" …
        attempt: &'static str,
        /// The root.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classified for PathsError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoHome { .. } | Self::Io { .. } => Kind::HostNotReady,
            Self::Unsafe { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoHome { variable } => vec![format!("Set `HOME` or `{variable}` and try again.")],
            Self::Unsafe { path, .. } => {
                vec![format!("Look at it with `ls -ld {0}`, remove it and try again.", path.display())]
            }
            Self::Io { path, .. } => vec![format!("Check `ls -ld {}` and the directories above it.", path.display())],
        }
    }
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
    /// [`PathsError::NoHome`].
    pub fn resolve(environment: &Environment) -> Result<Self, PathsError> {
        let root = |xdg: &Option<PathBuf>, below_home: &str, variable: &'static str| match (xdg, &environment.home) {
            (Some(xdg), _) => Ok(xdg.join("banger")),
            (None, Some(home)) => Ok(home.join(below_home).join("banger")),
            (None, None) => Err(PathsError::NoHome { variable }),
        };
        Ok(Self {
            runtime: runtime_directory(environment.runtime_home.as_deref(), environment.uid),
            state: root(&environment.state_home, ".local/state", "XDG_STATE_HOME")?,
            cache: root(&environment.cache_home, ".cache", "XDG_CACHE_HOME")?,
            config: root(&environment.config_home, ".config", "XDG_CONFIG_HOME")?,
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
    /// [`PathsError`]. The runtime root is never repaired: in /tmp anybody could have made it.
    pub fn ensure(&self) -> Result<(), PathsError> {
        let uid = rustix::process::getuid().as_raw();
        ensure_directory(&self.runtime)?;
        refuse_unless_private(&self.runtime, uid)?;
        for root in [&self.state, &self.cache] {
            ensure_directory(root)?;
            // These lie in the user's home: a mode loosened by a restore or a copy is put right.
            let io = |attempt| move |source| PathsError::Io { attempt, path: root.clone(), source };
            let found = std::fs::metadata(root).map_err(io("look at"))?;
            if found.uid() != uid {
                let problem = format!("it belongs to uid {}, not to uid {uid}", found.uid());
                return Err(PathsError::Unsafe { path: root.clone(), problem });
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

fn ensure_directory(path: &Path) -> Result<(), PathsError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| PathsError::Io {
        attempt: "create the directory",
        path: path.to_owned(),
        source,
    })
}

fn refuse_unless_private(path: &Path, uid: u32) -> Result<(), PathsError> {
    let found = std::fs::symlink_metadata(path).map_err(|source| PathsError::Io {
        attempt: "look at",
        path: path.to_owned(),
        source,
    })?;
    let problem = if found.is_symlink() {
        "it is a symbolic link".to_owned()
    } else if !found.is_dir() {
        "it is not a directory".to_owned()
    } else if found.uid() != uid {
        format!("it belongs to uid {}, not to uid {uid}", found.uid())
    } else if found.mode() & 0o777 != 0o700 {
        format!("its mode is {:04o}, not 0700", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(PathsError::Unsafe { path: path.to_owned(), problem })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { uid: 1000, home: Some("/home/me".into()), ..Environment::default() }
    }

    #[test]
    fn home_decides_where_no_xdg_variable_does() {
        let paths = Paths::resolve(&environment()).unwrap();
        assert_eq!(paths.runtime, Path::new("/tmp/banger-runtime-1000"));
        assert_eq!(paths.state, Path::new("/home/me/.local/state/banger"));
        assert_eq!(paths.cache, Path::new("/home/me/.cache/banger"));
        assert_eq!(paths.config, Path::new("/home/me/.config/banger"));
    }

    #[test]
    fn xdg_variables_win_over_home() {
        let paths = Paths::resolve(&Environment {
            runtime_home: Some("/run/user/1000".into()),
            state_home: Some("/s".into()),
            cache_home: Some("/c".into()),
            config_home: Some("/g".into()),
            ..environment()
        })
        .unwrap();
        assert_eq!(paths.socket(), Path::new("/run/user/1000/banger/bangerd.sock"));
        assert_eq!(
            (paths.state, paths.cache, paths.config),
            ("/s/banger".into(), "/c/banger".into(), "/g/banger".into())
        );
    }

    #[test]
    fn without_home_the_missing_variable_is_named() {
        let error = Paths::resolve(&Environment::default()).expect_err("no home");
        assert!(error.to_string().contains("XDG_STATE_HOME"), "{error}");
    }

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
