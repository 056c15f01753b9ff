//! Layers, lowest first, into one filesystem: what each adds, replaces and hides.
//!
//! ```text
//! a/b          added; replaces what was there, a directory over a directory only changes its owner and mode
//! a/.wh.b      a/b of the layers below is hidden; what this layer itself adds there stays, before or after
//! a/.wh..wh..opq   the same for everything in a
//! ```
//! Nothing is unpacked, so no path can lead outside. Paths that try (`..`, a slash in front, through a link
//! made by the same layer or past the root) are refused all the same: an image that contains them is not
//! what it seems. A link of a layer below is followed within the image, as `lib -> usr/lib` must be.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io::Read;

use crate::artifact::ext4::{Ext4Error, Ext4Writer, Found};
use crate::artifact::tarball::{self, Member, MemberKind, SHOWN, TarballError};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of a union filesystem that found its way into layers; it hides nothing.
const UNION_METADATA: &[u8] = b".wh..wh.";
/// As many as the kernel follows.
const MOST_LINKS_FOLLOWED: usize = 40;
const OS_RELEASE: &[u8] = b"os-release";

/// What a stack of layers may become.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, directories, links: those that a later layer hides included.
    pub entries: u64,
    /// Bytes of content, holes included.
    pub content_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, content_bytes: 64 << 30 }
    }
}

/// Why a layer could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// It is no tar stream, or an entry has no place in a filesystem.
    #[error("cannot read the layer")]
    Tarball(#[from] TarballError),
    /// An entry that no honest image contains.
    #[error("the layer's entry {path:?} is refused: {reason}")]
    Hostile {
        /// As written.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Too much.
    #[error("the image has more than {most} {what}")]
    TooLarge {
        /// "bytes of content", "entries".
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// The entry cannot be stored.
    #[error("cannot add the layer's entry {path:?}")]
    Store {
        /// As written.
        path: String,
        /// The cause.
        source: Ext4Error,
    },
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Applies layers to a writer.
pub struct Flattener<'w> {
    writer: &'w mut Ext4Writer,
    limits: Limits,
    content: u64,
    /// Paths this layer has added, with everything above them.
    touched: HashSet<Vec<u8>>,
    /// Those of them that are symbolic links.
    links: HashSet<Vec<u8>>,
    /// Inode → text of every file called os-release.
    releases: BTreeMap<u32, Vec<u8>>,
    dropped: BTreeSet<Vec<u8>>,
}

impl<'w> Flattener<'w> {
    /// Layers go on top of what `writer` holds already.
    pub fn new(writer: &'w mut Ext4Writer, limits: Limits) -> Self {
        let (touched, links, releases, dropped) = Default::default();
        Self { writer, limits, content: 0, touched, links, releases, dropped }
    }

    /// Applies the next layer.
    ///
    /// # Errors
    /// See [`FlattenError`]; the filesystem must not be finished afterwards.
    pub fn apply(&mut self, layer: impl Read) -> Result<(), FlattenError> {
        self.touched.clear();
        self.links.clear();
        tarball::each_member(layer, &mut |member, content| self.member(member, content))
    }

    /// Names of extended attributes no Linux filesystem stores, left out.
    pub fn dropped_attributes(&self) -> Vec<String> {
        self.dropped.iter().map(|name| text(name)).collect()
    }

    /// Where `path` leads when every link is followed within the image, with what is there.
    pub fn resolve(&self, path: &str) -> Option<(Vec<Vec<u8>>, Found)> {
        let names = self.walk(split(path.as_bytes()), Follow::Everything).ok()?;
        let found = self.writer.look(&refs(&names))?;
        Some((names, found))
    }

    /// Text of the os-release file at `path`, links followed.
    pub fn os_release(&self, path: &str) -> Option<&[u8]> {
        match self.resolve(path)?.1 {
            Found::File { inode, .. } => self.releases.get(&inode).map(Vec::as_slice),
            _ => None,
        }
    }

    fn member(&mut self, mut member: Member, content: &mut dyn Read) -> Result<(), FlattenError> {
        let written = text(&member.path);
        let hostile = |reason| FlattenError::Hostile { path: written.clone(), reason };
        if member.absolute {
            return Err(hostile("it begins with a slash"));
        }
        let mut names = split(&member.path);
        let targets = if let MemberKind::HardLink(target) = &member.kind { split(target) } else { Vec::new() };
        if names.iter().chain(&targets).any(|name| name == b"..") {
            return Err(hostile("it contains '..'"));
        }
        let Some(name) = names.pop() else {
            if member.kind != MemberKind::Directory {
                return Err(hostile("it would replace the root"));
            }
            keep_storable(&mut member, &mut self.dropped);
            return self.store(member, content);
        };
        let mut place = self.walk(names, Follow::LowerLayers).map_err(hostile)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if name == OPAQUE {
                self.hide_below(&place);
            } else if !name.starts_with(UNION_METADATA) {
                if matches!(hidden, b"" | b"." | b"..") {
                    return Err(hostile("it hides no possible name"));
                }
                place.push(hidden.to_vec());
                self.hide(&place);
            }
            return Ok(());
        }
        place.push(name);
        if let MemberKind::HardLink(target) = &mut member.kind {
            let mut names = targets;
            let last = names.pop().ok_or_else(|| hostile("it is a link to the root"))?;
            let mut resolved = self.walk(names, Follow::LowerLayers).map_err(hostile)?;
            resolved.push(last);
            *target = resolved.join(&b'/');
        }
        member.path = place.join(&b'/');
        keep_storable(&mut member, &mut self.dropped);
        self.count(&member)?;
        let is_link = matches!(member.kind, MemberKind::Symlink(_));
        let release = place.last().is_some_and(|name| name == OS_RELEASE) && member.kind == MemberKind::File;
        if release && member.size <= SHOWN {
            let mut small = Vec::new();
            content.read_to_end(&mut small).map_err(|source| TarballError::Read { source })?;
            self.store(member, &mut small.as_slice())?;
            if let Some(Found::File { inode, .. }) = self.writer.look(&refs(&place)) {
                self.releases.insert(inode, small);
            }
        } else {
            self.store(member, content)?;
        }
        self.touch(&place, is_link);
        Ok(())
    }

    fn store(&mut self, member: Member, content: &mut dyn Read) -> Result<(), FlattenError> {
        let path = text(&member.path);
        tarball::add(self.writer, member, content).map_err(|source| FlattenError::Store { path, source })
    }

    fn count(&mut self, member: &Member) -> Result<(), FlattenError> {
        self.content = self.content.saturating_add(member.size);
        let Limits { entries, content_bytes } = self.limits;
        if self.content > content_bytes {
            return Err(FlattenError::TooLarge { what: "bytes of content", most: content_bytes });
        }
        if self.writer.entries() > entries {
            return Err(FlattenError::TooLarge { what: "entries", most: entries });
        }
        Ok(())
    }

    fn touch(&mut self, place: &[Vec<u8>], is_link: bool) {
        let path = place.join(&b'/');
        if is_link {
            self.links.insert(path);
        } else {
            self.links.remove(&path);
        }
        for length in (1..=place.len()).rev() {
            if !self.touched.insert(place[..length].join(&b'/')) {
                break;
            }
        }
    }

    /// Hides what the layers below put at `place`; what this layer added stays.
    fn hide(&mut self, place: &[Vec<u8>]) {
        let path = place.join(&b'/');
        if self.touched.contains(&path) {
            self.hide_below(place);
        } else {
            self.writer.remove(&path);
        }
    }

    fn hide_below(&mut self, place: &[Vec<u8>]) {
        for name in self.writer.names_in(&refs(place)) {
            let mut child = place.to_vec();
            child.push(name);
            self.hide(&child);
        }
    }

    /// Follows links in `names`; what does not exist is taken as it is.
    fn walk(&self, names: Vec<Vec<u8>>, follow: Follow) -> Result<Vec<Vec<u8>>, &'static str> {
        let mut rest: VecDeque<Vec<u8>> = names.into();
        let mut place: Vec<Vec<u8>> = Vec::new();
        let mut followed = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                // Only a link's target can contain it.
                if place.pop().is_none() && follow == Follow::LowerLayers {
                    return Err("it leads through a link past the root");
                }
                continue;
            }
            place.push(name);
            let Some(Found::Symlink(target)) = self.writer.look(&refs(&place)) else { continue };
            if follow == Follow::LowerLayers && self.links.contains(&place.join(&b'/')) {
                return Err("it leads through a link of the same layer");
            }
            followed += 1;
            if followed > MOST_LINKS_FOLLOWED {
                return Err("it leads through too many links");
            }
            place.pop();
            if target.starts_with(b"/") {
                place.clear();
            }
            for name in split(&target).into_iter().rev() {
                rest.push_front(name);
            }
        }
        Ok(place)
    }
}

/// Which links a path may lead through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// Those of the layers below, within the image.
    LowerLayers,
    /// All, as a process in the image would; `..` above the root is the root.
    Everything,
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
}

fn refs(names: &[Vec<u8>]) -> Vec<&[u8]> {
    names.iter().map(Vec::as_slice).collect()
}

/// Attributes of other systems cannot be set on Linux either.
fn keep_storable(member: &mut Member, dropped: &mut BTreeSet<Vec<u8>>) {
    member.metadata.xattrs.retain(|name, _| {
        let storable = [&b"user."[..], b"trusted.", b"security."].iter().any(|space| name.starts_with(space))
            || matches!(name.as_slice(), b"system.posix_acl_access" | b"system.posix_acl_default");
        if !storable && dropped.len() < 16 {
            dropped.insert(name.clone());
        }
        storable
    });
}
