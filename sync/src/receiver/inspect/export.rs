//! Hands the guest's work over: as a patch, as changed files, as a pack of its commits. Index, references and tree
//! stay as they are, those of submodules as well; the tree that includes uncommitted and untracked files is made beside them and removed again.

pub mod git;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::{
    ExportChange, ExportData, ExportEnd, ExportPart, ExportRequest, ExportSummary, WireKind,
};

use super::work::Work;
use crate::dir::Walker;
use crate::entry::EntryKind;
use crate::frames::CHUNK;
use crate::path::TreePath;
use crate::receiver::error::ReceiverError;
use crate::receiver::home::Home;
use crate::receiver::module::{self, Module};
use crate::wire::wire_kind;
use git::Git;

/// git's name for no files at all.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Where the temporary indexes and objects are; gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(root: &Path) -> io::Result<Self> {
        let memory = root.join(".git/banger");
        // Of exports that were killed; the lock says that none is running.
        for entry in fs::read_dir(&memory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("export-") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let place = memory.join(format!("export-{}", std::process::id()));
        fs::create_dir_all(place.join("nothing"))?;
        Ok(Self(place))
    }

    /// For one repository.
    fn room(&self, number: usize, git_dir: &Path) -> io::Result<PathBuf> {
        let room = self.0.join(number.to_string());
        fs::create_dir_all(room.join("objects"))?;
        // With its stat data, or git would read every file.
        match fs::copy(git_dir.join("index"), room.join("index")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(room),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "the temporary objects of an export stay");
        }
    }
}

/// The tree's own repository or a submodule, with everything in it added up.
struct Repository {
    git: Git,
    /// Its place in the tree, with a slash behind; empty for the tree's own.
    prefix: Vec<u8>,
    /// What it is compared with.
    from: String,
    /// Everything that is there now.
    tree: String,
    /// Options for comparing the two.
    options: Vec<&'static str>,
}

impl Repository {
    /// `base`: a commit, or nothing at all.
    fn add_up(
        (git, prefix): (Git, Vec<u8>),
        base: &str,
        work: &Work,
        modules: &[Module],
    ) -> Result<Self, ReceiverError> {
        let failed = |action| move |source| ReceiverError::Export { action, source };
        let inside = |path: &TreePath| {
            let inner = |module: &&Module| {
                let place = [module.name.path.as_bytes(), b"/"].concat();
                place.len() > prefix.len() && path.as_bytes().starts_with(&place)
            };
            path.as_bytes().starts_with(&prefix) && !modules.iter().any(|module| inner(&module))
        };
        // git's own idea of what changed has a resolution of a second here. What is known to be different is forgotten
        // first, so that it is read.
        let different: Vec<u8> = (work.changed.keys().chain(work.untracked.keys()))
            .filter(|path| inside(path))
            .flat_map(|path| [&path.as_bytes()[prefix.len()..], b"\0"].concat())
            .collect();
        if !different.is_empty() {
            git.stream(&["update-index", "-z", "--force-remove", "--stdin"], &different, |_| Ok::<(), io::Error>(()))
                .map_err(failed("read the index of"))?;
        }
        git.output(&["add", "-A", "--", "."]).map_err(failed("add up the files of"))?;
        let tree = text(&git, &["write-tree"]).map_err(failed("write the tree of"))?;
        let from = if base.is_empty() { EMPTY_TREE } else { base }.to_owned();
        // What is in a submodule comes by itself, file by file.
        let options = if modules.is_empty() { Vec::new() } else { vec!["--ignore-submodules=all"] };
        Ok(Self { git, prefix, from, tree, options })
    }

    fn patch(&self, send: &mut impl FnMut(Reply) -> Result<(), ReceiverError>) -> Result<(), ReceiverError> {
        let arguments =
            ["diff-tree", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let prefix = String::from_utf8_lossy(&self.prefix);
        let (old, new) = (format!("--src-prefix=a/{prefix}"), format!("--dst-prefix=b/{prefix}"));
        let last = ["--no-color", &old, &new, "-r", &self.from, &self.tree];
        stream(&self.git, (&[&arguments[..], &self.options, &last].concat(), b""), ExportPart::Patch, send)
    }

    fn changes(
        &self,
        home: &Home,
        send: &mut impl FnMut(Reply) -> Result<(), ReceiverError>,
    ) -> Result<(), ReceiverError> {
        let arguments = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev"];
        let raw = self.git.output(&[&arguments[..], &self.options, &[&self.from, &self.tree]].concat());
        let raw = raw.map_err(|source| ReceiverError::Export { action: "compare the trees of", source })?;
        send_changes(home, &self.prefix, &raw, send)
    }
}

fn text(git: &Git, arguments: &[&str]) -> io::Result<String> {
    git.output(arguments).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Serves one export.
///
/// # Errors
/// [`ReceiverError`].
pub fn run(
    home: &Home,
    root: &Path,
    request: &ExportRequest,
    mut send: impl FnMut(Reply) -> Result<(), ReceiverError>,
) -> Result<(), ReceiverError> {
    let failed = |action| move |source| ReceiverError::Export { action, source };
    let work = Work::observe(home)?;
    let before = work.fingerprint();
    let modules = module::known(home)?;
    let scratch = Scratch::make(root).map_err(failed("make room for an export in"))?;
    let room = |number, git_dir: &Path| scratch.room(number, git_dir).map_err(failed("make room for an export in"));
    let base = hexadecimal(&request.base);
    let git_dir = root.join(".git");
    let git = Git::beside(root, &git_dir, &room(0, &git_dir)?);
    if !base.is_empty() {
        match git.output(&["cat-file", "-e", &format!("{base}^{{commit}}")]) {
            Ok(_) => {}
            // No git at all.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(failed("read the commits of")(source));
            }
            Err(_) => return Err(ReceiverError::UnknownBase { base }),
        }
    }
    let mut repositories = vec![Repository::add_up((git, Vec::new()), &base, &work, &modules)?];
    for (number, module) in (1..).zip(&modules) {
        let git_dir = module.name.git_dir(root);
        let place = module.name.work_tree(root);
        // Gone in the guest: then everything in it is.
        let place = if place.is_dir() { place } else { scratch.0.join("nothing") };
        let git = Git::beside(&place, &git_dir, &room(number, &git_dir)?);
        let prefix = [module.name.path.as_bytes(), b"/"].concat();
        repositories.push(Repository::add_up((git, prefix), module.base(), &work, &modules)?);
    }
    let Repository { git, tree, .. } = &repositories[0];
    // No commit yet is no error.
    let head = text(git, &["rev-parse", "-q", "--verify", "HEAD^{commit}"]).unwrap_or_default();
    let new_commits = if base.is_empty() { head.clone() } else { format!("{base}..HEAD") };
    let commits = match head.as_str() {
        "" => 0,
        _ => text(git, &["rev-list", "--count", &new_commits, "--"])
            .map_err(failed("count the commits of"))?
            .parse()
            .unwrap_or(0),
    };
    send(Reply::ExportSummary(ExportSummary {
        branch: text(git, &["symbolic-ref", "-q", "HEAD"]).unwrap_or_default(),
        head: from_hexadecimal(&head),
        commits,
        tree: from_hexadecimal(tree),
        fingerprint: before.as_bytes().to_vec(),
    }))?;
    for repository in repositories.iter().filter(|_| request.patch) {
        repository.patch(&mut send)?;
    }
    for repository in repositories.iter().filter(|_| request.changes) {
        repository.changes(home, &mut send)?;
    }
    if request.pack && commits > 0 {
        let revisions = if base.is_empty() { "HEAD\n".to_owned() } else { format!("HEAD\n^{base}\n") };
        let arguments = ["pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset"];
        stream(git, (&arguments, revisions.as_bytes()), ExportPart::Pack, &mut send)?;
    }
    let consistent = Work::observe(home)?.fingerprint() == before;
    send(Reply::ExportEnd(ExportEnd { consistent }))
}

fn stream(
    git: &Git,
    (arguments, input): (&[&str], &[u8]),
    part: ExportPart,
    send: &mut impl FnMut(Reply) -> Result<(), ReceiverError>,
) -> Result<(), ReceiverError> {
    git.stream(arguments, input, |data| {
        send(Reply::ExportData(ExportData { part: part.into(), data: data.to_vec() })).map_err(Taken::Stream)
    })
    .map_err(|error| match error {
        Taken::Stream(error) => error,
        Taken::Git(source) => ReceiverError::Export { action: "export the work of", source },
    })
}

enum Taken {
    Stream(ReceiverError),
    Git(io::Error),
}

impl From<io::Error> for Taken {
    fn from(source: io::Error) -> Self {
        Self::Git(source)
    }
}

/// From git's raw listing: `:old new old-id new-id status`, NUL, path, NUL.
fn send_changes(
    home: &Home,
    prefix: &[u8],
    raw: &[u8],
    send: &mut impl FnMut(Reply) -> Result<(), ReceiverError>,
) -> Result<(), ReceiverError> {
    let failed = |source| ReceiverError::Export { action: "read the changed files of", source };
    let mut walker = home.walker()?;
    let mut fields = raw.split(|byte| *byte == 0);
    while let (Some(about), Some(path)) = (fields.next(), fields.next()) {
        let about = String::from_utf8_lossy(about);
        let words: Vec<&str> = about.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old_id, ..] = words[..] else { continue };
        let path = TreePath::parse(&[prefix, path].concat()).map_err(|source| failed(io::Error::other(source)))?;
        let content = read(&mut walker, &path, new_mode).map_err(ReceiverError::at("read", &path))?;
        let old_kind = kind_of_mode(old_mode);
        send(Reply::ExportChange(ExportChange {
            path: path.as_bytes().to_vec(),
            kind: content.as_ref().map_or(WireKind::Unspecified, |(kind, _)| wire_kind(*kind)).into(),
            size: content.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64),
            digest: content.as_ref().map(|(_, bytes)| blake3::hash(bytes).as_bytes().to_vec()).unwrap_or_default(),
            old_kind: old_kind.map_or(WireKind::Unspecified, wire_kind).into(),
            old_blob: if old_kind.is_some() { from_hexadecimal(old_id) } else { Vec::new() },
        }))?;
        for data in content.iter().flat_map(|(_, bytes)| bytes.chunks(CHUNK)) {
            send(Reply::ExportData(ExportData { part: ExportPart::Content.into(), data: data.to_vec() }))?;
        }
    }
    Ok(())
}

/// The file as it lies in the tree, with its own line endings; `None` if it is gone or no file.
fn read(walker: &mut Walker, path: &TreePath, new_mode: &str) -> io::Result<Option<(EntryKind, Vec<u8>)>> {
    if kind_of_mode(new_mode).is_none() {
        return Ok(None);
    }
    let (dir, name) = walker.parent(path)?;
    let Some(kind) = dir.stamp(name)?.and_then(|stamp| stamp.kind()) else { return Ok(None) };
    let mut bytes = Vec::new();
    match kind {
        EntryKind::Symlink => bytes = dir.read_link(name)?,
        EntryKind::File | EntryKind::Executable => {
            io::Read::read_to_end(&mut dir.open_file(name)?, &mut bytes)?;
        }
    }
    Ok(Some((kind, bytes)))
}

fn kind_of_mode(mode: &str) -> Option<EntryKind> {
    match mode {
        "100644" => Some(EntryKind::File),
        "100755" => Some(EntryKind::Executable),
        "120000" => Some(EntryKind::Symlink),
        _ => None,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
