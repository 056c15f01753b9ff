//! The kernel modules out of a distribution's initrd: what a kernel needs whose modules nobody has at hand.
//!
//! The initrd itself is never booted; banger's own takes its place. Its bytes are untrusted: everything is
//! bounded, and only plain paths below `lib/modules/<release>` are written.
//!
//! ```text
//! initrd = (cpio | zeros)*  [gzip | zstd | xz | lz4 of (cpio | zeros)*]
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::import::is_release;
use super::package::MODULES;

/// Its name among the files of a user's kernel.
pub(super) const FILE: &str = "initrd";
/// Of the file, and of what it unpacks to.
const MOST_PACKED_BYTES: u64 = 1 << 30;
const MOST_BYTES: u64 = 2 << 30;
const MOST_ENTRIES: usize = 200_000;
const LONGEST_NAME: usize = 4096;
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// Why an initrd gave no modules.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// "read", "write" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Neither an archive nor a compressed one.
    #[error("it is no cpio archive, and not one compressed with gzip, zstd, xz or lz4")]
    Unknown,
    /// It cannot be decompressed.
    #[error("cannot decompress it")]
    Decompress {
        /// The cause.
        source: io::Error,
    },
    /// The archive contradicts itself, or is larger than any initrd.
    #[error("its archive is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// No modules, or those of several kernels.
    #[error("it has modules of {} kernels instead of one{}", found.len(), list(found))]
    NotOneKernel {
        /// Their releases.
        found: Vec<String>,
    },
    /// The kernel is said to be another one.
    #[error("its modules are those of {found}, not of {wanted}")]
    OtherRelease {
        /// In the initrd.
        found: String,
        /// As given.
        wanted: String,
    },
}

fn list(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!(": {}", found.join(", ")) }
}

fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InitrdError + use<> {
    let path = path.to_owned();
    move |source| InitrdError::File { action, path, source }
}

/// Unpacks the modules of `files/initrd` to `files/modules`; returns the release they are of, which is `wanted`
/// unless that is empty.
///
/// # Errors
/// See [`InitrdError`].
pub(super) fn take_modules(files: &Path, wanted: &str) -> Result<String, InitrdError> {
    let path = files.join(FILE);
    let mut packed = Vec::new();
    let file = File::open(&path).map_err(on("open", &path))?;
    file.take(MOST_PACKED_BYTES + 1).read_to_end(&mut packed).map_err(on("read", &path))?;
    if packed.len() as u64 > MOST_PACKED_BYTES {
        return Err(InitrdError::Malformed { reason: "it is larger than any initrd" });
    }
    let mut modules = Vec::new();
    each_file(&packed, &mut |name, content| modules.extend(module(name, content)))?;
    let mut found: Vec<String> = modules.iter().map(|module| module.release.clone()).collect();
    found.sort();
    found.dedup();
    let [release] = found.as_slice() else { return Err(InitrdError::NotOneKernel { found }) };
    if !wanted.is_empty() && wanted != release {
        return Err(InitrdError::OtherRelease { found: release.clone(), wanted: wanted.to_owned() });
    }
    let target = files.join(MODULES);
    for module in &modules {
        let path = target.join(&module.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(on("create", parent))?;
        }
        fs::write(&path, &module.content).map_err(on("write", &path))?;
    }
    // An initrd may come without the list; then everything it needs is among its modules.
    let builtin = target.join("modules.builtin");
    if !builtin.exists() {
        fs::write(&builtin, "").map_err(on("write", &builtin))?;
    }
    Ok(release.clone())
}

struct Module {
    release: String,
    /// Below `lib/modules/<release>`.
    path: PathBuf,
    content: Vec<u8>,
}

/// What a name and content are, if they belong to a kernel's modules.
fn module(name: &[u8], content: &[u8]) -> Option<Module> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.trim_start_matches("./").trim_start_matches('/');
    let below = name.strip_prefix("usr/").unwrap_or(name).strip_prefix("lib/modules/")?;
    let (release, path) = below.split_once('/')?;
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    (is_release(release) && plain && !path.is_empty()).then(|| Module {
        release: release.to_owned(),
        path: path.into(),
        content: content.to_vec(),
    })
}

/// Tells every regular file of every archive in it.
fn each_file(bytes: &[u8], tell: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), InitrdError> {
    let rest = archives(bytes, tell)?;
    if rest.is_empty() {
        return Ok(());
    }
    let unpacked = unpack(rest)?;
    // Compressed twice is no initrd that a kernel boots.
    if archives(&unpacked, tell)?.is_empty() { Ok(()) } else { Err(InitrdError::Unknown) }
}

/// The archives that `bytes` begins with; returns what is left, which does not begin with one.
fn archives<'a>(mut bytes: &'a [u8], tell: &mut dyn FnMut(&[u8], &[u8])) -> Result<&'a [u8], InitrdError> {
    let mut entries = 0;
    loop {
        // Archives are padded with zeros, to any length.
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        bytes = &bytes[start..];
        if !(bytes.starts_with(b"070701") || bytes.starts_with(b"070702")) {
            return Ok(bytes);
        }
        bytes = archive(bytes, &mut entries, tell)?;
    }
}

/// One archive up to its trailer; returns what follows.
fn archive<'a>(
    bytes: &'a [u8],
    entries: &mut usize,
    tell: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<&'a [u8], InitrdError> {
    let malformed = |reason| InitrdError::Malformed { reason };
    // Everything is padded to four bytes, counted from the archive's begin.
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + HEADER).ok_or(malformed("it ends in a header"))?;
        if !(header.starts_with(b"070701") || header.starts_with(b"070702")) {
            return Err(malformed("an entry has no header"));
        }
        *entries += 1;
        if *entries > MOST_ENTRIES {
            return Err(malformed("it has too many entries"));
        }
        let field = |index: usize| {
            let text = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).ok();
            text.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or(malformed("a header's number is none"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)? as usize, field(11)? as usize);
        if name_size == 0 || name_size > LONGEST_NAME {
            return Err(malformed("a name has an impossible length"));
        }
        let name_at = at + HEADER;
        let name = bytes.get(name_at..name_at + name_size - 1).ok_or(malformed("it ends in a name"))?;
        let content_at = (name_at + name_size).next_multiple_of(4);
        if name == TRAILER {
            return Ok(bytes.get(content_at..).unwrap_or_default());
        }
        let content = content_at.checked_add(size).and_then(|end| bytes.get(content_at..end));
        let content = content.ok_or(malformed("it ends in a file"))?;
        if mode & 0o170_000 == 0o100_000 {
            tell(name, content);
        }
        at = (content_at + size).next_multiple_of(4);
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, InitrdError> {
    let decompress = |source| InitrdError::Decompress { source };
    let decoder: Box<dyn Read + '_> = if packed.starts_with(&[0x1F, 0x8B]) {
        Box::new(flate2::read::MultiGzDecoder::new(packed))
    } else if packed.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(packed).map_err(decompress)?)
    } else if packed.starts_with(b"\xFD7zXZ\0") {
        Box::new(xz2::read::XzDecoder::new_multi_decoder(packed))
    } else if packed.starts_with(&[0x02, 0x21, 0x4C, 0x18]) || packed.starts_with(&[0x04, 0x22, 0x4D, 0x18]) {
        Box::new(lz4_flex::frame::FrameDecoder::new(packed))
    } else {
        return Err(InitrdError::Unknown);
    };
    let mut unpacked = Vec::new();
    decoder.take(MOST_BYTES + 1).read_to_end(&mut unpacked).map_err(decompress)?;
    if unpacked.len() as u64 > MOST_BYTES {
        return Err(InitrdError::Malformed { reason: "it unpacks to more than any initrd" });
    }
    Ok(unpacked)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cpio::CpioWriter;
    use super::*;

    fn cpio(files: &[(&str, &str)]) -> Vec<u8> {
        let mut cpio = CpioWriter::new();
        cpio.directory("lib", 0o755);
        for (name, content) in files {
            cpio.file(name, 0o644, content.as_bytes());
        }
        cpio.finish()
    }

    fn take(initrd: &[u8], wanted: &str) -> Result<(String, tempfile::TempDir), InitrdError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), initrd).unwrap();
        take_modules(directory.path(), wanted).map(|release| (release, directory))
    }

    fn packed(with: &str, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match with {
            "gzip" => {
                let mut encoder = flate2::read::GzEncoder::new(plain, flate2::Compression::fast());
                encoder.read_to_end(&mut out).unwrap();
            }
            "zstd" => out = zstd::encode_all(plain, 1).unwrap(),
            "xz" => {
                xz2::read::XzEncoder::new(plain, 1).read_to_end(&mut out).unwrap();
            }
            "lz4" => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
                io::Write::write_all(&mut encoder, plain).unwrap();
                encoder.finish().unwrap();
            }
            _ => out = plain.to_vec(),
        }
        out
    }

    #[test]
    fn modules_are_found_behind_microcode_in_every_compression() {
        let microcode = cpio(&[("kernel/x86/microcode/GenuineIntel.bin", "patch")]);
        let main = cpio(&[
            ("init", "#!/bin/sh"),
            ("usr/lib/modules/6.1-x/modules.dep", "kernel/a.ko:\n"),
            ("./lib/modules/6.1-x/kernel/a.ko", "code"),
            ("lib/modules/6.1-x/../../../../escape", "no"),
        ]);
        for with in ["none", "gzip", "zstd", "xz", "lz4"] {
            let initrd = [microcode.clone(), packed(with, &main)].concat();
            let (release, files) = take(&initrd, "").unwrap();
            assert_eq!(release, "6.1-x", "{with}");
            let at = |path: &str| fs::read_to_string(files.path().join("modules").join(path)).unwrap();
            assert_eq!((at("modules.dep"), at("kernel/a.ko")), ("kernel/a.ko:\n".into(), "code".into()));
            assert_eq!(at("modules.builtin"), "");
            assert!(!files.path().join("escape").exists() && !files.path().parent().unwrap().join("escape").exists());
        }
    }

    #[test]
    fn another_kernel_several_and_none_are_refused_by_name() {
        let one = cpio(&[("lib/modules/6.1-x/modules.dep", "")]);
        let error = take(&one, "6.1-y").err().unwrap();
        assert_eq!(error.to_string(), "its modules are those of 6.1-x, not of 6.1-y");
        let two = cpio(&[("lib/modules/6.1-x/modules.dep", ""), ("lib/modules/6.1-y/modules.dep", "")]);
        assert!(take(&two, "").err().unwrap().to_string().ends_with("of 2 kernels instead of one: 6.1-x, 6.1-y"));
        assert!(matches!(take(&cpio(&[]), ""), Err(InitrdError::NotOneKernel { found }) if found.is_empty()));
        assert!(matches!(take(b"MZ something", ""), Err(InitrdError::Unknown)));
    }

    #[test]
    fn no_cut_and_no_flipped_byte_of_an_initrd_is_more_than_an_error() {
        let whole =
            cpio(&[("lib/modules/6.1-x/modules.dep", "kernel/a.ko:\n"), ("lib/modules/6.1-x/kernel/a.ko", "c")]);
        for initrd in [whole.clone(), packed("gzip", &whole)] {
            for at in 0..initrd.len() {
                let _ = each_file(&initrd[..at], &mut |_, _| {});
                let mut bent = initrd.clone();
                bent[at] ^= 0xFF;
                let _ = each_file(&bent, &mut |_, _| {});
            }
        }
    }
}
