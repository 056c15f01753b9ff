//! Where the files of whoever runs banger are, and what makes such a directory safe to use: one rule, by which the command
//! line finds the socket of a daemon it started.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)
//! cache    $XDG_CACHE_HOME/banger  (~/.cache/banger)
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)
//! ```
//! Which files are in them is the programs' own business. Nothing here repairs a directory that looks wrong: it is refused.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Classified, Kind};

/// What the roots depend on.
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

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Neither $HOME nor the XDG variable is set.
    #[error("cannot tell where to keep files: neither HOME nor {variable} is set to an absolute path")]
    NoHome {
        /// The XDG variable that would decide.
        variable: &'static str,
    },
    /// Somebody else could reach into it.
    #[error("refusing to use {}: {problem}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong, as a clause.
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

impl Classified for RootsError {
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
            cache_home: absolute("XDG_CACHE_HOME"),
            config_home: absolute("XDG_CONFIG_HOME"),
        }
    }

    /// For sockets; gone after a reboot. Short, as the path of a socket must stay under 108 bytes.
    pub fn runtime(&self) -> PathBuf {
        match &self.runtime_home {
            Some(home) => home.join("banger"),
            None => PathBuf::from(format!("/tmp/banger-runtime-{}", self.uid)),
        }
    }

    /// For what must survive.
    ///
    /// # Errors
    /// [`RootsError::NoHome`].
    pub fn state(&self) -> Result<PathBuf, RootsError> {
        self.root(self.state_home.as_deref(), ".local/state", "XDG_STATE_HOME")
    }

    /// For what can be made again.
    ///
    /// # Errors
    /// [`RootsError::NoHome`].
    pub fn cache(&self) -> Result<PathBuf, RootsError> {
        self.root(self.cache_home.as_deref(), ".cache", "XDG_CACHE_HOME")
    }

    /// For the configuration.
    ///
    /// # Errors
    /// [`RootsError::NoHome`].
    pub fn config(&self) -> Result<PathBuf, RootsError> {
        self.root(self.config_home.as_deref(), ".config", "XDG_CONFIG_HOME")
    }

    fn root(&self, xdg: Option<&Path>, below_home: &str, variable: &'static str) -> Result<PathBuf, RootsError> {
        match (xdg, &self.home) {
            (Some(xdg), _) => Ok(xdg.join("banger")),
            (None, Some(home)) => Ok(home.join(below_home).join("banger")),
            (None, None) => Err(RootsError::NoHome { variable }),
        }
    }
}

/// Creates `path` and what is missing above it, for us alone; one that is there already stays as it is.
///
/// # Errors
/// [`RootsError::Io`].
pub fn ensure_directory(path: &Path) -> Result<(), RootsError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| RootsError::Io {
        attempt: "create the directory",
        path: path.to_owned(),
        source,
    })
}

/// [`ensure_directory`] that refuses a link, a directory of somebody else and one that others may enter.
///
/// # Errors
/// [`RootsError`]. What looks wrong is never repaired: in /tmp anybody could have made it.
pub fn ensure_private(path: &Path) -> Result<(), RootsError> {
    ensure_directory(path)?;
    let found = std::fs::symlink_metadata(path).map_err(|source| RootsError::Io {
        attempt: "look at",
        path: path.to_owned(),
        source,
    })?;
    let problem = if found.is_symlink() {
        "it is a symbolic link".to_owned()
    } else if !found.is_dir() {
        "it is not a directory".to_owned()
    } else if let Some(problem) = owned_by_another(&found) {
        problem
    } else if found.mode() & 0o777 != 0o700 {
        format!("its mode is {:04o}, not 0700", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(RootsError::Unsafe { path: path.to_owned(), problem })
}

/// Says whose it is, as a clause, if it is not ours.
pub fn owned_by_another(found: &std::fs::Metadata) -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    (found.uid() != uid).then(|| format!("it belongs to uid {}, not to uid {uid}", found.uid()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_xdg_variable_decides_and_home_where_there_is_none() {
        let environment = Environment { uid: 1000, home: Some("/home/me".into()), ..Environment::default() };
        let roots = |of: &Environment| [of.runtime(), of.state().unwrap(), of.cache().unwrap(), of.config().unwrap()];
        let expected = [
            "/tmp/banger-runtime-1000",
            "/home/me/.local/state/banger",
            "/home/me/.cache/banger",
            "/home/me/.config/banger",
        ];
        assert_eq!(roots(&environment), expected.map(PathBuf::from));
        let environment = Environment {
            runtime_home: Some("/run/user/1000".into()),
            state_home: Some("/s".into()),
            cache_home: Some("/c".into()),
            config_home: Some("/g".into()),
            ..environment
        };
        let expected = ["/run/user/1000/banger", "/s/banger", "/c/banger", "/g/banger"];
        assert_eq!(roots(&environment), expected.map(PathBuf::from));
    }

    #[test]
    fn without_home_the_missing_variable_is_named() {
        let nothing = Environment::default();
        for (root, variable) in [
            (nothing.state(), "XDG_STATE_HOME"),
            (nothing.cache(), "XDG_CACHE_HOME"),
            (nothing.config(), "XDG_CONFIG_HOME"),
        ] {
            let error = root.unwrap_err();
            assert!(error.to_string().contains(variable), "{error}");
            assert!(error.hints()[0].contains(variable));
        }
    }

    #[test]
    fn what_others_could_use_is_refused_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let open = scratch.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o750)).unwrap();
        let error = ensure_private(&open).unwrap_err();
        assert!(error.to_string().contains("0750"), "{error}");
        assert_eq!(std::fs::metadata(&open).unwrap().mode() & 0o777, 0o750);

        let private = scratch.path().join("deep/private");
        ensure_private(&private).unwrap();
        assert_eq!(std::fs::metadata(&private).unwrap().mode() & 0o777, 0o700);
        ensure_private(&private).unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(ensure_private(&link).unwrap_err().to_string().contains("symbolic link"));
        let file = scratch.path().join("file");
        std::fs::write(&file, "").unwrap();
        ensure_private(&file).unwrap_err();
    }
}
