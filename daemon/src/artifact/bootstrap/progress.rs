//! What mmdebstrap and its hooks are doing, read from its messages. Pure: one line in, perhaps one step out.

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Stage { name: &'static str, message: &'static str },
    Progress { done: u64, total: u64, message: String },
}

/// Counts packages. Each is fetched, unpacked and set up; the last two count as one step.
#[derive(Debug, Default)]
pub(super) struct Progress {
    announced: u64,
    fetched: u64,
    configured: u64,
    compiled: u64,
    fetching: bool,
}

const STAGES: [(&str, &str, &str); 9] = [
    ("running apt-get update", "index", "reading the package index"),
    ("downloading packages", "download", "downloading packages"),
    ("extracting archives", "extract", "unpacking essential packages"),
    ("installing essential packages", "install", "installing essential packages"),
    ("installing remaining packages", "install", "installing packages"),
    ("running --extract-hook", "fetch", "fetching the package"),
    ("unpacking the kernel's source", "source", "unpacking the source"),
    ("compiling the kernel", "compile", "compiling, which takes some minutes,"),
    ("creating tarball", "write", "writing the filesystem"),
];

impl Progress {
    pub(super) fn observe(&mut self, line: &str) -> Option<Step> {
        if let Some(text) = line.strip_prefix("I: ") {
            let (_, name, message) = STAGES.iter().find(|(start, _, _)| text.starts_with(start))?;
            self.fetching = *name != "index";
            return Some(Step::Stage { name, message });
        }
        if let Some(count) = newly_installed(line) {
            self.announced += count;
            return None;
        }
        if line.starts_with("Get:") && self.fetching {
            self.fetched += 1;
            // "Get:12 <mirror> <suite> <arch> <package> …"
            let package = line.split_whitespace().nth(4).unwrap_or("a package");
            return Some(self.step(format!("fetched {package}")));
        }
        if let Some(rest) = line.strip_prefix("Setting up ") {
            self.configured += 1;
            return Some(self.step(format!("installed {}", rest.split([' ', ':']).next().unwrap_or(rest))));
        }
        // The kernel's own way to say it; how many there will be, nobody knows before.
        if let Some(file) = line.strip_prefix("  CC ").or_else(|| line.strip_prefix("  AS ")) {
            self.compiled += 1;
            let message = format!("compiled {}", file.trim());
            return Some(Step::Progress { done: self.compiled, total: 0, message });
        }
        None
    }

    fn step(&self, message: String) -> Step {
        let done = self.fetched + self.configured;
        Step::Progress { done, total: if self.announced == 0 { 0 } else { done.max(2 * self.announced) }, message }
    }
}

/// "0 upgraded, 69 newly installed, 0 to remove …" → 69.
fn newly_installed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" upgraded, ")?;
    rest.split_once(" newly installed")?.0.parse().ok()
}
