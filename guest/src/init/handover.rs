//! What pid 1 leaves for the agent: the seed, how init went, and the binary itself.
//!
//! Files and not arguments, so that a respawned agent finds them again.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use banger_proto::guest::v1::{Milestone, MilestoneKind, Seed};
use banger_proto::guest_contract::GUEST_BINARY;
use prost::Message;

use crate::log;

const SEED: &str = "/run/banger/seed.pb";
const OUTCOME: &str = "/run/banger/init.pb";
/// Exists once the system is booted.
const BOOTED: &str = "/run/banger/booted";

/// How init went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is worth telling but stopped nothing.
    pub warnings: Vec<String>,
    /// The first failed stage and why.
    pub failure: Option<(String, String)>,
    /// What became of the boot.
    pub end: End,
}

/// What became of the boot when init was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// There is a system to use, whatever else went wrong.
    #[default]
    System,
    /// There is only the initramfs.
    Nothing,
}

impl Outcome {
    /// Keeps the first failure as such and later ones as warnings; each goes to the console.
    pub fn note_failure(&mut self, stage: &str, reason: String) {
        log::failure(&format!("{stage}: {reason}"));
        if self.failure.is_none() {
            self.failure = Some((stage.to_owned(), reason));
        } else {
            self.warnings.push(format!("{stage}: {reason}"));
        }
    }

    fn to_message(&self) -> Milestone {
        let (stage, reason) = self.failure.clone().unwrap_or_default();
        let kind = match self.end {
            End::System => MilestoneKind::Unspecified,
            End::Nothing => MilestoneKind::Failed,
        };
        Milestone { kind: kind.into(), stage, reason, warnings: self.warnings.clone(), ..Milestone::default() }
    }

    fn from_message(message: Milestone) -> Self {
        let end = if message.kind() == MilestoneKind::Failed { End::Nothing } else { End::System };
        let failure = (!message.stage.is_empty()).then_some((message.stage, message.reason));
        Self { warnings: message.warnings, failure, end }
    }
}

/// What the agent finds.
#[derive(Debug, Default)]
pub struct Handed {
    /// The seed, unless init could not read it.
    pub seed: Option<Seed>,
    /// How init went.
    pub outcome: Outcome,
    /// An earlier agent of this boot has seen the system booted.
    pub booted: bool,
}

/// Leaves everything below `root`; failing is only noted, an agent without it still answers.
pub fn leave(root: &Path, seed: Option<&Seed>, outcome: &Outcome) {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let left = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(at("/run/banger"))
        .and_then(|()| seed.map_or(Ok(()), |seed| write_private(&at(SEED), &seed.encode_to_vec())))
        .and_then(|()| write_private(&at(OUTCOME), &outcome.to_message().encode_to_vec()))
        .and_then(|()| fs::copy("/proc/self/exe", at(GUEST_BINARY)).map(drop));
    if let Err(error) = left {
        log::failure(&format!("cannot leave the agent's files in {}: {error}", at("/run/banger").display()));
    }
}

/// The seed holds the private host key.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, content)
}

/// What was left; absent or broken files count as nothing left.
pub fn read() -> Handed {
    let decoded = |path: &str| fs::read(path).ok();
    Handed {
        seed: decoded(SEED).and_then(|bytes| crate::seed::parse(&bytes).ok()),
        outcome: decoded(OUTCOME)
            .and_then(|bytes| Milestone::decode(bytes.as_slice()).ok())
            .map(Outcome::from_message)
            .unwrap_or_default(),
        booted: Path::new(BOOTED).exists(),
    }
}

/// Lets an agent started later know that the system is booted.
pub fn remember_booted() {
    let _ = fs::write(BOOTED, "");
}
