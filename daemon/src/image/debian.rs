//! A Debian image: mmdebstrap's tar stream, hashed and inspected on its way into one ext4 file.
//!
//! The recipe chooses packages and leaves out documentation; otherwise the image is what the distribution
//! makes. Nothing is unpacked outside mmdebstrap's own scratch space and no privilege is needed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use banger_proto::v1::ProgressUnit;
use sha2::{Digest, Sha256};

use super::inspect::{Facts, Inspected};
use crate::artifact::bootstrap::{Mode, Output, Recipe};
use crate::artifact::ext4::{Ext4Error, Ext4Writer, Journal, Shape};
use crate::artifact::tarball::{self, TarballError};
use crate::catalog::{DebianRecipe, RecipeFile};
use crate::reporter::Reporter;

pub(crate) const FINISH: &str = include_str!("debian.sh");
/// Room for the guest to grow into; the file stays sparse.
const MINIMUM_BYTES: u64 = 8 << 30;
const SPARE_BYTES: u64 = 4 << 30;
const REPORT_EVERY: u64 = 16 << 20;

/// What came out of the stream.
#[derive(Debug)]
pub(super) struct Written {
    pub inspected: Inspected,
    /// SHA-256 of the tar stream.
    pub digest: String,
    pub size_bytes: u64,
}

/// Why the stream gave no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file could not be made.
    #[error("cannot create {path}", path = path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The stream or an entry of it is at fault.
    #[error("cannot write the root filesystem")]
    Tarball {
        /// The cause.
        source: TarballError,
    },
    /// The rest of the stream could not be read.
    #[error("cannot read the end of the tar stream")]
    Drain {
        /// The cause.
        source: io::Error,
    },
    /// The filesystem could not be completed.
    #[error("cannot complete the root filesystem")]
    Finish {
        /// The cause.
        source: Ext4Error,
    },
}

/// How to make the image `name`.
pub(crate) fn bootstrap(name: &str, recipe: &DebianRecipe) -> Recipe {
    // Every build is thrown away on failure, so dpkg need not sync each file.
    let mut options: Vec<OsString> = vec!["--dpkgopt=force-unsafe-io".into()];
    options.extend(recipe.exclude.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}").into()));
    options.extend(recipe.include.iter().map(|pattern| format!("--dpkgopt=path-include={pattern}").into()));
    options.push("--aptopt=Acquire::Languages \"none\"".into());
    options.extend(recipe.files.iter().map(|file| file_hook(file).into()));
    options.extend(recipe.commands.iter().map(|command| in_root(command).into()));
    options.push(format!("--customize-hook={FINISH}").into());
    Recipe {
        subject: format!("the image {name}"),
        suite: recipe.suite.clone(),
        variant: "minbase",
        mode: Mode::Root,
        packages: recipe.packages.clone(),
        options,
        environment: Vec::new(),
        output: Output::Tar,
    }
}

/// Written from within the root: a link in it must not lead to the host. Path and mode are of plain characters,
/// the catalog checks that.
fn file_hook(file: &RecipeFile) -> String {
    let directory =
        file.path.rsplit_once('/').map_or("/", |(directory, _)| if directory.is_empty() { "/" } else { directory });
    let (path, mode, content) = (&file.path, &file.mode, quoted(&file.content));
    in_root(&format!("mkdir -p {directory}; printf %s {content} >{path}; chmod {mode} {path}"))
}

fn in_root(command: &str) -> String {
    format!("--customize-hook=chroot \"$1\" sh -euc {}", quoted(command))
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Writes `stream` to a new file at `rootfs`.
///
/// # Errors
/// See [`WriteError`].
pub(super) fn write_rootfs(stream: impl Read, rootfs: &Path, reporter: &Reporter) -> Result<Written, WriteError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(rootfs)
        .map_err(|source| WriteError::Create { path: rootfs.to_owned(), source })?;
    let shape = Shape {
        uuid: *uuid::Uuid::new_v4().as_bytes(),
        label: "banger-root",
        minimum_bytes: MINIMUM_BYTES,
        spare_bytes: SPARE_BYTES,
        journal: Journal::Internal,
    };
    let mut stream = Hashing { inner: stream, hash: Sha256::new(), count: 0, reported: 0, reporter };
    let mut writer = Ext4Writer::new(file, shape);
    let mut facts = Facts::default();
    tarball::write_tarball(&mut stream, &mut writer, &mut |seen| facts.observe(seen))
        .map_err(|source| WriteError::Tarball { source })?;
    // The padding behind the last entry belongs to the digest, and unread output would break the pipe.
    io::copy(&mut stream, &mut io::sink()).map_err(|source| WriteError::Drain { source })?;
    let summary = writer.finish().map_err(|source| WriteError::Finish { source })?;
    tracing::debug!(entries = summary.entries, bytes = stream.count, "wrote a root filesystem");
    Ok(Written {
        inspected: facts.conclude(),
        digest: super::hex(&stream.hash.finalize()),
        size_bytes: summary.size_bytes,
    })
}

struct Hashing<'a, R> {
    inner: R,
    hash: Sha256,
    count: u64,
    reported: u64,
    reporter: &'a Reporter,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        if self.count - self.reported >= REPORT_EVERY {
            self.reported = self.count;
            self.reporter.progress(self.count, 0, ProgressUnit::Bytes, "writing the filesystem");
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_commands_of_a_recipe_are_words_of_a_shell() {
        let file = RecipeFile { path: "/etc/a.conf".into(), content: "it's $HOME\n".into(), mode: "0600".into() };
        let recipe = DebianRecipe { files: vec![file], commands: vec!["echo 'x'".into()], ..DebianRecipe::default() };
        let options = bootstrap("mine", &recipe).options;
        let root = |hook: &OsString| -> std::process::Output {
            let script =
                hook.to_string_lossy().replace("--customize-hook=chroot \"$1\" ", "").replace("/etc/", "\"$T\"/etc/");
            let directory = std::env::temp_dir();
            std::process::Command::new("sh").args(["-nc", &script]).env("T", directory).output().expect("sh runs")
        };
        let hooks: Vec<&OsString> =
            options.iter().filter(|option| option.to_string_lossy().contains("chroot")).collect();
        assert_eq!(hooks.len(), 2);
        for hook in hooks {
            let checked = root(hook);
            assert!(checked.status.success(), "{hook:?}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}
