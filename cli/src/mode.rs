//! Which daemon is used: this user's own, or the one that an administrator installed.
//!
//! ```text
//! --rootless                          rootless
//! BANGER_MODE=rootless | system       that one
//! /etc/banger/install.toml is there   system
//! else                                rootless
//! ```
//! [`Wish`] is what was asked for, pure; [`Mode`] what it means on this host. Never talks to a daemon.

use banger_proto::failure::Kind;
use banger_proto::install::{Install, InstallError};

use crate::error::CliError;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Whatever the host has.
    Either,
    /// bangerd of this user, started on demand.
    Rootless,
    /// The systemd services.
    System,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// bangerd of this user, started on demand.
    Rootless,
    /// The systemd services, as they were installed.
    System(Box<Install>),
}

impl Wish {
    /// From `--rootless` and `BANGER_MODE`; the flag wins.
    ///
    /// # Errors
    /// [`Kind::Usage`] for an unknown mode.
    pub fn parse(flag: Option<Self>, variable: Option<&str>) -> Result<Self, CliError> {
        match (flag, variable) {
            (Some(wish), _) => Ok(wish),
            (None, None | Some("")) => Ok(Self::Either),
            (None, Some("rootless")) => Ok(Self::Rootless),
            (None, Some("system")) => Ok(Self::System),
            (None, Some(other)) => {
                let message = format!("BANGER_MODE is {other:?}, which is neither \"rootless\" nor \"system\"");
                Err(CliError::usage(message).hint("Unset it with `unset BANGER_MODE`."))
            }
        }
    }
}

impl Mode {
    /// What the wish means where `load` says what is installed; it is not asked if that does not matter.
    ///
    /// # Errors
    /// The metadata cannot be used, or there is none and the system mode is wished for.
    pub fn decide(wish: Wish, load: impl FnOnce() -> Result<Option<Install>, InstallError>) -> Result<Self, CliError> {
        if wish == Wish::Rootless {
            return Ok(Self::Rootless);
        }
        let loaded = load().map_err(|error| {
            CliError::from(error).hint("Use VMs of your own meanwhile with `banger --rootless …`.".to_owned())
        })?;
        match (loaded, wish) {
            (Some(install), _) => Ok(Self::System(Box::new(install))),
            (None, Wish::System) => Err(CliError::new(Kind::HostNotReady, "banger is not installed on this host")
                .hint("Install it with `sudo banger system install --owner USER`, or use `banger --rootless`.")),
            (None, Wish::Either | Wish::Rootless) => Ok(Self::Rootless),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn install() -> Install {
        let text = "[owner]\nname = \"dev\"\nuid = 1000\ngid = 1000\nhome = \"/home/dev\"\n\
                    [build]\nversion = \"1\"\ncommit = \"c\"\ninstalled_unix_s = 1\nupdated_unix_s = 2\n\
                    [network]\nbridge = \"br-fc\"\nsubnet = \"172.16.0.0/24\"\n";
        Install::parse(text, Path::new("install.toml")).unwrap()
    }

    #[test]
    fn the_flag_wins_over_the_variable() {
        assert_eq!(Wish::parse(Some(Wish::Rootless), Some("system")).unwrap(), Wish::Rootless);
        assert_eq!(Wish::parse(None, Some("system")).unwrap(), Wish::System);
        assert_eq!(Wish::parse(None, Some("")).unwrap(), Wish::Either);
        assert_eq!(Wish::parse(None, None).unwrap(), Wish::Either);
        assert_eq!(Wish::parse(None, Some("docker")).unwrap_err().kind(), Some(Kind::Usage));
    }

    #[test]
    fn an_installation_is_used_unless_the_own_daemon_is_wished_for() {
        let found = || Ok(Some(install()));
        assert_eq!(Mode::decide(Wish::Either, found).unwrap(), Mode::System(Box::new(install())));
        assert_eq!(Mode::decide(Wish::Either, || Ok(None)).unwrap(), Mode::Rootless);
        let never = || panic!("nobody needs to know");
        assert_eq!(Mode::decide(Wish::Rootless, never).unwrap(), Mode::Rootless);
        let missing = Mode::decide(Wish::System, || Ok(None)).unwrap_err();
        assert_eq!(missing.kind(), Some(Kind::HostNotReady));
    }

    #[test]
    fn metadata_that_cannot_be_used_is_an_error_with_a_way_around_it() {
        let broken = || Install::parse("x", Path::new("/etc/x")).map(Some);
        let CliError::Failed(failure) = Mode::decide(Wish::Either, broken).unwrap_err() else { panic!("a failure") };
        assert!(failure.hints.iter().any(|hint| hint.contains("--rootless")), "{failure:?}");
    }
}
