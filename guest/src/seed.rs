//! The seed: what one VM is told at power-on, and writing it into its root.
//!
//! Each step stands alone; one that fails (a full disk) does not keep the others from happening,
//! because what decides whether the guest can be used is mostly on another disk.

pub mod etc;
pub mod home;
pub mod ssh;
pub mod units;

use std::io;
use std::path::Path;

use banger_proto::guest::v1::Seed;
use prost::Message;

use self::etc::Boot;
use self::home::Skeleton;
use crate::passwd;
use crate::tree::{Links, Tree};

/// Newest seed this guest understands.
const VERSION: u32 = 1;

/// Why bytes are not a usable seed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSeed {
    /// Not the message.
    #[error("the seed is not a valid message")]
    Message {
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// Written by a newer host.
    #[error("the seed has version {found}, this guest understands up to {VERSION}")]
    Version {
        /// The seed's.
        found: u32,
    },
}

/// Decodes and checks.
///
/// # Errors
/// [`InvalidSeed`].
pub fn parse(bytes: &[u8]) -> Result<Seed, InvalidSeed> {
    let seed = Seed::decode(bytes).map_err(|source| InvalidSeed::Message { source })?;
    if seed.version > VERSION {
        return Err(InvalidSeed::Version { found: seed.version });
    }
    Ok(seed)
}

/// How the steps went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The first step that failed.
    pub failure: Option<String>,
    /// The other ones.
    pub warnings: Vec<String>,
}

impl Applied {
    fn step(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            let text = format!("cannot write {what}: {error}");
            match self.failure {
                None => self.failure = Some(text),
                Some(_) => self.warnings.push(text),
            }
        }
    }
}

/// Writes the seed into the root at `root`, whose /root and /run are mounted.
pub fn apply(root: &Path, seed: &Seed, skeleton: &Skeleton) -> Applied {
    let mut applied = Applied::default();
    let (image, home) = match (Tree::open(root, Links::InRoot), open_home(root)) {
        (Ok(image), Ok(home)) => (image, home),
        (Err(error), _) | (_, Err(error)) => {
            applied.step("into the root", Err(error));
            return applied;
        }
    };
    let boot = if home::is_empty(&home) { Boot::First } else { Boot::Later };
    // What lies on the work disk comes first: it is what makes the guest usable.
    applied.step("the home directory", home::prepare(&home, skeleton, home_mode(&image, &seed.user)));
    applied.step("/root/.ssh/authorized_keys", ssh::write_authorized_keys(&home, &seed.authorized_keys));
    applied.step("/root/.gitconfig", home::write_git_identity(&home, &seed.git_name, &seed.git_email));
    for file in &seed.files {
        let name = String::from_utf8_lossy(&file.path).into_owned();
        applied.step(&format!("/root/{name}"), home::write_file(&home, file));
    }
    applied.step("/etc/hostname", etc::write_hostname(&image, &seed.hostname));
    applied.step("/etc/hosts", etc::write_hosts(&image, &seed.hostname));
    let nameservers = seed.network.as_ref().map_or(&[][..], |network| &network.nameservers);
    applied.step("/etc/resolv.conf", etc::write_resolver(&image, nameservers, boot));
    if seed.image_has_sshd {
        applied.step("/etc/ssh", ssh::write_server(&image, &seed.ssh_host_key));
    }
    if units::image_has_systemd(&image) {
        applied.step("/run/systemd/system", units::write(&image));
    }
    applied
}

/// Root's home holds the workspace: whoever the sessions are must get through, but not look around.
fn home_mode(image: &Tree, user: &str) -> u32 {
    let text = |path| String::from_utf8_lossy(&image.read(path).ok().flatten().unwrap_or_default()).into_owned();
    match passwd::resolve(user, &text("etc/passwd"), &text("etc/group")) {
        Ok(account) if account.uid != 0 => 0o711,
        _ => 0o700,
    }
}

fn open_home(root: &Path) -> io::Result<Tree> {
    // The image may have replaced /root by a link; resolve it inside the image.
    let image = Tree::open(root, Links::InRoot)?;
    Tree::from_directory(image.ensure_open_directory("root", 0o700)?, Links::Refused)
}

#[cfg(test)]
mod tests;
