//! Validated names in the ledger's files: written as text, parsed again when read.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// For `#[serde(with)]`.
pub fn serialize<N: AsRef<str>, S: Serializer>(name: &N, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_ref())
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, N, D>(deserializer: D) -> Result<N, D::Error>
where
    N: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
