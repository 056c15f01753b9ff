//! `[[file_sync]]`: which files of the owner's home every guest gets. Here only words are checked; whether the files are
//! there, and really in the home, is seen when they are read ([`banger_sync::files`]).

use std::path::{Component, Path, PathBuf};

use banger_sync::files::Wanted;
use banger_sync::path::TreePath;
use banger_sync::piece::is_reserved;
use serde::Deserialize;

/// root's home in every guest.
const GUEST_HOME: &str = "/root";

/// One table as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    host: String,
    guest: String,
    mode: Option<String>,
}

/// What is wrong with one of them: a clause after its number.
pub type Problem = (usize, String);

/// Checks all of them.
///
/// # Errors
/// The first problem.
pub fn parse(tables: Vec<Table>, home: Option<&Path>) -> Result<Vec<Wanted>, Problem> {
    (1..).zip(tables).map(|(entry, table)| one(entry, table, home).map_err(|problem| (entry, problem))).collect()
}

fn one(entry: usize, table: Table, home: Option<&Path>) -> Result<Wanted, String> {
    let host = host(&table.host, home).map_err(|problem| format!("`host` {problem}"))?;
    let guest = guest(&table.guest).map_err(|problem| format!("`guest` {problem}"))?;
    let mode = table.mode.as_deref().map(mode).transpose().map_err(|problem| format!("`mode` {problem}"))?;
    Ok(Wanted { entry, host, shown: table.host, guest, mode })
}

/// Below the home.
fn host(text: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    let path = match anchored(text)? {
        Anchored::Home(rest) => PathBuf::from(rest),
        Anchored::Absolute(path) => {
            let home = home.ok_or_else(|| format!("{text:?} cannot be judged: HOME is not set"))?;
            path.strip_prefix(home)
                .map_err(|_| format!("{text:?} is outside your home directory {}", home.display()))?
                .to_owned()
        }
    };
    // Doubled and trailing slashes and single dots go.
    let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if path.as_os_str().is_empty() {
        return Err(format!("{text:?} is your whole home directory: name what is needed of it"));
    }
    Ok(path)
}

/// Below root's home.
fn guest(text: &str) -> Result<TreePath, String> {
    let outside = || format!("{text:?} is outside {GUEST_HOME}");
    let path = match anchored(text)? {
        Anchored::Home(rest) => PathBuf::from(rest),
        Anchored::Absolute(path) => path.strip_prefix(GUEST_HOME).map_err(|_| outside())?.to_owned(),
    };
    let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if path.as_os_str().is_empty() {
        return Err(format!("{text:?} is {GUEST_HOME} itself: name something in it, like \"~/.netrc\""));
    }
    let path =
        TreePath::parse(path.as_os_str().as_encoded_bytes()).map_err(|invalid| format!("cannot be: {invalid}"))?;
    if is_reserved(&path) { Err(format!("{text:?} is banger's own")) } else { Ok(path) }
}

enum Anchored<'a> {
    Home(&'a str),
    Absolute(&'a Path),
}

fn anchored(text: &str) -> Result<Anchored<'_>, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.contains('\0') {
        return Err("contains a NUL".into());
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("{text:?} has a \"..\""));
    }
    match text.strip_prefix('~') {
        Some("") => Ok(Anchored::Home("")),
        Some(rest) => match rest.strip_prefix('/') {
            Some(rest) => Ok(Anchored::Home(rest.trim_start_matches('/'))),
            None => Err(format!("{text:?} is another user's home: begin with \"~/\"")),
        },
        None if text.starts_with('/') => Ok(Anchored::Absolute(Path::new(text))),
        None => Err(format!("{text:?} is relative: begin with \"~/\" or \"/\"")),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} is no permissions in octal, like \"0600\"")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(host: &str, guest: &str, mode: Option<&str>) -> Result<Wanted, String> {
        let table = Table { host: host.into(), guest: guest.into(), mode: mode.map(Into::into) };
        one(1, table, Some(Path::new("/home/me")))
    }

    #[test]
    fn paths_are_below_both_homes() {
        for (host, guest) in [
            ("~/.netrc", "~/.netrc"),
            ("/home/me/.netrc", "/root/.netrc"),
            ("~//.netrc", "/root//.netrc/"),
            ("/home/me/./.netrc", "~/./.netrc"),
        ] {
            let wanted = check(host, guest, None).unwrap();
            assert_eq!(
                (wanted.host.as_path(), wanted.guest.as_bytes()),
                (Path::new(".netrc"), &b".netrc"[..]),
                "{host}"
            );
            assert_eq!((wanted.shown.as_str(), wanted.mode), (host, None));
        }
        assert_eq!(check("~/a", "~/b", Some("0640")).unwrap().mode, Some(0o640));
        assert_eq!(check("~/a", "~/b", Some("755")).unwrap().mode, Some(0o755));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (host, guest, mode, wanted) in [
            ("", "~/a", None, "`host` is empty"),
            ("a", "~/a", None, "`host` \"a\" is relative"),
            ("~/../a", "~/a", None, "`host` \"~/../a\" has a \"..\""),
            ("~you/a", "~/a", None, "`host` \"~you/a\" is another user's home"),
            ("/etc/passwd", "~/a", None, "`host` \"/etc/passwd\" is outside your home directory /home/me"),
            ("/home/mean/a", "~/a", None, "is outside your home"),
            ("~", "~/a", None, "is your whole home"),
            ("/home/me", "~/a", None, "is your whole home"),
            ("~/a\0", "~/a", None, "contains a NUL"),
            ("~/a", "", None, "`guest` is empty"),
            ("~/a", "a", None, "`guest` \"a\" is relative"),
            ("~/a", "/etc/passwd", None, "`guest` \"/etc/passwd\" is outside /root"),
            ("~/a", "/rooted", None, "outside /root"),
            ("~/a", "/root/../etc", None, "has a \"..\""),
            ("~/a", "~you/a", None, "another user's home"),
            ("~/a", "/root", None, "is /root itself"),
            ("~/a", "~/.git/hooks", None, "forbidden component"),
            ("~/a", "~/.banger/files", None, "is banger's own"),
            ("~/a", "~/a", Some(""), "`mode` \"\" is no permissions"),
            ("~/a", "~/a", Some("0999"), "`mode` \"0999\""),
            ("~/a", "~/a", Some("4755"), "`mode` \"4755\""),
            ("~/a", "~/a", Some("rw-"), "`mode` \"rw-\""),
            ("~/a", "~/a", Some("+644"), "`mode` \"+644\""),
        ] {
            let problem = check(host, guest, mode).unwrap_err();
            assert!(problem.contains(wanted), "{host} {guest} {mode:?}: {problem}");
        }
        let table = Table { host: "/home/me/a".into(), guest: "~/a".into(), mode: None };
        assert!(one(1, table, None).unwrap_err().contains("HOME is not set"));
    }
}
