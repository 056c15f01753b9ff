//! Our own ed25519 key, made on first use.
//!
//! Two processes may race for it: whoever links the finished file into place first wins, and both then use
//! that one. An existing key is never replaced.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{self, LineEnding, PrivateKey};

const COMMENT: &str = "banger";

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is there is not a key we can use.
    #[error("{} is not an unencrypted OpenSSH private key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ssh_key::Error,
    },
    /// The system gives no random numbers, or the key cannot be written as text.
    #[error("cannot make an ed25519 key")]
    Generate {
        /// Why not.
        source: ssh_key::Error,
    },
}

impl Classified for IdentityError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } | Self::NotAKey { .. } => Kind::HostNotReady,
            Self::Generate { .. } => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotAKey { path, .. } => {
                vec![format!("Move it away with `mv {0} {0}.old`; a new key is made on the next run.", path.display())]
            }
            Self::Io { .. } | Self::Generate { .. } => Vec::new(),
        }
    }
}

/// Makes the key at `path` (0600, its directory 0700) and `path`.pub unless they are there; returns the
/// public key line.
///
/// # Errors
/// [`IdentityError`].
pub fn ensure_identity(path: &Path) -> Result<String, IdentityError> {
    let io = |action, at: &Path| {
        let path = at.to_owned();
        move |source| IdentityError::Io { action, path, source }
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io("create", directory))?;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = generate()?;
            match publish_new(path, text.as_bytes(), 0o600) {
                Ok(()) => text,
                // Another process was faster; its key is the key.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::read_to_string(path).map_err(io("read", path))?
                }
                Err(source) => return Err(io("write", path)(source)),
            }
        }
        Err(source) => return Err(io("read", path)(source)),
    };
    let key =
        PrivateKey::from_openssh(&text).map_err(|source| IdentityError::NotAKey { path: path.to_owned(), source })?;
    let mut public = key.public_key().clone();
    public.set_comment(COMMENT);
    let line = public.to_openssh().map_err(|source| IdentityError::Generate { source })?;
    let public_path = with_suffix(path, ".pub");
    if !public_path.exists() {
        match publish_new(&public_path, format!("{line}\n").as_bytes(), 0o644) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("write", &public_path)(error)),
            _ => {}
        }
    }
    Ok(line)
}

fn generate() -> Result<String, IdentityError> {
    let failed = |source| IdentityError::Generate { source };
    let mut seed = [0_u8; 32];
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|_| failed(ssh_key::Error::Crypto))?;
    }
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(COMMENT);
    Ok(key.to_openssh(LineEnding::LF).map_err(failed)?.to_string())
}

/// Writes the whole content under a private name and links it to `path`; fails if `path` exists.
fn publish_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".banger-key-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_private_and_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys/id_ed25519");
        let line = ensure_identity(&path).unwrap();
        assert!(line.starts_with("ssh-ed25519 "));
        assert_eq!(ensure_identity(&path).unwrap(), line);
        assert_eq!(fs::read_to_string(home.path().join("keys/id_ed25519.pub")).unwrap().trim(), line);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(home.path().join("keys")).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_file(home.path().join("keys/id_ed25519.pub")).unwrap();
        assert_eq!(ensure_identity(&path).unwrap(), line);
        assert!(home.path().join("keys/id_ed25519.pub").exists());
    }

    #[test]
    fn racing_callers_agree_on_one_key() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("id");
        let lines: Vec<String> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| ensure_identity(&path).unwrap())).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert!(lines.iter().all(|line| *line == lines[0]));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }

    #[test]
    fn something_that_is_no_key_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("id");
        fs::write(&path, "hello").unwrap();
        assert!(matches!(ensure_identity(&path), Err(IdentityError::NotAKey { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    }
}
