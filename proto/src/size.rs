//! Sizes as people type them: `4G`, `512MiB`, bare numbers are MiB. Never rounds silently.

use std::fmt;
use std::str::FromStr;

/// A size in whole mebibytes (1024 × 1024 bytes), at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MiB(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// Not `<number><unit>`.
    #[error("{text:?} is not a size: write a whole number with M, MiB, G, GiB, T or TiB (no unit means MiB)")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Zero or too large for 64 bits of bytes.
    #[error("the size {text:?} is out of range: it must be at least 1 MiB and below 8 EiB")]
    OutOfRange {
        /// What was given.
        text: String,
    },
}

impl MiB {
    /// From a count of mebibytes.
    ///
    /// # Errors
    /// [`InvalidSize::OutOfRange`] for 0 or more than fits 63 bits of bytes.
    pub fn new(mebibytes: u64) -> Result<Self, InvalidSize> {
        if mebibytes == 0 || mebibytes >= (1 << 43) {
            return Err(InvalidSize::OutOfRange { text: mebibytes.to_string() });
        }
        Ok(Self(mebibytes))
    }

    /// The count of mebibytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The count of bytes.
    pub fn bytes(self) -> u64 {
        self.0 << 20
    }
}

impl FromStr for MiB {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let malformed = || InvalidSize::Malformed { text: text.to_owned() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "m" | "mib" | "mb" => 0,
            "g" | "gib" | "gb" => 10,
            "t" | "tib" | "tb" => 20,
            _ => return Err(malformed()),
        };
        let out_of_range = || InvalidSize::OutOfRange { text: text.to_owned() };
        let mebibytes = number.checked_mul(1 << shift).ok_or_else(out_of_range)?;
        Self::new(mebibytes).map_err(|_| out_of_range())
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            tib if tib % (1 << 20) == 0 => write!(f, "{} TiB", tib >> 20),
            gib if gib % 1024 == 0 => write!(f, "{} GiB", gib >> 10),
            mib => write!(f, "{mib} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_spelling_is_accepted() {
        for (text, mib) in
            [("1", 1), ("512", 512), ("512M", 512), ("512MiB", 512), ("4G", 4096), ("4GiB", 4096), ("1T", 1 << 20)]
        {
            assert_eq!(text.parse::<MiB>().map(MiB::get), Ok(mib), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_text_in_the_message() {
        for text in ["", "G", "-1", "1.5G", "4X", "1 G", "0", "99999999999999999999", "9000000000000T"] {
            let error = text.parse::<MiB>().expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
