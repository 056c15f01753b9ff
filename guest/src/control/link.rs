//! What the control channel runs over: a virtio-serial port (QEMU) or vsock (Firecracker).
//!
//! Both say the same four things. Writing never blocks for long: a host that does not read loses
//! the frame and is told the latest milestone when it connects again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::guest_contract::{CONTROL_PORT_NAME, CONTROL_VSOCK_PORT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketFlags;

use crate::syscalls;

/// A port without a host is looked at this often.
const HUNG_UP_POLL: Duration = Duration::from_millis(20);
/// A host that does not read for this long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A host that replaces another does so within this time.
const CHANGE_LIMIT: Duration = Duration::from_millis(300);
/// The port's driver may still be probing.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A host is there now.
    Connected,
    /// No host is there any more.
    Disconnected,
    /// Bytes from the host.
    Bytes(Vec<u8>),
    /// The wake descriptor was written to.
    Woken,
    /// Nothing, for as long as the caller wanted to wait.
    Quiet,
}

/// One way to reach the host.
pub trait Link {
    /// Blocks until something happens, or for `limit` while a host is there.
    fn wait(&mut self, wake: Option<&OwnedFd>, limit: Option<Duration>) -> Event;
    /// Sends bytes if a host is there.
    fn send(&mut self, bytes: &[u8]);
    /// A host is there.
    fn is_connected(&self) -> bool;
}

/// The machine's control port, whichever it has.
pub fn open() -> Option<Box<dyn Link>> {
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        if let Some(port) = find_port(Path::new("/sys/class/virtio-ports")) {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(descriptor) = rustix::fs::open(&port, flags, Mode::empty()) {
                return Some(Box::new(Port { descriptor, connected: false }));
            }
        }
        if Path::new("/dev/vsock").exists()
            && let Ok(listener) = syscalls::listen_vsock(CONTROL_VSOCK_PORT)
        {
            return Some(Box::new(Vsock { listener, stream: None }));
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The device node of the port with our name: there is no udev yet to make a link by name.
pub fn find_port(class: &Path) -> Option<PathBuf> {
    let ports = std::fs::read_dir(class).ok()?;
    let ours = ports.flatten().find(|port| {
        std::fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == CONTROL_PORT_NAME)
    })?;
    Some(Path::new("/dev").join(ours.file_name()))
}

/// A virtio-serial port.
struct Port {
    descriptor: OwnedFd,
    connected: bool,
}

impl Link for Port {
    fn wait(&mut self, wake: Option<&OwnedFd>, limit: Option<Duration>) -> Event {
        loop {
            // A host's arrival is the absence of a hang-up: an idle port must not be waited for then.
            let patience = if self.connected { limit } else { Some(Duration::ZERO) };
            let Ready { stream, woken, .. } = ready(Some(self.descriptor.as_fd()), wake, patience);
            let hung_up = stream.contains(PollFlags::HUP);
            if hung_up == self.connected {
                self.connected = !hung_up;
                // Unread bytes stay: they may be the next host's already. `Control::rescue` copes with an old
                // host's half frame before them.
                return if hung_up { Event::Disconnected } else { Event::Connected };
            }
            // A host's first bytes can be here before the news that it is. Answered now, the answer would be
            // lost; they wait until the hang-up is over.
            if !hung_up
                && stream.contains(PollFlags::IN)
                && let Ok(bytes) = read(self.descriptor.as_fd())
                && !bytes.is_empty()
            {
                return Event::Bytes(bytes);
            }
            if woken {
                return Event::Woken;
            }
            if hung_up {
                // A hang-up makes poll return at once; only the wake descriptor is worth waiting for.
                let Ready { woken, .. } = ready(None, wake, Some(HUNG_UP_POLL));
                if woken {
                    return Event::Woken;
                }
            } else if stream.is_empty() && limit.is_some() {
                return Event::Quiet;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // Whatever went wrong or changed meanwhile: the next look tells whether and which host is there.
        if self.connected && !matches!(write_all(self.descriptor.as_fd(), bytes), Ok(Sent::ToSameHost)) {
            self.connected = false;
        }
    }

    fn is_connected(&self) -> bool {
        self.connected
    }
}

/// A vsock listener and the host that is connected, if any; a newer connection replaces the older.
struct Vsock {
    listener: OwnedFd,
    stream: Option<OwnedFd>,
}

impl Link for Vsock {
    fn wait(&mut self, wake: Option<&OwnedFd>, limit: Option<Duration>) -> Event {
        loop {
            if let Some(stream) = &self.stream {
                // A new host that connects beside a silent one is noticed as well.
                let Ready { stream: state, other: newcomer, woken } =
                    ready_of_two(Some(stream.as_fd()), Some(self.listener.as_fd()), wake, limit);
                if state.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    match read(stream.as_fd()) {
                        Ok(bytes) if !bytes.is_empty() => return Event::Bytes(bytes),
                        Err(rustix::io::Errno::AGAIN) => continue,
                        Ok(_) | Err(_) => {}
                    }
                    self.stream = None;
                    return Event::Disconnected;
                }
                if woken {
                    return Event::Woken;
                }
                if newcomer.is_empty() {
                    match limit {
                        Some(_) => return Event::Quiet,
                        None => continue,
                    }
                }
            } else {
                let Ready { stream, woken, .. } = ready(Some(self.listener.as_fd()), wake, None);
                if woken && stream.is_empty() {
                    return Event::Woken;
                }
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            if let Ok(stream) = rustix::net::accept_with(&self.listener, flags) {
                self.stream = Some(stream);
                return Event::Connected;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &self.stream
            && write_all(stream.as_fd(), bytes).is_err()
        {
            self.stream = None;
        }
    }

    fn is_connected(&self) -> bool {
        self.stream.is_some()
    }
}

struct Ready {
    stream: PollFlags,
    other: PollFlags,
    woken: bool,
}

fn ready(stream: Option<BorrowedFd<'_>>, wake: Option<&OwnedFd>, limit: Option<Duration>) -> Ready {
    ready_of_two(stream, None, wake, limit)
}

fn ready_of_two(
    stream: Option<BorrowedFd<'_>>,
    other: Option<BorrowedFd<'_>>,
    wake: Option<&OwnedFd>,
    limit: Option<Duration>,
) -> Ready {
    let mut polled = Vec::with_capacity(3);
    polled.extend(stream.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
    polled.extend(other.as_ref().map(|other| PollFd::new(other, PollFlags::IN)));
    polled.extend(wake.map(|wake| PollFd::new(wake, PollFlags::IN)));
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let _ = poll(&mut polled, limit.as_ref());
    let mut results = polled.iter().map(PollFd::revents);
    let mut of = |asked: bool| asked.then(|| results.next()).flatten().unwrap_or(PollFlags::empty());
    let (stream, other) = (of(stream.is_some()), of(other.is_some()));
    let woken = results.next().is_some_and(|flags| flags.contains(PollFlags::IN));
    if woken && let Some(wake) = wake {
        let _ = rustix::io::read(wake, &mut [0u8; 8]);
    }
    Ready { stream, other, woken }
}

/// Empty at the end of the stream.
fn read(stream: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; 16 * 1024];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(stream, &mut *buffer))?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Who got a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    ToSameHost,
    /// The host that was there when writing began hung up and another took its place.
    ToNextHost,
}

/// A request of a new host can be read before the old one's hang-up is known; its answer then meets that
/// hang-up, and must wait for it to pass. A frame that is half written cannot change hosts.
fn write_all(stream: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Sent> {
    let started = Instant::now();
    let mut sent = Sent::ToSameHost;
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(stream, rest) {
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if started.elapsed() < WRITE_LIMIT => {
                let mut polled = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
                let limit = Timespec::try_from(Duration::from_millis(100)).ok();
                let _ = poll(&mut polled, limit.as_ref());
                if polled[0].revents().contains(PollFlags::HUP) {
                    if rest.len() < bytes.len() || started.elapsed() > CHANGE_LIMIT {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                    sent = Sent::ToNextHost;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// A listener of another family behaves the same.
    fn vsock() -> (Vsock, PathBuf, tempfile::TempDir) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        (Vsock { listener: listener.into(), stream: None }, path, scratch)
    }

    #[test]
    fn a_host_that_connects_beside_a_silent_one_takes_its_place() {
        let (mut link, path, _scratch) = vsock();
        let _silent = UnixStream::connect(&path).unwrap();
        assert_eq!(link.wait(None, None), Event::Connected);
        let mut second = UnixStream::connect(&path).unwrap();
        assert_eq!(link.wait(None, None), Event::Connected);
        second.write_all(b"hello").unwrap();
        assert_eq!(link.wait(None, None), Event::Bytes(b"hello".to_vec()));
        link.send(b"ready");
        let mut told = [0; 5];
        second.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"ready");
        drop(second);
        assert_eq!(link.wait(None, None), Event::Disconnected);
        assert!(!link.is_connected());
    }

    #[test]
    fn with_a_host_that_says_nothing_the_limit_holds_and_news_is_noticed() {
        let (mut link, path, _scratch) = vsock();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(link.wait(Some(&wake), None), Event::Woken);
        let _host = UnixStream::connect(&path).unwrap();
        assert_eq!(link.wait(Some(&wake), None), Event::Connected);
        assert_eq!(link.wait(Some(&wake), Some(Duration::from_millis(1))), Event::Quiet);
        rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(link.wait(Some(&wake), None), Event::Woken);
    }
}
