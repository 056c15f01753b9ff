//! How each family of distributions installs an SSH server. Pure: what there is in, commands out.

/// One package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    /// Its program.
    pub program: &'static str,
    /// Of os-release, `ID` or in `ID_LIKE`.
    families: &'static [&'static str],
    /// Arguments of each call, in this order.
    pub calls: &'static [&'static [&'static str]],
}

/// Of one image there may be several: what its os-release says comes first, then this order.
const MANAGERS: [Manager; 7] = [
    Manager {
        program: "apt-get",
        families: &["debian", "ubuntu"],
        calls: &[&["-q", "update"], &["-qy", "--no-install-recommends", "install", "openssh-server"]],
    },
    Manager { program: "apk", families: &["alpine"], calls: &[&["add", "--no-cache", "openssh-server"]] },
    Manager {
        program: "dnf",
        families: &["fedora", "rhel", "centos"],
        calls: &[&["-y", "--setopt=install_weak_deps=False", "install", "openssh-server"]],
    },
    Manager {
        program: "microdnf",
        families: &["fedora", "rhel", "centos"],
        calls: &[&["-y", "install", "openssh-server"]],
    },
    Manager { program: "yum", families: &["rhel", "centos"], calls: &[&["-y", "install", "openssh-server"]] },
    Manager { program: "pacman", families: &["arch"], calls: &[&["-Sy", "--noconfirm", "--needed", "openssh"]] },
    Manager {
        program: "zypper",
        families: &["suse", "opensuse", "sles"],
        calls: &[&["--non-interactive", "install", "--no-recommends", "openssh-server"]],
    },
];

/// The manager to use, if the image has one.
pub fn choose(os_release: &str, exists: impl Fn(&str) -> bool) -> Option<Manager> {
    let words = families(os_release);
    let there = || MANAGERS.iter().filter(|manager| exists(manager.program));
    let own = there().find(|manager| manager.families.iter().any(|family| words.iter().any(|word| word == family)));
    own.or_else(|| there().next()).copied()
}

/// `ID` and `ID_LIKE`; openSUSE's have a suffix, as in `opensuse-leap`.
fn families(os_release: &str) -> Vec<String> {
    let values = os_release.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        matches!(key, "ID" | "ID_LIKE").then(|| value.trim_matches(['"', '\'']))
    });
    values
        .flat_map(|value| value.split_whitespace())
        .map(|word| word.split('-').next().unwrap_or(word).to_owned())
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_manager_and_its_package() {
        let told = |os_release: &str, present: &[&str]| {
            let manager = choose(os_release, |program| present.contains(&program))?;
            let last = manager.calls.last().and_then(|call| call.last()).copied()?;
            Some(format!("{} {last}", manager.program))
        };
        for (os_release, present, expected) in [
            ("ID=debian\n", &["apt-get"][..], "apt-get openssh-server"),
            ("NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", &["apt-get"], "apt-get openssh-server"),
            ("ID=alpine\n", &["apk"], "apk openssh-server"),
            ("ID=fedora\n", &["yum", "dnf"], "dnf openssh-server"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &["microdnf"], "microdnf openssh-server"),
            ("ID=\"centos\"\n", &["yum"], "yum openssh-server"),
            ("ID=manjaro\nID_LIKE=arch\n", &["pacman"], "pacman openssh"),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", &["zypper"], "zypper openssh-server"),
            // What one has installed besides does not decide; what os-release does not know is told by what is there.
            ("ID=arch\n", &["apt-get", "pacman"], "pacman openssh"),
            ("ID=wolfi\n", &["apk"], "apk openssh-server"),
        ] {
            assert_eq!(told(os_release, present).as_deref(), Some(expected), "{os_release}");
        }
        assert_eq!(told("ID=debian\n", &[]), None);
        assert_eq!(told("", &[]), None);
    }
}
