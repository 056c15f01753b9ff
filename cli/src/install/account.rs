//! Accounts of this host, from its own database (files, LDAP, whatever NSS asks).

use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::Owner;

use super::host::Host;

/// Why somebody cannot own the installation.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody has this name.
    #[error("there is no user {name:?} on this host")]
    Unknown {
        /// The name.
        name: String,
    },
    /// VMs that belong to root would be no protection.
    #[error("{name} cannot own the VMs: it is root")]
    IsRoot {
        /// The name.
        name: String,
    },
    /// The database says something that is no account.
    #[error("the account database has no usable line for {name:?}: {line:?}")]
    Malformed {
        /// The name.
        name: String,
        /// What it says.
        line: String,
    },
}

impl Classified for AccountError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::IsRoot { .. } => Kind::Refused,
            Self::Malformed { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } => vec!["See the accounts there are with `getent passwd`.".into()],
            Self::IsRoot { .. } => {
                vec!["Name the ordinary user who will use banger: `sudo banger system install --owner USER`.".into()]
            }
            Self::Malformed { name, .. } => vec![format!("Look at it with `getent passwd {name}`.")],
        }
    }
}

/// The account of this name, if it can own VMs.
///
/// # Errors
/// [`AccountError`].
pub fn find(host: &Host, name: &str) -> Result<Owner, AccountError> {
    let unknown = || AccountError::Unknown { name: name.to_owned() };
    // A name that begins with a dash would be an option; a number would find a uid.
    if name.starts_with('-') || name.parse::<u32>().is_ok() {
        return Err(unknown());
    }
    let text = host.ask("getent", &["passwd", "--", name]).map_err(|_| unknown())?;
    let owner = parse(name, text.trim_end())?;
    if owner.uid == 0 || owner.gid == 0 {
        return Err(AccountError::IsRoot { name: name.to_owned() });
    }
    Ok(owner)
}

/// Name of the group with this id, for units; the number itself if it has none.
pub fn group_name(host: &Host, gid: u32) -> String {
    let line = host.ask("getent", &["group", &gid.to_string()]).unwrap_or_default();
    line.split(':').next().filter(|name| !name.is_empty()).map_or_else(|| gid.to_string(), str::to_owned)
}

fn parse(name: &str, line: &str) -> Result<Owner, AccountError> {
    let fields: Vec<&str> = line.split(':').collect();
    let malformed = || AccountError::Malformed { name: name.to_owned(), line: line.to_owned() };
    let [found, _, uid, gid, _, home, _] = fields[..] else { return Err(malformed()) };
    let home = PathBuf::from(home);
    if found != name || !home.is_absolute() {
        return Err(malformed());
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| malformed());
    Ok(Owner { name: name.to_owned(), uid: number(uid)?, gid: number(gid)?, home })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_line_of_seven_fields() {
        let owner = parse("dev", "dev:x:1000:1001:Dev Eloper,,,:/home/dev:/bin/bash").unwrap();
        assert_eq!((owner.uid, owner.gid, owner.home), (1000, 1001, "/home/dev".into()));
        for line in
            ["", "dev", "dev:x:a:1001:::", "other:x:1000:1001::/home/dev:/bin/sh", "dev:x:1:1::relative:/bin/sh"]
        {
            assert!(matches!(parse("dev", line), Err(AccountError::Malformed { .. })), "{line}");
        }
    }

    #[test]
    fn root_and_nobody_at_all_cannot_own_vms() {
        let host = Host::this();
        assert!(matches!(find(&host, "root"), Err(AccountError::IsRoot { .. })));
        for name in ["no-such-user-here", "-x", "0", ""] {
            assert!(matches!(find(&host, name), Err(AccountError::Unknown { .. })), "{name}");
        }
    }
}
