//! Takes the uncompressed kernel (ELF) out of a bzImage.
//!
//! The setup header says where the compressed payload lies (Documentation/arch/x86/boot.rst, fields
//! setup_sects, payload_offset, payload_length); its last four bytes are the uncompressed size. Input is
//! untrusted: every offset is checked and the output is bounded. It reads and writes no files.

use std::io::Read;

/// Larger than any distribution's kernel.
const LARGEST: u64 = 512 << 20;
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// Why no kernel could be extracted.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// No setup header with the fields needed.
    #[error("this is not a bzImage of boot protocol 2.08 or later: {reason}")]
    NotBzImage {
        /// Which check failed.
        reason: &'static str,
    },
    /// A compressor nobody uses for distribution kernels any more.
    #[error("the kernel is compressed with {compressor}, which banger does not read")]
    UnsupportedCompressor {
        /// Its name.
        compressor: &'static str,
    },
    /// Damaged payload.
    #[error("cannot decompress the kernel with {compressor}")]
    Decompress {
        /// Its name.
        compressor: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Not what the header promised.
    #[error("the decompressed kernel has {actual} bytes, but the image says {expected}")]
    WrongSize {
        /// What came out.
        actual: u64,
        /// What the size word says.
        expected: u64,
    },
    /// Decompressed to something else.
    #[error("the decompressed kernel is not an ELF file")]
    NotElf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compressor {
    None,
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

/// The ELF kernel inside `image`.
///
/// # Errors
/// See [`BzImageError`].
pub fn extract_vmlinux(image: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let payload = find_payload(image)?;
    let (body, size_word) = payload.split_at(payload.len() - 4);
    let expected = u64::from(u32::from_le_bytes([size_word[0], size_word[1], size_word[2], size_word[3]]));
    let elf = match detect(payload)? {
        Compressor::None => payload.to_vec(),
        Compressor::Gzip => bounded("gzip", flate2::read::GzDecoder::new(payload))?,
        Compressor::Xz => bounded("xz", xz2::read::XzDecoder::new(body))?,
        Compressor::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(body).map_err(|source| failed("zstd", source))?;
            bounded("zstd", decoder.single_frame())?
        }
        Compressor::Lz4 => lz4_legacy(body, expected)?,
    };
    if detect(payload)? != Compressor::None && elf.len() as u64 != expected {
        return Err(BzImageError::WrongSize { actual: elf.len() as u64, expected });
    }
    if !elf.starts_with(b"\x7fELF") {
        return Err(BzImageError::NotElf);
    }
    Ok(elf)
}

fn find_payload(image: &[u8]) -> Result<&[u8], BzImageError> {
    let not = |reason| BzImageError::NotBzImage { reason };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(not("the signature HdrS is missing"));
    }
    let version = image.get(0x206..0x208).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if version.is_none_or(|version| version < 0x0208) {
        return Err(not("the boot protocol is too old"));
    }
    let word = |at: usize| {
        image.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let (Some(offset), Some(length)) = (word(0x248), word(0x24C)) else {
        return Err(not("the header is cut off"));
    };
    // A zero means four, for very old boot loaders.
    let sectors = match image[0x1F1] {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * 512 + offset;
    let payload = image.get(start..start.saturating_add(length)).ok_or(not("the payload lies outside the file"))?;
    if payload.len() < 8 { Err(not("the payload is empty")) } else { Ok(payload) }
}

fn detect(payload: &[u8]) -> Result<Compressor, BzImageError> {
    let unsupported = |compressor| Err(BzImageError::UnsupportedCompressor { compressor });
    match payload {
        [0x1f, 0x8b, ..] => Ok(Compressor::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compressor::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compressor::Zstd),
        [0x02, 0x21, 0x4c, 0x18, ..] => Ok(Compressor::Lz4),
        [0x7f, b'E', b'L', b'F', ..] => Ok(Compressor::None),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
        [0x5d, 0, 0, ..] => unsupported("lzma"),
        [0x89, b'L', b'Z', b'O', ..] => unsupported("lzo"),
        _ => unsupported("an unknown compressor"),
    }
}

fn failed(compressor: &'static str, source: std::io::Error) -> BzImageError {
    BzImageError::Decompress { compressor, source }
}

fn bounded(compressor: &'static str, decoder: impl Read) -> Result<Vec<u8>, BzImageError> {
    let mut out = Vec::new();
    decoder.take(LARGEST + 1).read_to_end(&mut out).map_err(|source| failed(compressor, source))?;
    if out.len() as u64 > LARGEST {
        return Err(failed(compressor, std::io::Error::other("the output exceeds 512 MiB")));
    }
    Ok(out)
}

/// The legacy frame: magic, then blocks of a length word and at most 8 MiB of content each.
fn lz4_legacy(body: &[u8], expected: u64) -> Result<Vec<u8>, BzImageError> {
    let broken = |text: String| failed("lz4", std::io::Error::other(text));
    let mut out = Vec::new();
    let mut rest = &body[4..];
    while (out.len() as u64) < expected {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| broken("a block is missing".to_owned()))?;
        let length = u32::from_le_bytes(*length) as usize;
        let block = after.get(..length).ok_or_else(|| broken("a block is cut off".to_owned()))?;
        out.extend(lz4_flex::block::decompress(block, LZ4_LEGACY_BLOCK).map_err(|error| broken(error.to_string()))?);
        rest = &after[length..];
        if out.len() as u64 > LARGEST {
            return Err(broken("the output exceeds 512 MiB".to_owned()));
        }
    }
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn kernel() -> Vec<u8> {
        let mut elf = b"\x7fELF".to_vec();
        elf.extend((0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()));
        elf
    }

    fn image(mut payload: Vec<u8>, append_size: Option<u32>) -> Vec<u8> {
        if let Some(size) = append_size {
            payload.extend(size.to_le_bytes());
        }
        let mut image = vec![0u8; 3 * 512 + 40];
        image[0x1F1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
        image[0x248..0x24C].copy_from_slice(&40u32.to_le_bytes());
        image[0x24C..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image.extend([0xAA; 700]);
        image
    }

    fn size(elf: &[u8]) -> Option<u32> {
        Some(u32::try_from(elf.len()).unwrap())
    }

    fn lz4(elf: &[u8]) -> Vec<u8> {
        let mut out = vec![0x02, 0x21, 0x4c, 0x18];
        for chunk in elf.chunks(LZ4_LEGACY_BLOCK) {
            let block = lz4_flex::block::compress(chunk);
            out.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            out.extend(block);
        }
        out
    }

    #[test]
    fn every_supported_compressor_gives_the_kernel_back() {
        let elf = kernel();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&elf).unwrap();
        let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&elf).unwrap();
        let zstd = zstd::encode_all(elf.as_slice(), 1).unwrap();
        for (name, image) in [
            // gzip ends with the size word itself.
            ("gzip", image(gzip.finish().unwrap(), None)),
            ("xz", image(xz.finish().unwrap(), size(&elf))),
            ("zstd", image(zstd, size(&elf))),
            ("lz4", image(lz4(&elf), size(&elf))),
            ("none", image(elf.clone(), None)),
        ] {
            assert!(extract_vmlinux(&image).unwrap() == elf, "{name}");
        }
    }

    #[test]
    fn lz4_kernels_beyond_one_block_are_whole() {
        let mut elf = kernel();
        elf.resize(LZ4_LEGACY_BLOCK + 12_345, 7);
        assert!(extract_vmlinux(&image(lz4(&elf), size(&elf))).unwrap() == elf);
    }

    #[test]
    fn old_compressors_are_refused_by_name() {
        for (magic, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (&[0x5d, 0, 0, 0, 4, 0xff, 0xff, 0xff][..], "lzma")] {
            let error = extract_vmlinux(&image(magic.to_vec(), Some(1))).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn damaged_images_are_errors_at_every_length() {
        let elf = kernel();
        let whole = image(zstd::encode_all(elf.as_slice(), 1).unwrap(), size(&elf));
        for length in (0..whole.len() - 700).step_by(97) {
            assert!(extract_vmlinux(&whole[..length]).is_err(), "{length}");
        }
        let lies = image(zstd::encode_all(elf.as_slice(), 1).unwrap(), Some(5));
        assert!(matches!(extract_vmlinux(&lies), Err(BzImageError::WrongSize { .. })));
        let text = image(zstd::encode_all(&b"not an elf"[..], 1).unwrap(), Some(10));
        assert!(matches!(extract_vmlinux(&text), Err(BzImageError::NotElf)));
    }
}
