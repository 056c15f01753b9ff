//! What every command is given: the output channels and lazy access to paths, configuration and the daemon.
//! Nothing here happens before a command asks: `version` and `completion` work on a broken host.

use std::sync::{Arc, Once};

use banger_proto::failure::Kind;
use banger_proto::v1::{OwnerMaterial, Vm};

use crate::client::{self, Client};
use crate::config::Config;
use crate::error::CliError;
use crate::git;
use crate::known_hosts;
use crate::paths::{Environment, Paths};
use crate::ui::Ui;

/// Which daemon is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// bangerd of this user, started on demand.
    Rootless,
    /// The systemd services.
    System,
}

impl Mode {
    /// From `--rootless` and `BANGER_MODE`; the flag wins.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an unknown mode.
    pub fn decide(rootless_flag: Option<Mode>, variable: Option<&str>) -> Result<Self, CliError> {
        match (rootless_flag, variable) {
            (Some(mode), _) => Ok(mode),
            (None, None | Some("" | "rootless")) => Ok(Self::Rootless),
            (None, Some("system")) => Ok(Self::System),
            (None, Some(other)) => {
                let message = format!("BANGER_MODE is {other:?}, which is neither \"rootless\" nor \"system\"");
                Err(CliError::usage(message).hint("Unset it with `unset BANGER_MODE`."))
            }
        }
    }
}

/// What every command is given.
pub struct Context {
    /// The output channels.
    pub ui: Arc<Ui>,
    mode: Mode,
    root_notice: Once,
}

impl Context {
    /// Looks at nothing yet.
    pub fn new(ui: Arc<Ui>, mode: Mode) -> Self {
        Self { ui, mode, root_notice: Once::new() }
    }

    /// Where files are.
    ///
    /// # Errors
    /// No home directory.
    pub fn paths(&self) -> Result<Paths, CliError> {
        Ok(Paths::resolve(&Environment::observe())?)
    }

    /// The user's configuration.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.paths()?.config_file())?)
    }

    /// The daemon, started if need be.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn client(&self) -> Result<Client, CliError> {
        self.require_rootless()?;
        client::ensure_daemon(&self.paths()?, &self.ui).await
    }

    /// The daemon, if it runs.
    ///
    /// # Errors
    /// Something is there that is not a daemon of ours.
    pub async fn running_client(&self) -> Result<Option<Client>, CliError> {
        self.require_rootless()?;
        let paths = self.paths()?;
        if !paths.runtime.exists() {
            return Ok(None);
        }
        paths.ensure_runtime()?;
        client::connect_running(&paths.socket()).await
    }

    /// What a guest gets of its owner: the public key and the git identity.
    ///
    /// # Errors
    /// The key cannot be read or made.
    pub fn owner(&self) -> Result<OwnerMaterial, CliError> {
        let paths = self.paths()?;
        paths.ensure_ssh()?;
        let key = banger_sync::ssh::ensure_identity(&paths.identity())?;
        Ok(OwnerMaterial { authorized_keys: vec![key], git_identity: git::global_identity(), files: Vec::new() })
    }

    /// Notes the VM's host key for people who use `ssh` by hand. Our own connections do not need the file, so a
    /// failure is only a warning.
    pub fn remember_host_key(&self, vm: &Vm) {
        let Some(connection) = &vm.connection else { return };
        let recorded =
            self.paths().and_then(|paths| Ok(known_hosts::record(&paths.known_hosts(), &vm.id, &connection.host_key)?));
        if let Err(CliError::Failed(failure)) = recorded {
            self.ui.warn(&failure.to_string());
        }
    }

    /// Says once, where something is about to be made, that it will be root's.
    pub fn notice_root(&self) {
        self.root_notice.call_once(|| {
            if rustix::process::getuid().is_root() {
                self.ui.status("notice: running as root: VMs, images and keys belong to root, not to your own user");
            }
        });
    }

    fn require_rootless(&self) -> Result<(), CliError> {
        match self.mode {
            Mode::Rootless => Ok(()),
            Mode::System => Err(CliError::new(Kind::HostNotReady, "system mode is not available in this version")
                .hint("Use `banger --rootless`, or unset `BANGER_MODE`.")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable() {
        assert_eq!(Mode::decide(Some(Mode::Rootless), Some("system")).unwrap(), Mode::Rootless);
        assert_eq!(Mode::decide(None, Some("system")).unwrap(), Mode::System);
        assert_eq!(Mode::decide(None, None).unwrap(), Mode::Rootless);
        assert_eq!(Mode::decide(None, Some("docker")).unwrap_err().kind(), Some(Kind::Usage));
    }
}
