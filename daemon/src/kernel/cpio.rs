//! Writes newc (SVR4) cpio archives, the format of an initramfs. Deterministic: no times, no real inode numbers.
//!
//! The kernel unpacks several archives in a row if each starts on a multiple of four bytes; these are padded
//! to 512. Directories must be added before what is in them.

const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// The archive so far.
#[derive(Debug, Default)]
pub struct CpioWriter {
    out: Vec<u8>,
    inode: u32,
}

struct Header<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

impl CpioWriter {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory, owned by root; a leading `/` is dropped.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, DIRECTORY | (mode & 0o7777), &[], (0, 0));
    }

    /// A regular file, owned by root.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | (mode & 0o7777), content, (0, 0));
    }

    /// A regular file of `size` bytes, owned by root: gives what stands before its content. The caller puts the content
    /// behind that, padded to a multiple of four, and behind it the rest of the archive.
    #[must_use]
    pub fn file_to_come(&mut self, path: &str, mode: u32, size: u32) -> Vec<u8> {
        self.begin(path, REGULAR | (mode & 0o7777), size, (0, 0));
        std::mem::take(&mut self.out)
    }

    /// A character device, owned by root.
    pub fn node(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | (mode & 0o7777), &[], (major, minor));
    }

    /// Ends the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header(&Header { name: "TRAILER!!!", mode: 0, links: 1, size: 0, device: (0, 0) });
        self.out.resize(self.out.len().next_multiple_of(512), 0);
        self.out
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        let size = u32::try_from(content.len()).expect("an initramfs file stays far below 4 GiB");
        self.begin(path, mode, size, device);
        self.out.extend_from_slice(content);
        self.pad();
    }

    fn begin(&mut self, path: &str, mode: u32, size: u32, device: (u32, u32)) {
        self.inode += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        self.header(&Header { name: path.trim_start_matches('/'), mode, links, size, device });
    }

    fn header(&mut self, header: &Header<'_>) {
        let Header { name, mode, links, size, device } = *header;
        let name_size = u32::try_from(name.len() + 1).expect("a path is short");
        self.out.extend_from_slice(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0] {
            self.out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut cpio = CpioWriter::new();
        cpio.directory("/dev", 0o755);
        cpio.node("/dev/console", 0o600, 5, 1);
        cpio.file("/init", 0o755, b"#!/bin/true\n");
        cpio.file("odd-length", 0o640, b"12345");
        cpio.finish()
    }

    #[test]
    fn cpio_lists_what_was_written() {
        let mut child = match Command::new("cpio")
            .args(["-tv", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(error) => {
                skipped(&error);
                return;
            }
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{listing}");
        assert_eq!((lines[0][0], *lines[0].last().unwrap()), ("drwxr-xr-x", "dev"));
        assert_eq!((lines[1][0], *lines[1].last().unwrap()), ("crw-------", "dev/console"));
        assert_eq!((lines[2][0], lines[2][4], *lines[2].last().unwrap()), ("-rwxr-xr-x", "12", "init"));
        assert_eq!((lines[3][0], lines[3][4], *lines[3].last().unwrap()), ("-rw-r-----", "5", "odd-length"));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_in_whole_sectors() {
        assert_eq!(sample(), sample());
        assert_eq!(sample().len() % 512, 0);
    }

    #[test]
    fn a_file_can_be_copied_in_between() {
        let mut cpio = CpioWriter::new();
        cpio.directory("/dev", 0o755);
        cpio.node("/dev/console", 0o600, 5, 1);
        let mut whole = cpio.file_to_come("/init", 0o755, 12);
        whole.extend(b"#!/bin/true\n");
        cpio.file("odd-length", 0o640, b"12345");
        whole.extend(cpio.finish());
        whole.resize(whole.len().next_multiple_of(512), 0);
        // Only how many zeros stand behind the end differs.
        let (whole, sample) = (whole.as_slice(), sample());
        let length = sample.len().min(whole.len());
        assert_eq!(whole[..length], sample[..length]);
        assert!(whole[length..].iter().chain(&sample[length..]).all(|byte| *byte == 0));
    }

    #[allow(clippy::print_stderr)]
    fn skipped(error: &std::io::Error) {
        eprintln!("skipped: cannot run cpio: {error}");
    }
}
