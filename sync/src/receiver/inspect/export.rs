//! Hands the guest's work over: as a patch, as changed files, as a pack of its commits. Index, references and tree
//! stay as they are; the tree that includes uncommitted and untracked files is made beside them and removed again.

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
use crate::wire::wire_kind;
use git::Git;

/// git's name for no files at all.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Where the temporary index and objects are; gone when dropped.
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
        fs::create_dir_all(place.join("objects"))?;
        let scratch = Self(place);
        // With its stat data, or git would read every file.
        match fs::copy(root.join(".git/index"), scratch.0.join("index")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(scratch),
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
    let scratch = Scratch::make(root).map_err(failed("make room for an export in"))?;
    let git = Git::beside(root, &scratch.0);
    let text =
        |arguments: &[&str]| git.output(arguments).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
    // git's own idea of what changed has a resolution of a second here. What is known to be different is forgotten
    // first, so that it is read.
    let different: Vec<u8> =
        work.changed.keys().chain(work.untracked.keys()).flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
    if !different.is_empty() {
        git.stream(&["update-index", "-z", "--force-remove", "--stdin"], &different, |_| Ok::<(), io::Error>(()))
            .map_err(failed("read the index of"))?;
    }
    git.output(&["add", "-A", "--", "."]).map_err(failed("add up the files of"))?;
    let tree = text(&["write-tree"]).map_err(failed("write the tree of"))?;
    // No commit yet is no error.
    let head = text(&["rev-parse", "-q", "--verify", "HEAD^{commit}"]).unwrap_or_default();
    let base = hexadecimal(&request.base);
    if !base.is_empty() && git.output(&["cat-file", "-e", &format!("{base}^{{commit}}")]).is_err() {
        return Err(ReceiverError::UnknownBase { base });
    }
    let new_commits = if base.is_empty() { head.clone() } else { format!("{base}..HEAD") };
    let commits = match head.as_str() {
        "" => 0,
        _ => text(&["rev-list", "--count", &new_commits, "--"])
            .map_err(failed("count the commits of"))?
            .parse()
            .unwrap_or(0),
    };
    send(Reply::ExportSummary(ExportSummary {
        branch: text(&["symbolic-ref", "-q", "HEAD"]).unwrap_or_default(),
        head: from_hexadecimal(&head),
        commits,
        tree: from_hexadecimal(&tree),
        fingerprint: before.as_bytes().to_vec(),
    }))?;
    let from = if base.is_empty() { EMPTY_TREE } else { &base };
    if request.patch {
        let arguments =
            ["diff-tree", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let arguments = [&arguments[..], &["--no-color", "-r", from, &tree]].concat();
        stream(&git, (&arguments, b""), ExportPart::Patch, &mut send)?;
    }
    if request.changes {
        let arguments = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", from, &tree];
        let raw = git.output(&arguments).map_err(failed("compare the trees of"))?;
        send_changes(home, &raw, &mut send)?;
    }
    if request.pack && commits > 0 {
        let revisions = if base.is_empty() { "HEAD\n".to_owned() } else { format!("HEAD\n^{base}\n") };
        let arguments = ["pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset"];
        stream(&git, (&arguments, revisions.as_bytes()), ExportPart::Pack, &mut send)?;
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
    raw: &[u8],
    send: &mut impl FnMut(Reply) -> Result<(), ReceiverError>,
) -> Result<(), ReceiverError> {
    let failed = |source| ReceiverError::Export { action: "read the changed files of", source };
    let mut walker = Walker::new(home.root.try_clone().map_err(failed)?);
    let mut fields = raw.split(|byte| *byte == 0);
    while let (Some(about), Some(path)) = (fields.next(), fields.next()) {
        let about = String::from_utf8_lossy(about);
        let words: Vec<&str> = about.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old_id, ..] = words[..] else { continue };
        let path = TreePath::parse(path).map_err(|source| failed(io::Error::other(source)))?;
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
