//! The programs that are installed: where they come from, and whether they are what they should be.
//!
//! Each is asked for its version *without privilege*, as an account that owns nothing: root runs no program it has not
//! yet decided to trust.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{COMMAND, PROGRAM_DIRECTORY};
use banger_proto::version::VERSION;

use super::host::{AskError, Host, run};

/// Ours, beside the command line. The last is `banger` itself.
const OURS: [&str; 4] = ["bangerd", "bangerd-root", "banger-guest", "banger-build"];
/// The oldest Firecracker that banger is tested with.
const OLDEST_FIRECRACKER: (u32, u32) = (1, 12);
/// An account without anything, on every Linux.
const NOBODY: u32 = 65_534;

/// A program ready to be installed.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it comes from.
    pub source: PathBuf,
    /// Where it goes.
    pub target: PathBuf,
    /// All of it.
    pub content: Vec<u8>,
}

/// What was named on the command line.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--firecracker`.
    pub firecracker: Option<PathBuf>,
    /// `--jailer`.
    pub jailer: Option<PathBuf>,
}

/// Why a program cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Nowhere to be found.
    #[error("cannot find {name}, looked at {}", looked_at.join(", "))]
    Missing {
        /// Which.
        name: &'static str,
        /// Every place that was tried.
        looked_at: Vec<String>,
    },
    /// Not readable.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It does not tell its version.
    #[error("cannot ask {} for its version", path.display())]
    Ask {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: AskError,
    },
    /// It is another one.
    #[error("{} says {said:?}, wanted is {wanted}", path.display())]
    Version {
        /// Where.
        path: PathBuf,
        /// Its first line.
        said: String,
        /// What would do.
        wanted: String,
    },
}

impl Classified for ProgramError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { name: "firecracker" | "jailer", .. } => vec![
                "Take both from an official Firecracker release and name them: \
                 `sudo banger system install --owner USER --firecracker PATH --jailer PATH`."
                    .into(),
            ],
            Self::Missing { .. } | Self::Version { .. } => {
                vec![
                    "Run the `banger` that lies beside the other programs of the same build, e.g. after `make build`."
                        .into(),
                ]
            }
            Self::Read { path, .. } | Self::Ask { path, .. } => vec![format!("Check `ls -l {}`.", path.display())],
        }
    }
}

/// Everything that is installed, the command line last.
///
/// # Errors
/// [`ProgramError`] for the first that cannot be.
pub fn gather(host: &Host, executable: &Path, given: &Given) -> Result<Vec<Program>, ProgramError> {
    let installed = |name: &str| Path::new(PROGRAM_DIRECTORY).join(name);
    let beside = |name: &str| executable.parent().map(|directory| directory.join(name));
    let mut programs = Vec::new();
    for name in OURS {
        let candidates = beside(name).into_iter().chain([host.at(installed(name))]);
        let program = pick(name, candidates.collect(), installed(name))?;
        expect_ours(&program, name)?;
        programs.push(program);
    }
    for (name, given) in [("firecracker", &given.firecracker), ("jailer", &given.jailer)] {
        let candidates = match given {
            // A named one is the only candidate: a typing mistake must not fall back silently.
            Some(path) => vec![path.clone()],
            None => beside(name).into_iter().chain([host.at(installed(name))]).collect(),
        };
        let program = pick(name, candidates, installed(name))?;
        expect_firecracker(&program)?;
        programs.push(program);
    }
    programs.push(pick("banger", vec![executable.to_owned()], PathBuf::from(COMMAND))?);
    Ok(programs)
}

fn pick(name: &'static str, candidates: Vec<PathBuf>, target: PathBuf) -> Result<Program, ProgramError> {
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    let source = found.ok_or_else(|| ProgramError::Missing {
        name,
        looked_at: candidates.iter().map(|path| path.display().to_string()).collect(),
    })?;
    let content = std::fs::read(&source).map_err(|error| ProgramError::Read { path: source.clone(), source: error })?;
    Ok(Program { source, target, content })
}

fn expect_ours(program: &Program, name: &str) -> Result<(), ProgramError> {
    let said = first_line(&program.source)?;
    // "bangerd 0.1.0 (commit …)"
    let mut words = said.split_whitespace();
    if words.next() == Some(name) && words.next() == Some(VERSION) {
        return Ok(());
    }
    Err(ProgramError::Version { path: program.source.clone(), said, wanted: format!("{name} {VERSION}") })
}

fn expect_firecracker(program: &Program) -> Result<(), ProgramError> {
    let said = first_line(&program.source)?;
    if parse_version(&said).is_some_and(|version| version >= OLDEST_FIRECRACKER) {
        return Ok(());
    }
    let (major, minor) = OLDEST_FIRECRACKER;
    Err(ProgramError::Version {
        path: program.source.clone(),
        said,
        wanted: format!("version {major}.{minor} or newer"),
    })
}

/// From "Firecracker v1.12.1": major and minor.
fn parse_version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.split_whitespace().nth(1)?.strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first line of `--version`, asked without privilege.
///
/// # Errors
/// [`ProgramError`].
pub fn first_line(path: &Path) -> Result<String, ProgramError> {
    let file = File::open(path).map_err(|source| ProgramError::Read { path: path.to_owned(), source })?;
    // By descriptor: the account below may not be able to enter the directories above the file. Inherited, as the
    // interpreter of a script opens it once more.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())
        .map_err(|source| ProgramError::Read { path: path.to_owned(), source: source.into() })?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.arg("--version");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let text = run(&mut command, &format!("{} --version", path.display()))
        .map_err(|source| ProgramError::Ask { path: path.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn versions_are_numbers_not_texts() {
        assert_eq!(parse_version("Firecracker v1.12.1"), Some((1, 12)));
        assert_eq!(parse_version("Jailer v2.0.0-dev"), Some((2, 0)));
        assert!(parse_version("Firecracker v1.7.0").unwrap() < OLDEST_FIRECRACKER);
        for line in ["", "Firecracker", "Firecracker 1.12", "v1.12"] {
            assert_eq!(parse_version(line), None, "{line}");
        }
    }

    #[test]
    fn a_named_firecracker_never_falls_back_and_a_set_of_two_builds_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("bin");
        std::fs::create_dir(&directory).unwrap();
        for (name, said) in [
            ("bangerd", format!("bangerd {VERSION} (commit c)")),
            ("bangerd-root", format!("bangerd-root {VERSION}")),
            ("banger-guest", format!("banger-guest {VERSION}")),
            ("banger-build", format!("banger-build {VERSION}")),
            ("firecracker", "Firecracker v1.12.1".to_owned()),
            ("jailer", "Jailer v1.12.1".to_owned()),
            ("banger", "banger".to_owned()),
        ] {
            write(&directory.join(name), &said);
        }
        let (host, executable) = (Host::below(&scratch.path().join("root")), directory.join("banger"));
        let gathered = gather(&host, &executable, &Given::default()).unwrap();
        let targets: Vec<String> = gathered.iter().map(|program| program.target.display().to_string()).collect();
        assert_eq!(targets[0], "/usr/local/lib/banger/bangerd");
        assert_eq!(targets[6], "/usr/local/bin/banger");

        let given = Given { firecracker: Some("/nowhere/firecracker".into()), jailer: None };
        let missing = gather(&host, &executable, &given).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/firecracker"), "{missing}");

        write(&directory.join("jailer"), "Jailer v1.11.0");
        let old = gather(&host, &executable, &Given::default()).unwrap_err();
        assert!(old.to_string().contains("1.12 or newer"), "{old}");
        write(&directory.join("bangerd"), "bangerd 0.0.9");
        assert!(matches!(gather(&host, &executable, &Given::default()), Err(ProgramError::Version { .. })));
    }

    fn write(path: &Path, said: &str) {
        std::fs::write(path, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}
