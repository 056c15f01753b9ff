//! The two ways the daemon runs.

use std::fmt;

/// See docs/architecture.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As any user, started when it is needed, with QEMU.
    Rootless,
    /// As the owner of an installation, a service, with Firecracker and the root helper.
    System,
}

impl Mode {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rootless => "rootless",
            Self::System => "system",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
