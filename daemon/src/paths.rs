//! Where bangerd keeps its files. Computed once from the environment; nothing else reads it.
//!
//! ```text
//! runtime  $XDG_RUNTIME_DIR/banger (or /tmp/banger-runtime-<uid>)   bangerd.sock, vm/<short id>/ sockets   0700
//! state    $XDG_STATE_HOME/banger  (~/.local/state/banger)          bangerd.db, bangerd.log, lock, vms/<id>/, images/, kernels/
//! cache    $XDG_CACHE_HOME/banger  (~/.cache/banger)                downloads and staged builds
//! config   $XDG_CONFIG_HOME/banger (~/.config/banger)               config.toml
//! ```
//! The CLI computes the runtime directory by the same rule to find the socket.

use std::path::{Path, PathBuf};

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

impl Paths {
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

    /// Durable files of one VM: disks, console log, host key.
    pub fn vm(&self, id: &banger_proto::names::VmId) -> PathBuf {
        self.state.join("vms").join(id.as_str())
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
