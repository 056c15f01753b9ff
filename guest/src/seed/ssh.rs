//! Keys: who may log in, and who the guest is.

use std::io;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;

use crate::tree::Tree;

/// First in the directory, as sshd keeps the first value it sees. The host key is named so that
/// keys baked into the image, which its other users also know, are not offered.
const SERVER_SETTINGS: &str = "# written by banger
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
UseDNS no
";

/// Lets the seed's keys in and keeps the ones that are there.
///
/// # Errors
/// What the filesystem says.
pub fn write_authorized_keys(home: &Tree, keys: &[String]) -> io::Result<()> {
    home.ensure_directory(".ssh", 0o700)?;
    let held = home.read(".ssh/authorized_keys")?.unwrap_or_default();
    let text = render_authorized_keys(&String::from_utf8_lossy(&held), keys);
    home.write(".ssh/authorized_keys", 0o600, text.as_bytes()).map(drop)
}

fn render_authorized_keys(held: &str, keys: &[String]) -> String {
    let mut text = held.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for key in keys.iter().map(|key| key.trim()).filter(|key| !key.is_empty() && !key.contains('\n')) {
        if !text.lines().any(|line| line.trim() == key) {
            text.push_str(key);
            text.push('\n');
        }
    }
    text
}

/// The host key and the settings of the image's own sshd.
///
/// # Errors
/// What the filesystem says, or that the key is not one.
pub fn write_server(image: &Tree, host_key: &str) -> io::Result<()> {
    let parsed = PrivateKey::from_openssh(host_key).map_err(io::Error::other)?;
    let public = parsed.public_key().to_openssh().map_err(io::Error::other)?;
    // Rendered again, as sshd insists on the final line break that a careless writer may have lost.
    let private = parsed.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    image.write("etc/ssh/ssh_host_ed25519_key", 0o600, private.as_bytes())?;
    image.write("etc/ssh/ssh_host_ed25519_key.pub", 0o644, format!("{public}\n").as_bytes())?;
    if image.exists("etc/ssh/sshd_config.d") {
        image.write("etc/ssh/sshd_config.d/00-banger.conf", 0o644, SERVER_SETTINGS.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_once_and_others_are_kept() {
        let keys = ["ssh-ed25519 AAAA host".to_owned(), "ssh-ed25519 BBBB\nssh-ed25519 smuggled".to_owned()];
        let text = render_authorized_keys("ssh-rsa mine", &keys);
        assert_eq!(text, "ssh-rsa mine\nssh-ed25519 AAAA host\n");
        assert_eq!(render_authorized_keys(&text, &keys), text);
    }
}
