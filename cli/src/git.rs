//! The two facts about the user's git that the CLI needs itself: who they are, and where a repository's HEAD is.
//! Library code only, nothing is executed; the workspace itself is read by `banger_sync`.

use std::path::{Path, PathBuf};

use banger_proto::v1::GitIdentity;
use gix::config::File;
use gix::config::file::{Metadata, includes, init};

/// The user's global name and e-mail address; nothing if neither is configured or no file can be read.
/// A repository's own identity travels with its workspace.
pub fn global_identity() -> Option<GitIdentity> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let config_home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let named = std::env::var_os("GIT_CONFIG_GLOBAL").map(PathBuf::from);
    identity_in(&global_files(named, config_home, home.as_deref()), home.as_deref())
}

/// In the order git reads them: a later one wins.
fn global_files(named: Option<PathBuf>, config_home: Option<PathBuf>, home: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named];
    }
    let config_home = config_home.or_else(|| home.map(|home| home.join(".config")));
    let below_config = config_home.map(|directory| directory.join("git/config"));
    below_config.into_iter().chain(home.map(|home| home.join(".gitconfig"))).collect()
}

fn identity_in(files: &[PathBuf], home: Option<&Path>) -> Option<GitIdentity> {
    let mut identity = GitIdentity::default();
    for path in files.iter().filter(|path| path.is_file()) {
        let Some(config) = read(path, home) else { continue };
        if let Some(name) = config.string("user.name") {
            identity.name = name.to_string();
        }
        if let Some(email) = config.string("user.email") {
            identity.email = email.to_string();
        }
    }
    (identity != GitIdentity::default()).then_some(identity)
}

/// Conditional includes need a repository and there is none: where they stand in the way, includes are left out.
fn read(path: &Path, home: Option<&Path>) -> Option<File> {
    let options =
        init::Options { includes: includes::Options::follow_without_conditional(home), ..init::Options::default() };
    let source = gix::config::Source::User;
    let metadata = Metadata { path: Some(path.to_owned()), ..Metadata::from(source) };
    match File::from_paths_metadata([metadata], options) {
        Ok(config) => config,
        Err(_) => File::from_path_no_includes(path.to_owned(), source).ok(),
    }
}

/// The commit HEAD of the repository at `path` is at; nothing if there is none or it cannot be told.
pub fn head_commit(path: &Path) -> Option<String> {
    let repository = gix::open_opts(path, gix::open::Options::isolated()).ok()?;
    repository.head_id().ok().map(|id| id.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_later_file_wins_and_includes_are_followed() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".config/git/config", "[user]\n\tname = Early\n\temail = early@example.org\n");
        write(".gitconfig", "[user]\n\tname = Late\n[include]\n\tpath = ~/more\n");
        write("more", "[user]\n\temail = more@example.org\n");
        let files = global_files(None, None, Some(home.path()));
        let identity = identity_in(&files, Some(home.path())).unwrap();
        assert_eq!((identity.name.as_str(), identity.email.as_str()), ("Late", "more@example.org"));
    }

    #[test]
    fn a_conditional_include_does_not_hide_the_identity() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".gitconfig");
        std::fs::write(&path, "[user]\n\tname = Me\n[includeIf \"gitdir:~/src/\"]\n\tpath = ~/missing\n").unwrap();
        assert_eq!(identity_in(&[path], Some(home.path())).unwrap().name, "Me");
    }

    #[test]
    fn without_any_file_there_is_no_identity() {
        assert_eq!(identity_in(&global_files(None, None, Some(Path::new("/nonexistent"))), None), None);
        assert_eq!(global_files(Some("/x".into()), None, Some(Path::new("/h"))), [Path::new("/x")]);
    }
}
