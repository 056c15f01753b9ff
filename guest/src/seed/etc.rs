//! Name and resolver in /etc.

use std::io;

use rustix::fs::FileType;

use crate::tree::Tree;

const MARK: &str = "# written by banger";
const OWN_ADDRESS: &str = "127.0.1.1";

/// /etc/hostname and the kernel's idea of it.
///
/// # Errors
/// What the filesystem says.
pub fn write_hostname(image: &Tree, name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        rustix::system::sethostname(name.as_bytes())?;
    }
    image.write("etc/hostname", 0o644, format!("{name}\n").as_bytes()).map(drop)
}

/// The line for our own name in /etc/hosts; other lines stay.
///
/// # Errors
/// What the filesystem says.
pub fn write_hosts(image: &Tree, name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let held = image.read("etc/hosts")?.unwrap_or_default();
    let text = render_hosts(&String::from_utf8_lossy(&held), name);
    image.write("etc/hosts", 0o644, text.as_bytes()).map(drop)
}

fn render_hosts(held: &str, name: &str) -> String {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let mut lines: Vec<String> =
        held.lines().filter(|line| first(line).as_deref() != Some(OWN_ADDRESS)).map(str::to_owned).collect();
    let has_localhost = lines.iter().any(|line| first(line).as_deref() == Some("127.0.0.1"));
    if !has_localhost {
        lines.insert(0, "127.0.0.1\tlocalhost".to_owned());
        lines.insert(1, "::1\tlocalhost ip6-localhost ip6-loopback".to_owned());
    }
    lines.push(format!("{OWN_ADDRESS}\t{name}"));
    lines.join("\n") + "\n"
}

/// Whether this VM has run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// What is in the root came with the image.
    First,
    /// What is in the root may be the user's.
    Later,
}

/// /etc/resolv.conf, unless a resolver of the image or the user has made one that can work.
///
/// # Errors
/// What the filesystem says.
pub fn write_resolver(image: &Tree, nameservers: &[String], boot: Boot) -> io::Result<()> {
    if nameservers.is_empty() || !is_ours_to_write(image, boot)? {
        return Ok(());
    }
    let mut text = format!("{MARK}\n");
    for server in nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    image.write("etc/resolv.conf", 0o644, text.as_bytes()).map(drop)
}

/// A link to a file that exists is a resolver's; a dangling one (into the old /run) is nobody's. A file
/// in a fresh image names the resolver of the machine that built it.
fn is_ours_to_write(image: &Tree, boot: Boot) -> io::Result<bool> {
    Ok(match image.kind("etc/resolv.conf") {
        None => true,
        Some(FileType::Symlink) => !image.exists("etc/resolv.conf"),
        Some(_) if boot == Boot::First => true,
        Some(_) => {
            let held = image.read("etc/resolv.conf")?.unwrap_or_default();
            let held = String::from_utf8_lossy(&held);
            held.starts_with(MARK) || !held.lines().any(|line| line.trim_start().starts_with("nameserver"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_line_of_the_hosts_file_changes() {
        let held = "127.0.0.1 localhost\n# kept\n127.0.1.1 old\n10.0.0.1 other\n";
        let expected = "127.0.0.1 localhost\n# kept\n10.0.0.1 other\n127.0.1.1\tnew\n";
        assert_eq!(render_hosts(held, "new"), expected);
        assert_eq!(render_hosts(expected, "new"), expected);
        assert!(render_hosts("", "new").starts_with("127.0.0.1\tlocalhost\n"));
    }
}
