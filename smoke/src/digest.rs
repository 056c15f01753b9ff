//! SHA-256 of files and of trees, for caches keyed by what made them.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Of one file, in hexadecimal.
pub fn of_file(path: &Path) -> Result<String> {
    Ok(hex(Sha256::digest(fs::read(path).map_err(Error::file("read", path))?).as_slice()))
}

/// Sixteen digits that change with the name or content of any file in `paths` (files, or directories with all below).
/// What does not exist counts as absent.
pub fn key(paths: &[PathBuf]) -> Result<String> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in &files {
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(of_file(file)?);
    }
    Ok(hex(hasher.finalize().as_slice())[..16].to_owned())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::file("list", path))? {
            collect(&entry.map_err(Error::file("list", path))?.path(), files)?;
        }
    } else if path.is_file() {
        files.push(path.to_path_buf());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_content_and_with_names_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let key = || key(&[directory.path().to_path_buf()]).unwrap();
        fs::write(&file, "one").unwrap();
        let first = key();
        fs::write(&file, "one").unwrap();
        assert_eq!(key(), first);
        fs::write(&file, "two").unwrap();
        assert_ne!(key(), first);
        fs::remove_file(&file).unwrap();
        fs::write(directory.path().join("b"), "one").unwrap();
        assert_ne!(key(), first);
    }
}
