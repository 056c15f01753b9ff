//! The SSH identity of a VM: made here before its first boot, so that nobody has to trust on first use.

use banger_proto::failure::{Classified, Kind};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::record::HostKey;

/// No key could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an SSH host key")]
pub struct HostKeyError {
    /// The cause.
    #[from]
    source: ssh_key::Error,
}

impl Classified for HostKeyError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// A fresh ed25519 pair, with `comment` in the public line.
///
/// # Errors
/// [`HostKeyError`].
pub fn make_host_key(comment: &str) -> Result<HostKey, HostKeyError> {
    let mut private = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
    private.set_comment(comment);
    Ok(HostKey { private: private.to_openssh(LineEnding::LF)?.to_string(), public: private.public_key().to_openssh()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_belong_together_and_are_one_of_a_kind() {
        let key = make_host_key("box").unwrap();
        let private = PrivateKey::from_openssh(&key.private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), key.public);
        assert!(key.public.starts_with("ssh-ed25519 ") && key.public.ends_with(" box"), "{}", key.public);
        assert_ne!(make_host_key("box").unwrap().public, key.public);
    }

    #[test]
    fn the_private_half_is_not_in_debug_output() {
        let key = make_host_key("box").unwrap();
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
