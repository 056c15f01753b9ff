//! What a session's environment is made of, and what a client may add to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use banger_proto::guest_contract::SESSION_USER_VARIABLE;

use crate::passwd::Account;

/// Where programs are looked for unless the image says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// True for variables a client may set: they change how output looks, or are banger's own.
pub fn is_accepted(name: &str) -> bool {
    matches!(name, "LANG" | "TERM" | "COLORTERM" | "NO_COLOR") || name.starts_with("LC_") || name.starts_with("BANGER_")
}

/// The whole environment: account, then image, then client; the later wins.
pub fn compose(account: &Account, image: &[String], client: &[(String, String)]) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("HOME".into(), account.home.clone().into()),
        ("USER".into(), account.name.clone().into()),
        ("LOGNAME".into(), account.name.clone().into()),
        ("SHELL".into(), account.shell.clone().into()),
        ("PATH".into(), DEFAULT_PATH.into()),
    ];
    let image = image.iter().filter_map(|line| line.split_once('='));
    let client = client.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let usable =
        |(name, value): &(&str, &str)| !name.is_empty() && *name != SESSION_USER_VARIABLE && !value.contains('\0');
    for (name, value) in image.chain(client).filter(usable) {
        variables.retain(|(held, _)| held != name);
        variables.push((name.into(), value.into()));
    }
    variables
}

/// The shell of a session: the account's, or, in an image that has it elsewhere (distroless ones do), what the
/// image's own PATH finds.
pub fn shell(wanted: &Path, image: &[String]) -> PathBuf {
    if wanted.exists() {
        return wanted.to_owned();
    }
    let path = image.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let found = path.split(':').map(|directory| Path::new(directory).join("sh")).find(|shell| shell.is_file());
    found.unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_is_not_there_is_looked_for_on_the_images_path() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("sh");
        std::fs::write(&own, "").unwrap();
        let image = [format!("PATH=/nowhere:{}", directory.path().display())];
        assert_eq!(shell(Path::new("/bin/sh"), &image), Path::new("/bin/sh"));
        assert_eq!(shell(Path::new("/no/such/sh"), &image), own);
        assert_eq!(shell(Path::new("/no/such/sh"), &["PATH=/nowhere".to_owned()]), Path::new("/no/such/sh"));
    }

    #[test]
    fn the_client_wins_over_the_image_and_the_image_over_the_default() {
        let image = ["PATH=/opt/bin:/bin".to_owned(), "LANG=C".to_owned(), "broken".to_owned()];
        let made = compose(&Account::default(), &image, &[("LANG".into(), "C.UTF-8".into())]);
        let value = |name: &str| made.iter().find(|(held, _)| held == name).map(|(_, value)| value.clone());
        assert_eq!(value("PATH"), Some("/opt/bin:/bin".into()));
        assert_eq!(value("LANG"), Some("C.UTF-8".into()));
        assert_eq!(value("HOME"), Some("/root".into()));
    }

    #[test]
    fn loader_and_shell_variables_are_refused() {
        for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "ENV", "LANGUAGE"] {
            assert!(!is_accepted(name), "{name}");
        }
        assert!(is_accepted("LC_ALL") && is_accepted("BANGER_VM") && is_accepted("TERM"));
    }
}
