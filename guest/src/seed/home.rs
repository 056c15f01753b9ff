//! Root's home on the work disk: the first login must find a usable shell and git.

use std::io;
use std::path::{Component, Path};

use banger_proto::guest::v1::SeedFile;

use crate::tree::Tree;

const DOTFILES: [&str; 3] = [".bashrc", ".profile", ".bash_profile"];

/// Dotfiles the image would give root, read before the work disk hides its /root.
#[derive(Debug, Default)]
pub struct Skeleton(Vec<(&'static str, Vec<u8>)>);

/// From the image's own /root, else from /etc/skel.
pub fn read_skeleton(image: &Tree) -> Skeleton {
    let read = |name: &'static str| {
        let own = image.read(&format!("root/{name}")).ok().flatten();
        let content = own.or_else(|| image.read(&format!("etc/skel/{name}")).ok().flatten())?;
        Some((name, content))
    };
    Skeleton(DOTFILES.into_iter().filter_map(read).collect())
}

/// True for a work disk nobody has used.
pub fn is_empty(home: &Tree) -> bool {
    home.names().is_ok_and(|names| names.iter().all(|name| name == "lost+found"))
}

/// Owner and `mode` of the home; the skeleton's files if it is empty.
///
/// # Errors
/// What the filesystem says.
pub fn prepare(home: &Tree, skeleton: &Skeleton, mode: u32) -> io::Result<()> {
    home.own_by_root(mode)?;
    if is_empty(home) {
        for (name, content) in &skeleton.0 {
            home.write(name, 0o644, content)?;
        }
    }
    if !home.exists(".hushlogin") {
        home.write(".hushlogin", 0o644, b"")?;
    }
    Ok(())
}

/// The user's name for commits, unless the guest has a configuration of its own.
///
/// # Errors
/// What the filesystem says.
pub fn write_git_identity(home: &Tree, name: &str, email: &str) -> io::Result<()> {
    if (name.is_empty() && email.is_empty()) || home.kind(".gitconfig").is_some() {
        return Ok(());
    }
    let mut text = "[user]\n".to_owned();
    for (key, value) in [("name", name), ("email", email)].into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("\t{key} = {}\n", quote(value)));
    }
    home.write(".gitconfig", 0o644, text.as_bytes()).map(drop)
}

/// A git configuration value in quotes; control characters other than tab and newline have no place in one.
fn quote(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            character if character.is_control() => {}
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// One file of the seed, below the home and never through a link.
///
/// # Errors
/// What the filesystem says, or that the path is not a plain relative one.
pub fn write_file(home: &Tree, file: &SeedFile) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let path = std::str::from_utf8(&file.path).map_err(|_| invalid("the path is not UTF-8"))?;
    let path = Path::new(path);
    if path.components().next().is_none() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(invalid("the path is not a plain relative one"));
    }
    home.write(path, file.mode & 0o777, &file.content).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_git_reads_them() {
        assert_eq!(quote("Ann \"A\" O\\Neil # x"), r#""Ann \"A\" O\\Neil # x""#);
        assert_eq!(quote("a\nb\u{7}"), r#""a\nb""#);
    }
}
