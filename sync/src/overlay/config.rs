//! The guest's git configuration: the few host settings that decide what `git status` says, and who commits.
//!
//! Nothing that names a program is ever copied, and no secret: passwords are cut out of the origin's URL, and
//! a file named by the repository's own configuration is copied only from within the repository.

use std::fs;
use std::path::{Path, PathBuf};

use gix::bstr::{BStr, BString, ByteSlice};
use gix::config::Source;

/// Longest exclude or attributes file that is copied.
const FILE_LIMIT: u64 = 1 << 20;

/// Settings copied as they are when the host has them.
const COPIED: &[(&str, &str)] = &[
    ("core", "autocrlf"),
    ("core", "eol"),
    ("core", "safecrlf"),
    ("core", "symlinks"),
    ("core", "ignorecase"),
    ("core", "precomposeunicode"),
    ("core", "quotepath"),
    ("core", "sparsecheckout"),
    ("core", "sparsecheckoutcone"),
    ("status", "renames"),
    ("status", "showuntrackedfiles"),
    ("status", "relativepaths"),
    ("diff", "renames"),
    ("diff", "algorithm"),
    ("diff", "context"),
    ("diff", "noprefix"),
    ("diff", "mnemonicprefix"),
    ("user", "name"),
    ("user", "email"),
];

/// Files under the guest's `.git`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestConfig {
    /// `config`, without the path of [`GuestConfig::global_attributes`], which only the receiver knows.
    pub config: Vec<u8>,
    /// `info/exclude`: the host's global patterns, then the repository's.
    pub exclude: Vec<u8>,
    /// `info/attributes`.
    pub attributes: Option<Vec<u8>>,
    /// The host's global attributes.
    pub global_attributes: Option<Vec<u8>>,
    /// `info/sparse-checkout`.
    pub sparse_checkout: Option<Vec<u8>>,
}

/// Reads what the host has.
pub fn collect(repository: &gix::Repository) -> GuestConfig {
    let common = repository.common_dir();
    let mut exclude = global_file(repository, "core.excludesFile", "ignore").unwrap_or_default();
    if !exclude.is_empty() && !exclude.ends_with(b"\n") {
        exclude.push(b'\n');
    }
    exclude.extend(read_bounded(&common.join("info/exclude")).unwrap_or_default());
    GuestConfig {
        config: render(repository),
        exclude,
        attributes: read_bounded(&common.join("info/attributes")),
        global_attributes: global_file(repository, "core.attributesFile", "attributes"),
        sparse_checkout: read_bounded(&repository.git_dir().join("info/sparse-checkout")),
    }
}

fn render(repository: &gix::Repository) -> Vec<u8> {
    let snapshot = repository.config_snapshot();
    let mut out = Vec::new();
    let file_mode = snapshot.boolean("core.fileMode").unwrap_or(true);
    out.extend_from_slice(b"[core]\n\trepositoryformatversion = 0\n");
    out.extend_from_slice(format!("\tfilemode = {file_mode}\n").as_bytes());
    out.extend_from_slice(b"\tbare = false\n\tlogallrefupdates = true\n");
    // The index comes from another file system: inode numbers and change times there mean nothing here.
    out.extend_from_slice(b"\tcheckStat = minimal\n\ttrustctime = false\n");
    let mut section = "core";
    for (wanted, key) in COPIED {
        let Some(value) = snapshot.string(format!("{wanted}.{key}").as_str()) else { continue };
        if *wanted != section {
            section = wanted;
            out.extend_from_slice(format!("[{section}]\n").as_bytes());
        }
        push_value(&mut out, key, value.as_bstr());
    }
    if let Some(url) = snapshot.string("remote.origin.url").and_then(|url| without_credentials(url.as_bstr())) {
        out.extend_from_slice(b"[remote \"origin\"]\n");
        push_value(&mut out, "url", url.as_bstr());
        push_value(&mut out, "fetch", b"+refs/heads/*:refs/remotes/origin/*".as_bstr());
    }
    out
}

/// One line of a configuration file; the value is quoted so that it is taken literally.
pub fn push_value(out: &mut Vec<u8>, key: &str, value: &BStr) {
    out.extend_from_slice(format!("\t{key} = \"").as_bytes());
    for &byte in value.iter() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => {}
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(b"\"\n");
}

/// The URL without a password, and without a user where that may be a token.
pub(super) fn without_credentials(url: &BStr) -> Option<BString> {
    let mut parsed = gix::url::parse(url).ok()?;
    if parsed.password().is_none() && parsed.user().is_none() {
        return Some(url.to_owned());
    }
    parsed.set_password(None);
    if parsed.scheme != gix::url::Scheme::Ssh {
        parsed.set_user(None);
    }
    Some(parsed.to_bstring())
}

/// The file a setting names, or git's default place for it.
fn global_file(repository: &gix::Repository, key: &str, default_name: &str) -> Option<Vec<u8>> {
    let snapshot = repository.config_snapshot();
    let path = match snapshot.trusted_path(key) {
        Ok(Some(path)) => path,
        Ok(None) => default_config_dir()?.join(default_name),
        Err(_) => return None,
    };
    let own = |meta: &gix::config::file::Metadata| matches!(meta.source, Source::Local | Source::Worktree);
    let set_by_repository = snapshot.plumbing().string_filter(key, own).is_some();
    if set_by_repository && !is_within(repository, &path) {
        tracing::warn!(key, path = %path.display(), "not copied: the repository names a file outside of itself");
        return None;
    }
    read_bounded(&path)
}

fn is_within(repository: &gix::Repository, path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    let inside = |dir: &Path| dir.canonicalize().is_ok_and(|dir| real.starts_with(dir));
    inside(repository.common_dir()) || repository.workdir().is_some_and(inside)
}

fn default_config_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?.join("git"))
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > FILE_LIMIT {
        return None;
    }
    fs::read(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_survives_in_the_url() {
        for (url, expected) in [
            ("https://user:secret@example.com/a.git", Some("https://example.com/a.git")),
            ("https://token@example.com/a.git", Some("https://example.com/a.git")),
            ("https://example.com/a.git", Some("https://example.com/a.git")),
            ("git@example.com:a/b.git", Some("git@example.com:a/b.git")),
            ("ssh://git:pw@example.com/a.git", Some("ssh://git@example.com/a.git")),
            ("/srv/git/a.git", Some("/srv/git/a.git")),
        ] {
            let stripped = without_credentials(url.into()).map(|url| url.to_string());
            assert_eq!(stripped.as_deref(), expected, "{url}");
        }
    }
}
