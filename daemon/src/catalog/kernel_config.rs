//! What a kernel is compiled with: lines as in its own `.config`, checked before a shell sees them. Pure.

use std::fmt;

/// Settings, one per line, without comments. Everything not in it is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelConfig {
    lines: Vec<String>,
}

/// A line that is no setting, or one that this product cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line:?} is no setting of a kernel without modules")]
pub struct ConfigLineError {
    /// The line.
    pub line: String,
}

impl KernelConfig {
    /// From a text in the format of `.config` (kernel.org, Documentation/kbuild/kconfig.rst): `CONFIG_NAME=value` with
    /// `y`, `n`, a number or a plain string. Empty lines and comments are dropped. `m` is refused: what is a module could
    /// not be loaded before the disk with the modules is there.
    ///
    /// # Errors
    /// The first line that is not one.
    pub fn parse(text: &str) -> Result<Self, ConfigLineError> {
        let settings = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines = settings.map(|line| {
            if is_setting(line) { Ok(line.to_owned()) } else { Err(ConfigLineError { line: line.to_owned() }) }
        });
        Ok(Self { lines: lines.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for KernelConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join("\n"))
    }
}

fn is_setting(line: &str) -> bool {
    let Some((name, value)) = line.split_once('=') else { return false };
    let is_name = name
        .strip_prefix("CONFIG_")
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    is_name && (matches!(value, "y" | "n") || is_number(value) || is_string(value))
}

fn is_number(value: &str) -> bool {
    let digits = |text: &str, fits: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| fits(&byte));
    digits(value, u8::is_ascii_digit)
        || value.strip_prefix("0x").is_some_and(|digits_of| digits(digits_of, u8::is_ascii_hexdigit))
}

/// Of characters that mean nothing to a shell or to make.
fn is_string(value: &str) -> bool {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._- ".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_and_comments_go() {
        let text = "# why\nCONFIG_SMP=y\n\n  CONFIG_NR_CPUS=64\nCONFIG_BASE=0x1f\nCONFIG_LOCALVERSION=\"-microvm\"\n";
        let config = KernelConfig::parse(text).expect("all of them are settings");
        let wanted = "CONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_BASE=0x1f\nCONFIG_LOCALVERSION=\"-microvm\"";
        assert_eq!(config.to_string(), wanted);
    }

    #[test]
    fn nothing_that_a_shell_could_take_for_more_is_a_setting() {
        for line in [
            "SMP=y",
            "CONFIG_=y",
            "CONFIG_SMP",
            "CONFIG_SMP=m",
            "CONFIG_SMP=yes",
            "CONFIG_X=",
            "CONFIG_X=\"",
            "CONFIG_X=\"$(id)\"",
            "CONFIG_X=\"a'b\"",
            "CONFIG_X=\"`id`\"",
            "CONFIG_X Y=y",
            "CONFIG_X=y;id",
        ] {
            assert_eq!(KernelConfig::parse(line), Err(ConfigLineError { line: line.to_owned() }));
        }
    }
}
