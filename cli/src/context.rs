//! What every command is given: the output channels and lazy access to paths, configuration and the daemon.
//! Nothing here happens before a command asks: `version` and `completion` work on a broken host.

use std::sync::{Arc, Once};

use banger_proto::install::Install;
use banger_proto::roots::Environment;
use banger_proto::v1::{OwnerMaterial, Vm};

use crate::client::installed::refuse_unless_owner;
use crate::client::{self, Client};
use crate::config::Config;
use crate::error::CliError;
use crate::git;
use crate::known_hosts;
use crate::mode::{Mode, Wish};
use crate::paths::Paths;
use crate::ui::Ui;

/// What every command is given.
pub struct Context {
    /// The output channels.
    pub ui: Arc<Ui>,
    wish: Wish,
    root_notice: Once,
}

impl Context {
    /// Looks at nothing yet.
    pub fn new(ui: Arc<Ui>, wish: Wish) -> Self {
        Self { ui, wish, root_notice: Once::new() }
    }

    /// Which daemon is used.
    ///
    /// # Errors
    /// The metadata of an installation cannot be used.
    pub fn mode(&self) -> Result<Mode, CliError> {
        Mode::decide(self.wish, Install::load)
    }

    /// True if this user's own daemon was asked for in so many words.
    pub fn is_rootless_wished(&self) -> bool {
        self.wish == Wish::Rootless
    }

    /// Where files of this user are; keys and known hosts lie there in both modes.
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
        let environment = Environment::observe();
        Ok(Config::load(&Paths::resolve(&environment)?.config_file(), environment.home.as_deref())?)
    }

    /// The daemon: this user's own is started if need be, the installed one never.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn client(&self) -> Result<Client, CliError> {
        match self.mode()? {
            Mode::Rootless => client::ensure_daemon(&self.paths()?, &self.ui).await,
            Mode::System(install) => {
                refuse_unless_owner(&install)?;
                let client = client::installed::require(&install).await?;
                if let Some(warning) = client::installed::differs(client.daemon()) {
                    self.ui.warn(&warning);
                }
                Ok(client)
            }
        }
    }

    /// The daemon, if it runs.
    ///
    /// # Errors
    /// Something is there that is not a daemon of ours.
    pub async fn running_client(&self) -> Result<Option<Client>, CliError> {
        match self.mode()? {
            Mode::Rootless => {
                let paths = self.paths()?;
                if !paths.runtime.exists() {
                    return Ok(None);
                }
                paths.ensure_runtime()?;
                client::connect_running(&paths.socket()).await
            }
            Mode::System(install) => client::installed::find(&install).await,
        }
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
}
