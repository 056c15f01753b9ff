//! What `image pull` was given: files of this machine, or a name that the daemon understands.

use std::path::PathBuf;

use banger_proto::v1::ImageFiles;

use crate::error::CliError;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the catalog or a registry.
    Named(String),
    /// Here.
    Files {
        /// What they are.
        files: ImageFiles,
        /// The directory or file.
        path: PathBuf,
        /// Which of several images.
        tag: String,
    },
}

/// `oci:DIR[:TAG]`, `docker-archive:FILE[:TAG]`, `bundle:FILE`, else a name.
///
/// # Errors
/// If the path is missing.
pub fn parse(text: &str) -> Result<Source, CliError> {
    let transports = [
        ("oci:", ImageFiles::OciLayout),
        ("docker-archive:", ImageFiles::DockerArchive),
        ("bundle:", ImageFiles::Bundle),
    ];
    for (prefix, files) in transports {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        if rest.is_empty() {
            return Err(CliError::usage(format!("{text:?} lacks a path after {prefix:?}")));
        }
        // A path that exists may contain a colon itself.
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) if !std::path::Path::new(rest).exists() => (path, tag),
            _ => (rest, ""),
        };
        return Ok(Source::Files { files, path: path.into(), tag: tag.to_owned() });
    }
    Ok(Source::Named(text.to_owned()))
}

/// A name for the result of files: that of the directory or file.
pub fn described(path: &std::path::Path, tag: &str) -> String {
    let name = path.file_name().map_or_else(|| "image".into(), std::ffi::OsStr::to_string_lossy);
    let stem = [".tar.zst", ".tar", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    if tag.is_empty() { stem.to_owned() } else { format!("{stem}:{}", tag.rsplit([':', '/']).next().unwrap_or(tag)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_from_references() {
        let files = |text| match parse(text) {
            Ok(Source::Files { path, tag, .. }) => (path.display().to_string(), tag),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(files("oci:dir/img"), ("dir/img".to_owned(), String::new()));
        assert_eq!(files("docker-archive:a.tar:app:1"), ("a.tar".to_owned(), "app:1".to_owned()));
        assert!(matches!(parse("docker.io/library/debian:12"), Ok(Source::Named(_))));
        assert!(parse("oci:").is_err());
    }
}
