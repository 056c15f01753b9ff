//! Validated names. Each is its own type: none converts into another, and none can hold text that
//! could mean something else in a path, a host name or a kernel command line.
//!
//! ```compile_fail
//! use banger_proto::names::{ImageName, VmName};
//! let vm: VmName = "box".parse().unwrap();
//! let image: ImageName = vm; // a VM name is not an image name
//! ```

use std::fmt;
use std::str::FromStr;

/// Why a text is not a valid name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// "VM name", "image name" …
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// The rule, as a clause.
    pub rule: &'static str,
}

macro_rules! validated {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { what: $what, text: text.to_owned(), rule: $rule })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

validated!(
    /// Name of a VM; also its host name and DNS label (RFC 1123, one label).
    VmName,
    "VM name",
    "use 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
);

validated!(
    /// Identity of a VM: 32 lowercase hexadecimal digits (a UUID without hyphens), globally unique.
    VmId,
    "VM id",
    "use 32 lowercase hexadecimal digits",
    |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);

validated!(
    /// Name of an image in the local store.
    ImageName,
    "image name",
    "use 1 to 128 letters, digits, '.', '_' and '-', starting with a letter or digit",
    store_name
);

validated!(
    /// Name of a kernel in the local store.
    KernelName,
    "kernel name",
    "use 1 to 128 letters, digits, '.', '_' and '-', starting with a letter or digit",
    store_name
);

validated!(
    /// One build of an image or kernel in the local store: 32 lowercase hexadecimal digits (a version 7 UUID
    /// without hyphens), so that builds sort by time. With the name it is a directory: `NAME@BUILD`.
    BuildId,
    "build id",
    "use 32 lowercase hexadecimal digits",
    |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);

validated!(
    /// Identity of an image's content: 64 lowercase hexadecimal digits.
    ImageId,
    "image id",
    "use 64 lowercase hexadecimal digits",
    |text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);

fn store_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !text.contains("..")
}

impl VmId {
    /// The first 12 digits, as shown in tables.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_names_are_single_dns_labels() {
        for good in ["a", "box-1", "0", &"a".repeat(63)] {
            assert!(good.parse::<VmName>().is_ok(), "{good}");
        }
        for bad in ["", "Bad_Name", "-a", "a-", "a.b", "ä", "a b", "a/b", &"a".repeat(64)] {
            assert!(bad.parse::<VmName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn store_names_never_traverse() {
        for good in ["debian-bookworm", "generic-6.12", "A_b.c"] {
            assert!(good.parse::<ImageName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a..b", "a/b", "-x", "a\0"] {
            assert!(bad.parse::<KernelName>().is_err(), "{bad}");
        }
    }
}
