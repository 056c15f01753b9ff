//! /etc/passwd, read without NSS.
//!
//! Only the image's own file counts: a static binary must not load the image's NSS modules.

use std::path::PathBuf;

/// The fields of one account the agent needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

impl Default for Account {
    fn default() -> Self {
        Self { home: "/root".into(), shell: "/bin/sh".into() }
    }
}

/// The account called `name`, or `None` if no well-formed line names it.
pub fn parse_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        (*user == name && uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok()).then(|| Account {
            home: if home.is_empty() { "/".into() } else { home.into() },
            shell: if shell.is_empty() { "/bin/sh".into() } else { shell.into() },
        })
    })
}

/// Root's account; a shell that does not exist is replaced by /bin/sh, as is a missing file.
pub fn root() -> Account {
    let text = std::fs::read("/etc/passwd").unwrap_or_default();
    let mut account = parse_account(&String::from_utf8_lossy(&text), "root").unwrap_or_default();
    if !account.shell.exists() {
        account.shell = "/bin/sh".into();
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_among_malformed_lines() {
        let text = "# comment\nroot:x:0\nroot:x:zero:0::/x:/y\nroot:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/:\n";
        let root = Account { home: "/root".into(), shell: "/bin/bash".into() };
        assert_eq!(parse_account(text, "root"), Some(root));
        assert_eq!(parse_account(text, "bin"), Some(Account { home: "/".into(), shell: "/bin/sh".into() }));
        assert_eq!(parse_account(text, "roo"), None);
    }
}
