//! What an image is, learned from its entries while they stream by. Pure.

use std::collections::BTreeMap;

use crate::artifact::tarball::Seen;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    /// The init to run as PID 1, if there is one.
    pub init_path: Option<String>,
    /// "systemd", "busybox", "openrc", "other" or "none".
    pub init: String,
    /// An OpenSSH server is installed.
    pub has_sshd: bool,
    /// PRETTY_NAME of os-release.
    pub os_pretty_name: String,
}

/// Collects what [`Facts::conclude`] needs: programs and links in a few directories, os-release.
#[derive(Debug, Default)]
pub struct Facts {
    /// Normalised path → link target, or none for a program.
    programs: BTreeMap<String, Option<String>>,
    os_release: Option<String>,
}

impl Facts {
    /// Takes note of one entry. A later entry of the same path wins, as in the archive.
    pub fn observe(&mut self, seen: &Seen<'_>) {
        let Ok(path) = std::str::from_utf8(seen.path) else { return };
        if let ("usr/lib/os-release" | "etc/os-release", Some(content)) = (path, seen.content)
            && seen.target.is_none()
        {
            self.os_release = Some(String::from_utf8_lossy(content).into_owned());
        }
        let path = merged(path);
        if path != "usr/sbin/init" && path != "usr/sbin/sshd" {
            return;
        }
        if let Some(target) = seen.target {
            self.programs.insert(path, Some(String::from_utf8_lossy(target).into_owned()));
        } else if seen.executable && seen.content.is_none_or(|content| !content.is_empty()) {
            self.programs.insert(path, None);
        }
    }

    /// The result.
    pub fn conclude(&self) -> Inspected {
        let init = self.programs.get("usr/sbin/init");
        Inspected {
            init_path: init.map(|_| "/sbin/init".to_owned()),
            init: match init {
                None => "none",
                Some(None) => "other",
                Some(Some(target)) => match target.rsplit('/').next() {
                    Some("systemd") => "systemd",
                    Some("busybox") => "busybox",
                    Some("openrc-init") => "openrc",
                    _ => "other",
                },
            }
            .to_owned(),
            has_sshd: self.programs.contains_key("usr/sbin/sshd"),
            os_pretty_name: self.os_release.as_deref().and_then(pretty_name).unwrap_or_default(),
        }
    }
}

/// `sbin/x` and `usr/sbin/x` are one directory on merged systems and never differ on others.
fn merged(path: &str) -> String {
    if path.starts_with("sbin/") { format!("usr/{path}") } else { path.to_owned() }
}

/// The value of PRETTY_NAME, unquoted (os-release(5)).
pub(super) fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?.trim();
    let bare = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .or_else(|| value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')))
        .unwrap_or(value);
    Some(bare.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link<'a>(path: &'a str, target: &'a str) -> Seen<'a> {
        Seen { path: path.as_bytes(), target: Some(target.as_bytes()), content: None, executable: true }
    }

    fn file<'a>(path: &'a str, content: &'a str) -> Seen<'a> {
        Seen { path: path.as_bytes(), target: None, content: Some(content.as_bytes()), executable: true }
    }

    fn inspect(entries: &[Seen<'_>]) -> Inspected {
        let mut facts = Facts::default();
        entries.iter().for_each(|seen| facts.observe(seen));
        facts.conclude()
    }

    #[test]
    fn a_debian_with_systemd_and_sshd_is_recognised() {
        let found = inspect(&[
            link("sbin", "usr/sbin"),
            link("usr/sbin/init", "/lib/systemd/systemd"),
            file("usr/sbin/sshd", "ELF"),
            link("etc/os-release", "../usr/lib/os-release"),
            file("usr/lib/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        ]);
        assert_eq!(
            found,
            Inspected {
                init_path: Some("/sbin/init".to_owned()),
                init: "systemd".to_owned(),
                has_sshd: true,
                os_pretty_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            }
        );
    }

    #[test]
    fn an_alpine_without_merged_usr_is_recognised() {
        let found = inspect(&[link("sbin/init", "/bin/busybox"), file("etc/os-release", "PRETTY_NAME='Alpine'\n")]);
        assert_eq!((found.init.as_str(), found.has_sshd, found.os_pretty_name.as_str()), ("busybox", false, "Alpine"));
    }

    #[test]
    fn an_image_without_init_says_none() {
        let found = inspect(&[file("usr/bin/app", "ELF")]);
        assert_eq!((found.init_path, found.init.as_str()), (None, "none"));
    }
}
