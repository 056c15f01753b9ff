//! /etc/passwd and /etc/group, read without NSS.
//!
//! Only the image's own files count: a static binary must not load the image's NSS modules. Who is meant by
//! `USER[:GROUP]` follows what container runtimes do, so that an image's User means here what it means there.

use std::path::{Path, PathBuf};

/// The fields of one account the agent needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As /etc/passwd has it; the number where it has none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Program that runs commands.
    pub shell: PathBuf,
}

impl Default for Account {
    fn default() -> Self {
        let (home, shell) = ("/root".into(), DEFAULT_SHELL.into());
        Self { name: "root".to_owned(), uid: 0, gid: 0, groups: Vec::new(), home, shell }
    }
}

impl Account {
    /// The agent's own: nothing has to change for it.
    pub fn is_root(&self) -> bool {
        self.uid == 0 && self.gid == 0
    }
}

/// Who is meant does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAccount {
    /// No user.
    #[error("there is no user {user:?} in the image's /etc/passwd")]
    User {
        /// As asked for.
        user: String,
    },
    /// No group.
    #[error("there is no group {group:?} in the image's /etc/group")]
    Group {
        /// As asked for.
        group: String,
    },
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const DEFAULT_SHELL: &str = "/bin/sh";
/// Shells that only send people away; whoever reaches a session here has shown a key for it.
const NO_SHELLS: [&str; 3] = ["nologin", "false", "sync"];

/// The account that `USER[:GROUP]` means, each a name or a number; empty means root.
///
/// # Errors
/// [`UnknownAccount`]. Numbers that no file names are taken as they are.
pub fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<Account, UnknownAccount> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "root" } else { user };
    let mut account = match (find(passwd, user), user.parse()) {
        (Some(account), _) => account,
        (None, Ok(uid)) => Account { name: user.to_owned(), uid, home: "/".into(), ..Account::default() },
        // An image may have no file at all; there is a root all the same.
        (None, Err(_)) if user == "root" => Account::default(),
        (None, Err(_)) => return Err(UnknownAccount::User { user: user.to_owned() }),
    };
    match wanted_group {
        Some(wanted) => {
            let named = groups(group).find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
            let gid = named.or_else(|| wanted.parse().ok());
            account.gid = gid.ok_or_else(|| UnknownAccount::Group { group: wanted.to_owned() })?;
        }
        None => {
            let own = |(_, gid, members): (&str, u32, &str)| {
                members.split(',').any(|member| member == account.name).then_some(gid)
            };
            account.groups = groups(group).filter_map(own).collect();
        }
    }
    Ok(account)
}

/// The account of that name or, failing that, of that number.
fn find(passwd: &str, user: &str) -> Option<Account> {
    let mut by_number = None;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { continue };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
        if *name != user && user.parse() != Ok(uid) {
            continue;
        }
        let account = Account {
            name: (*name).to_owned(),
            uid,
            gid,
            groups: Vec::new(),
            home: if home.is_empty() { "/".into() } else { home.into() },
            shell: if shell.is_empty() { DEFAULT_SHELL.into() } else { shell.into() },
        };
        if *name == user {
            return Some(account);
        }
        by_number.get_or_insert(account);
    }
    by_number
}

/// Name, number and members of every well-formed line.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields.as_slice() else { return None };
        Some((*name, gid.parse().ok()?, *members))
    })
}

/// [`resolve`] in the running system. A shell that is none, or does not exist, is replaced by /bin/sh.
///
/// # Errors
/// [`UnknownAccount`].
pub fn look_up(wanted: &str) -> Result<Account, UnknownAccount> {
    let mut account = resolve(wanted, &text(Path::new(PASSWD)), &text(Path::new(GROUP)))?;
    let name = account.shell.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if NO_SHELLS.contains(&name) || !account.shell.exists() {
        account.shell = DEFAULT_SHELL.into();
    }
    Ok(account)
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const USERS: &str = "# comment\nroot:x:0\nroot:x:zero:0::/x:/y\nroot:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/:\n\
        app:x:1000:100:App:/home/app:/bin/ash\n7:x:70:70::/seven:/bin/sh\nlow:x:7:8::/low:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nbroken\nwheel:x:10:root,app\nusers:x:100:\nvideo:x:44:app\nnone:x:x:app\n";

    fn of(wanted: &str) -> (String, u32, u32, Vec<u32>, String) {
        let account = resolve(wanted, USERS, GROUPS).unwrap();
        (account.name, account.uid, account.gid, account.groups, account.home.display().to_string())
    }

    #[test]
    fn the_account_is_found_among_malformed_lines() {
        let root = resolve("root", USERS, "").unwrap();
        assert_eq!((root.uid, root.shell.to_str()), (0, Some("/bin/bash")));
        assert_eq!(resolve("bin", USERS, "").unwrap().shell, Path::new("/bin/sh"));
        assert_eq!(resolve("", USERS, "").unwrap(), root, "no user is root");
        assert_eq!(resolve("root", "", "").unwrap(), Account::default(), "not even a file is needed for it");
    }

    #[test]
    fn names_and_numbers_mean_what_they_mean_to_container_runtimes() {
        assert_eq!(of("app"), ("app".into(), 1000, 100, vec![10, 44], "/home/app".into()));
        assert_eq!(of("1000"), of("app"));
        assert_eq!(of("app:wheel"), ("app".into(), 1000, 10, vec![], "/home/app".into()));
        assert_eq!(of("app:5"), ("app".into(), 1000, 5, vec![], "/home/app".into()));
        assert_eq!(of("4711"), ("4711".into(), 4711, 0, vec![], "/".into()), "nobody's number has root's group");
        assert_eq!(of("4711:4712").2, 4712);
        assert_eq!(of("7").1, 70, "a name that looks like a number comes first");
        assert_eq!(of(":wheel"), ("root".into(), 0, 10, vec![], "/root".into()));
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let unknown = |wanted| resolve(wanted, USERS, GROUPS).unwrap_err().to_string();
        assert_eq!(unknown("ghost"), "there is no user \"ghost\" in the image's /etc/passwd");
        assert_eq!(unknown("app:ghosts"), "there is no group \"ghosts\" in the image's /etc/group");
        assert_eq!(unknown("-1"), "there is no user \"-1\" in the image's /etc/passwd");
    }
}
