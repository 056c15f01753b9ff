//! The files of a kernel that a user has: what `kernel import` and `image register` take.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::upload::{self, Sent};
use crate::error::CliError;

/// A kernel's files.
#[derive(Debug, Args)]
pub struct KernelFiles {
    /// The kernel: bzImage or vmlinux
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Its initrd, to take the modules from; it is not booted itself
    #[arg(long, value_name = "FILE", requires = "kernel", conflicts_with = "modules")]
    pub initrd: Option<PathBuf>,
    /// Its modules, with the files that depmod makes
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// What `uname -r` says of it; taken from the name of the modules' directory, or from the initrd
    #[arg(long, value_name = "RELEASE", requires = "kernel")]
    pub release: Option<String>,
}

impl KernelFiles {
    /// What `uname -r` says of it; empty if the initrd knows.
    ///
    /// # Errors
    /// If nobody knows.
    pub fn release(&self) -> Result<String, CliError> {
        let named = self.modules.as_deref().and_then(Path::file_name);
        match (&self.release, named, &self.initrd) {
            (Some(release), ..) => Ok(release.clone()),
            (None, Some(name), _) => Ok(name.to_string_lossy().into_owned()),
            (None, None, Some(_)) => Ok(String::new()),
            (None, None, None) => {
                Err(CliError::usage("a kernel without modules needs its release").hint("Give it with `--release`."))
            }
        }
    }

    /// The files as the daemon calls them.
    ///
    /// # Errors
    /// If the modules cannot be listed.
    pub fn sent(&self, kernel: &Path) -> Result<Vec<Sent>, CliError> {
        let mut files = vec![Sent { path: kernel.to_owned(), name: "kernel".to_owned() }];
        if let Some(initrd) = &self.initrd {
            files.push(Sent { path: initrd.clone(), name: "initrd".to_owned() });
        }
        if let Some(modules) = &self.modules {
            files.extend(upload::tree(modules, "modules")?);
        }
        Ok(files)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_what_is_given_else_the_directorys_else_the_initrds() {
        let files = |release: Option<&str>, modules: Option<&str>, initrd: Option<&str>| KernelFiles {
            kernel: Some("k".into()),
            initrd: initrd.map(Into::into),
            modules: modules.map(Into::into),
            release: release.map(Into::into),
        };
        assert_eq!(files(Some("6.1"), Some("/lib/modules/6.2"), None).release().unwrap(), "6.1");
        assert_eq!(files(None, Some("/lib/modules/6.2"), None).release().unwrap(), "6.2");
        assert_eq!(files(None, None, Some("initrd.img")).release().unwrap(), "");
        assert!(files(None, None, None).release().is_err());
    }
}
