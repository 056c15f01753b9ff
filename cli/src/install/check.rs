//! Everything that must be so before anything is changed. Looks, and refuses with all reasons at once.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::install::{Build, Install, Network, STATE_DIRECTORY, Subnet};
use banger_proto::version::{COMMIT, VERSION};

use super::host::Host;
use super::layout::{self, Directory, Wanted};
use super::manifest::{self, Entry, Found, Manifest};
use super::program::{self, Given};
use super::{account, vms};
use crate::error::CliError;

/// Modules of the kernel that VMs need, as far as they are not built in.
const MODULES: [&str; 7] = ["loop", "dm_snapshot", "tun", "bridge", "nf_tables", "nft_masq", "nft_redir"];

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--owner`.
    pub owner: Option<String>,
    /// `--network`.
    pub network: Option<Subnet>,
    /// `--bridge`.
    pub bridge: Option<String>,
    /// `--firecracker` and `--jailer`.
    pub programs: Given,
}

/// Everything decided about an installation; nothing done.
#[derive(Debug)]
pub struct Plan {
    /// What there is.
    pub before: Option<Install>,
    /// What there is to be.
    pub install: Install,
    /// With their modes.
    pub directories: Vec<Directory>,
    /// With their content.
    pub files: Vec<Wanted>,
    /// What earlier runs created.
    pub manifest: Manifest,
}

/// Decides what to install, without changing anything.
///
/// # Errors
/// Everything that is in the way.
pub fn plan(host: &Host, executable: &Path, asked: &Asked) -> Result<Plan, CliError> {
    let manifest = Manifest::load(host)?;
    let before = Install::load_from(&host.at(banger_proto::install::INSTALL_FILE))?;
    ready(host)?;
    let install = metadata(host, before.as_ref(), asked)?;
    allow_change(host, before.as_ref(), &install)?;
    let programs = program::gather(host, executable, &asked.programs)?;
    let group = account::group_name(host, install.owner.gid);
    let files = layout::files(&install, &group, programs);
    let plan = Plan { before, directories: layout::directories(&install), install, files, manifest };
    refuse_foreign_files(host, &plan)?;
    Ok(plan.unless_unchanged(host))
}

/// Everything the host lacks, told at once.
fn ready(host: &Host) -> Result<(), CliError> {
    let mut missing: Vec<(String, String)> = Vec::new();
    let mut lacks = |what: &str, hint: &str| missing.push((what.to_owned(), hint.to_owned()));
    if !host.at("/run/systemd/system").is_dir() {
        lacks("systemd does not run this host", "Use `banger --rootless`, which needs no services.");
    }
    if !host.at("/sys/fs/cgroup/cgroup.controllers").is_file() {
        lacks("/sys/fs/cgroup is not the unified hierarchy", "Boot with `systemd.unified_cgroup_hierarchy=1`.");
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open(host.at("/dev/kvm")) {
        lacks(
            &format!("/dev/kvm cannot be opened: {error}"),
            "Load it with `modprobe kvm_intel` or `modprobe kvm_amd`; enable virtualization in the firmware.",
        );
    }
    if host.system_program("nft").is_none() {
        lacks("there is no `nft`", "Install it, on Debian and Ubuntu with `apt-get install nftables`.");
    }
    for module in MODULES {
        if let Err(error) = host.ask("modprobe", &["--dry-run", "--quiet", module]) {
            lacks(
                &format!("the kernel has no module {module}: {error}"),
                "Install the distribution's full kernel, and reboot if it was just upgraded: `uname -r`.",
            );
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(Kind::HostNotReady, "this host is not ready for banger's services");
    for (what, hint) in missing {
        failure = failure.caused_by(what);
        if !failure.hints.contains(&hint) {
            failure = failure.hint(hint);
        }
    }
    Err(CliError::Failed(Box::new(failure)))
}

/// What was asked for, else what there is, else the default.
fn metadata(host: &Host, before: Option<&Install>, asked: &Asked) -> Result<Install, CliError> {
    let name = asked.owner.as_ref().or(before.map(|before| &before.owner.name)).ok_or_else(|| {
        CliError::usage("banger is not installed yet: say who will use it")
            .hint("Name an ordinary user: `sudo banger system install --owner USER`.")
    })?;
    let owner = account::find(host, name)?;
    let mut network = before.map_or_else(Network::default, |before| before.network.clone());
    if let Some(subnet) = asked.network {
        network.subnet = subnet;
    }
    if let Some(bridge) = &asked.bridge {
        network.bridge.clone_from(bridge);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let build = Build {
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        installed_unix_s: before.map_or(now, |before| before.build.installed_unix_s),
        updated_unix_s: now,
    };
    let install = Install { owner, build, network };
    // The readers' own rules: a bridge name they would refuse is refused here.
    Install::parse(&install.render(), Path::new(banger_proto::install::INSTALL_FILE))
        .map_err(|error| CliError::usage(cause(&error)).hint("Try `--bridge br-fc --network 172.16.0.0/24`."))
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// VMs belong to their owner and have addresses of their network.
fn allow_change(host: &Host, before: Option<&Install>, after: &Install) -> Result<(), CliError> {
    let vms = vms::on_disk(host).len();
    if vms == 0 {
        return Ok(());
    }
    let refused = |message: String| {
        Err(CliError::new(Kind::Refused, message)
            .hint("Delete the VMs first, as their owner: `banger vm list`, `banger vm delete NAME`.")
            .hint("Or take everything away with `sudo banger system uninstall --purge`."))
    };
    if let Some(former) = former_uid(host, before)?
        && former != after.owner.uid
    {
        let name = before.map_or_else(|| format!("uid {former}"), |before| before.owner.name.clone());
        return refused(format!("cannot give banger to {}: {vms} VM(s) of {name} exist", after.owner.name));
    }
    match before {
        Some(before) if before.network != after.network => refused(format!(
            "cannot change the network of guests: {vms} VM(s) have addresses in {}",
            before.network.subnet
        )),
        _ => Ok(()),
    }
}

/// Whose the stores are: an uninstall may have kept them.
fn former_uid(host: &Host, before: Option<&Install>) -> Result<Option<u32>, CliError> {
    use std::os::unix::fs::MetadataExt as _;
    if let Some(before) = before {
        return Ok(Some(before.owner.uid));
    }
    match host.at(STATE_DIRECTORY).symlink_metadata() {
        Ok(found) => Ok(Some(found.uid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::from(UnreadableError { path: STATE_DIRECTORY.into(), source: error })),
    }
}

/// Files where ours are to lie that we did not put there.
fn refuse_foreign_files(host: &Host, plan: &Plan) -> Result<(), CliError> {
    let mut foreign: Vec<PathBuf> = Vec::new();
    for wanted in plan.files.iter().filter(|wanted| !plan.manifest.has(&wanted.path)) {
        let found = manifest::compare_content(host, &wanted.path, &wanted.content)
            .map_err(|source| UnreadableError { path: wanted.path.clone(), source })?;
        if found == Found::Changed {
            foreign.push(wanted.path.clone());
        }
    }
    let Some(first) = foreign.first() else { return Ok(()) };
    let all = foreign.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(CliError::new(Kind::Refused, format!("refusing to replace what was not put there by `system install`: {all}"))
        .hint(format!("Move it away first: `mv {0} {0}.mine`.", first.display())))
}

/// A file cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at {}", path.display())]
pub struct UnreadableError {
    /// Which.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl Classified for UnreadableError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        vec![format!("Check `ls -l {}`.", self.path.display())]
    }
}

impl Plan {
    /// Keeps the time of the last change where nothing changes.
    fn unless_unchanged(mut self, host: &Host) -> Self {
        let Some(before) = &self.before else { return self };
        let same = Install {
            build: Build { updated_unix_s: before.build.updated_unix_s, ..self.install.build.clone() },
            ..self.install.clone()
        };
        let metadata = PathBuf::from(banger_proto::install::INSTALL_FILE);
        let others_intact =
            self.files.iter().filter(|wanted| wanted.path != metadata).all(|wanted| {
                matches!(manifest::compare_content(host, &wanted.path, &wanted.content), Ok(Found::Intact))
            });
        if same == *before && others_intact {
            let content = same.render().into_bytes();
            self.files
                .iter_mut()
                .filter(|wanted| wanted.path == metadata)
                .for_each(|wanted| wanted.content.clone_from(&content));
            self.install = same;
        }
        self
    }

    /// What the manifest will say: what earlier runs created, and what this one will.
    pub fn manifest_after(&self, host: &Host) -> Manifest {
        let mut manifest = self.manifest.clone();
        for directory in &self.directories {
            // The stores are banger's by their names, even if an uninstall kept them.
            let is_data = layout::DATA.contains(&directory.path);
            if is_data || !host.at(directory.path).exists() {
                manifest.note(Entry::Directory { path: directory.path.into() });
            }
        }
        for wanted in &self.files {
            if manifest.has(&wanted.path) || !host.at(&wanted.path).exists() {
                manifest.note(Entry::File { path: wanted.path.clone(), sha256: manifest::digest(&wanted.content) });
            }
        }
        manifest
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
