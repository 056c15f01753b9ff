//! Which accelerator QEMU uses.
//!
//! A device that opens is not enough: some hosts offer /dev/kvm without the CPU extension behind it, and a
//! stock kernel then hangs in early boot. So hardware acceleration needs both. `BANGER_ACCEL` overrides.
//! [`decide`] is pure; [`Observation::of_host`] looks.

use banger_proto::failure::{Classified, Kind};

const KVM_DEVICE: &str = "/dev/kvm";

/// How guest instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the CPU.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accel {
    /// The platform's name in the API.
    pub fn vmm_name(self) -> &'static str {
        match self {
            Self::Kvm => "qemu-kvm",
            Self::Tcg => "qemu-tcg",
        }
    }
}

/// What the host shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// /dev/kvm opens for reading and writing.
    pub device_opens: bool,
    /// The CPU flags list vmx or svm.
    pub cpu_virtualizes: bool,
}

impl Observation {
    /// Looks at /dev/kvm and /proc/cpuinfo.
    pub fn of_host() -> Self {
        Self {
            device_opens: std::fs::File::options().read(true).write(true).open(KVM_DEVICE).is_ok(),
            cpu_virtualizes: std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| shows_virtualization(&text)),
        }
    }
}

/// `BANGER_ACCEL` asks for something that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AccelError {
    /// Neither "kvm" nor "tcg".
    #[error("BANGER_ACCEL is {text:?}, which is not an accelerator")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// "kvm", but the device cannot be opened.
    #[error("BANGER_ACCEL asks for kvm but {KVM_DEVICE} cannot be opened for reading and writing")]
    NoDevice,
}

impl Classified for AccelError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::Usage,
            Self::NoDevice => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } => vec!["Set `BANGER_ACCEL=kvm` or `BANGER_ACCEL=tcg`, or unset it.".into()],
            Self::NoDevice => vec![
                format!(
                    "Look at its owner and mode with `ls -l {KVM_DEVICE}`, join the group with `sudo usermod -aG kvm $USER` and log in again."
                ),
                "Run without hardware acceleration with `BANGER_ACCEL=tcg`.".into(),
            ],
        }
    }
}

/// `requested` is the value of `BANGER_ACCEL`; empty means unset.
///
/// # Errors
/// [`AccelError`]. An explicit "kvm" is obeyed without looking at the CPU flags: whoever asks knows better.
pub fn decide(requested: Option<&str>, observed: Observation) -> Result<Accel, AccelError> {
    match requested {
        None | Some("") if observed.device_opens && observed.cpu_virtualizes => Ok(Accel::Kvm),
        None | Some("" | "tcg") => Ok(Accel::Tcg),
        Some("kvm") if observed.device_opens => Ok(Accel::Kvm),
        Some("kvm") => Err(AccelError::NoDevice),
        Some(text) => Err(AccelError::Unknown { text: text.to_owned() }),
    }
}

fn shows_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_device_and_the_cpu_extension() {
        for (device_opens, cpu_virtualizes, expected) in
            [(true, true, Accel::Kvm), (true, false, Accel::Tcg), (false, true, Accel::Tcg), (false, false, Accel::Tcg)]
        {
            let observed = Observation { device_opens, cpu_virtualizes };
            assert_eq!(decide(None, observed).unwrap(), expected, "{observed:?}");
            assert_eq!(decide(Some(""), observed).unwrap(), expected, "{observed:?}");
            assert_eq!(decide(Some("tcg"), observed).unwrap(), Accel::Tcg, "{observed:?}");
        }
    }

    #[test]
    fn an_explicit_kvm_is_obeyed_or_refused_but_never_replaced() {
        let opens = Observation { device_opens: true, cpu_virtualizes: false };
        assert_eq!(decide(Some("kvm"), opens).unwrap(), Accel::Kvm);
        let absent = Observation { device_opens: false, cpu_virtualizes: true };
        assert_eq!(decide(Some("kvm"), absent).unwrap_err().kind(), Kind::HostNotReady);
        assert_eq!(decide(Some("hvf"), absent).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn only_whole_words_of_the_flags_line_count() {
        for (text, expected) in [
            ("processor\t: 0\nflags\t\t: fpu vme svm lm\n", true),
            ("flags\t\t: fpu vmx\n", true),
            ("flags\t\t: fpu svm_lock vmxnet\n", false),
            ("bugs\t\t: svm vmx\nvmx flags\t: vnmi\n", false),
            ("", false),
        ] {
            assert_eq!(shows_virtualization(text), expected, "{text:?}");
        }
    }
}
