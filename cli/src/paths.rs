//! Where the CLI finds the daemon and keeps its own files. Computed once from the environment.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)   bangerd.sock                     0700
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)          bangerd.log, ssh/ key + known_hosts
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)               config.toml
//! ```
//! bangerd applies the same rule: [`banger_proto::roots`]. Nothing here repairs a directory that looks wrong: it is refused.

use std::path::PathBuf;

use banger_proto::roots::{self, Environment, RootsError};

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

impl Paths {
    /// The roots for this environment.
    ///
    /// # Errors
    /// [`RootsError::NoHome`].
    pub fn resolve(environment: &Environment) -> Result<Self, RootsError> {
        Ok(Self { runtime: environment.runtime(), state: environment.state()?, config: environment.config()? })
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
    /// As [`roots::ensure_private`].
    pub fn ensure_runtime(&self) -> Result<(), RootsError> {
        roots::ensure_private(&self.runtime)
    }

    /// Makes sure the directory of keys exists.
    ///
    /// # Errors
    /// As [`roots::ensure_private`].
    pub fn ensure_ssh(&self) -> Result<(), RootsError> {
        roots::ensure_private(&self.state.join("ssh"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

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
}
