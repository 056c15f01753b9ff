//! Where the CLI finds the daemon and keeps its own files. Computed once from the environment.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)   bangerd.sock                     0700
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)          bangerd.log, ssh/ key + known_hosts
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)               config.toml
//! ```
//! bangerd applies the same rule. This module never repairs a directory that looks wrong: it refuses it.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

/// The roots the CLI uses.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The daemon's socket lives here.
    pub runtime: PathBuf,
    /// Keys, known hosts, the log of a daemon started on demand.
    pub state: PathBuf,
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
    /// $XDG_CONFIG_HOME.
    pub config_home: Option<PathBuf>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// Neither $HOME nor the XDG variable is set.
    #[error("cannot tell where to keep files: neither HOME nor {variable} is set to an absolute path")]
    NoHome {
        /// The variable that would decide.
        variable: &'static str,
    },
    /// Somebody else could reach into it.
    #[error("refusing to use {}: {problem}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// A clause.
        problem: String,
    },
    /// It cannot be created or looked at.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// "create the directory" …
        attempt: &'static str,
        /// The directory.
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
            config_home: absolute("XDG_CONFIG_HOME"),
        }
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
            runtime: match &environment.runtime_home {
                Some(home) => home.join("banger"),
                None => PathBuf::from(format!("/tmp/banger-runtime-{}", environment.uid)),
            },
            state: root(&environment.state_home, ".local/state", "XDG_STATE_HOME")?,
            config: root(&environment.config_home, ".config", "XDG_CONFIG_HOME")?,
        })
    }

    /// The daemon's gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("bangerd.sock")
    }

    /// Output of a daemon started on demand.
    pub fn daemon_log(&self) -> PathBuf {
        self.state.join("bangerd.log")
    }

    /// The private key every VM of this user accepts.
    pub fn identity(&self) -> PathBuf {
        self.state.join("ssh/id_ed25519")
    }

    /// Pinned host keys, one line per VM.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.join("ssh/known_hosts")
    }

    /// The user's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Makes sure the runtime directory exists and nobody else can reach into it.
    ///
    /// # Errors
    /// [`PathsError`]; a directory that looks wrong is never repaired: in /tmp anybody could have made it.
    pub fn ensure_runtime(&self) -> Result<(), PathsError> {
        ensure_directory(&self.runtime)?;
        refuse_unless_private(&self.runtime)
    }

    /// Makes sure the directory of keys exists.
    ///
    /// # Errors
    /// [`PathsError`].
    pub fn ensure_ssh(&self) -> Result<(), PathsError> {
        let directory = self.state.join("ssh");
        ensure_directory(&directory)?;
        refuse_unless_private(&directory)
    }
}

fn ensure_directory(path: &Path) -> Result<(), PathsError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| PathsError::Io {
        attempt: "create the directory",
        path: path.to_owned(),
        source,
    })
}

/// Refuses a link, a directory of somebody else and one that others may enter.
fn refuse_unless_private(path: &Path) -> Result<(), PathsError> {
    let found = std::fs::symlink_metadata(path).map_err(|source| PathsError::Io {
        attempt: "look at",
        path: path.to_owned(),
        source,
    })?;
    let uid = rustix::process::getuid().as_raw();
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_socket_is_where_bangerd_puts_it() {
        let environment = Environment { uid: 1000, home: Some("/home/me".into()), ..Environment::default() };
        let paths = Paths::resolve(&environment).unwrap();
        assert_eq!(paths.socket(), Path::new("/tmp/banger-runtime-1000/bangerd.sock"));
        assert_eq!(paths.identity(), Path::new("/home/me/.local/state/banger/ssh/id_ed25519"));
        assert_eq!(paths.config_file(), Path::new("/home/me/.config/banger/config.toml"));
        let environment = Environment { runtime_home: Some("/run/user/1000".into()), ..environment };
        let paths = Paths::resolve(&environment).unwrap();
        assert_eq!(paths.socket(), Path::new("/run/user/1000/banger/bangerd.sock"));
    }

    #[test]
    fn a_runtime_directory_others_could_use_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = |runtime: PathBuf| Paths { runtime, state: "/nowhere".into(), config: "/nowhere".into() };
        let open = scratch.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(paths(open).ensure_runtime().unwrap_err().to_string().contains("0750"));

        let private = scratch.path().join("private");
        paths(private.clone()).ensure_runtime().unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(paths(link).ensure_runtime().unwrap_err().to_string().contains("symbolic link"));
    }
}
