//! The files of the repository, as git knows them or would add them: no build output, nothing ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace root.
pub fn root() -> PathBuf {
    banger_generate::workspace_root()
}

/// Every file that is tracked, or would be by `git add -A`, with a path relative to the root.
pub fn files() -> Vec<PathBuf> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let text = String::from_utf8(listing.stdout).expect("this repository's own names are UTF-8");
    // A tracked file that was just deleted is still listed.
    text.split_terminator('\0').map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

/// Rust sources written by people.
pub fn rust_files() -> Vec<PathBuf> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.starts_with("proto/src/gen"))
        .collect()
}

/// The text of a file; bytes that are not UTF-8 are replaced.
pub fn read(path: &Path) -> String {
    let bytes = std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// True for files that only tests use.
pub fn is_test_code(path: &Path) -> bool {
    path.starts_with("tests")
        || path.ends_with("tests.rs")
        || path.components().any(|component| component.as_os_str() == "tests")
}

/// The part of a source before its inline tests.
pub fn without_inline_tests(source: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let end = (0..lines.len()).find(|&at| {
        lines[at].trim() == "#[cfg(test)]"
            && lines[at + 1..].iter().find(|line| !line.starts_with("#[")).is_some_and(|line| line.ends_with('{'))
    });
    lines[..end.unwrap_or(lines.len())].join("\n")
}

/// Fails with every violation at once.
pub fn expect_none(violations: &[String], way_out: &str) {
    assert!(violations.is_empty(), "{} violation(s):\n  {}\n{way_out}", violations.len(), violations.join("\n  "));
}
