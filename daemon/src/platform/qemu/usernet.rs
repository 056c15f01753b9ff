//! Reads QEMU's answer to `info usernet`: which loopback ports the user network really listens on.
//!
//! Forwards are asked for with host port 0, so only QEMU knows the numbers. There is no structured QMP
//! command for them; this is the one place that reads text meant for people, and it ignores what it does
//! not understand.

/// One listening forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1.
    pub host_port: u16,
    /// Port in the guest.
    pub guest_port: u16,
}

/// Every TCP forward, in the order QEMU lists them.
pub fn parse(text: &str) -> Vec<Forward> {
    text.lines()
        .filter_map(|line| {
            // Protocol[State]  FD  Source Address  Port  Dest. Address  Port  RecvQ  SendQ
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [protocol, _, _, host_port, _, guest_port, ..] = fields[..] else { return None };
            (protocol == "TCP[HOST_FORWARD]").then_some(())?;
            Some(Forward { host_port: host_port.parse().ok()?, guest_port: guest_port.parse().ok()? })
        })
        .collect()
}

/// The host port QEMU chose for `guest_port`; a port the user published to the same guest port is not it.
pub fn chosen_port(forwards: &[Forward], guest_port: u16, published: &[(u16, u16)]) -> Option<u16> {
    forwards
        .iter()
        .find(|forward| {
            forward.guest_port == guest_port && !published.contains(&(forward.host_port, forward.guest_port))
        })
        .map(|forward| forward.host_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "Hub -1 (net0):\r\n\
        \x20 Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
        \x20 TCP[ESTABLISHED]   20       127.0.0.1 45123       10.0.2.15  4022     0     0\r\n\
        \x20 TCP[HOST_FORWARD]  14       127.0.0.1  8080       10.0.2.15    80     0     0\r\n\
        \x20 TCP[HOST_FORWARD]  15       127.0.0.1  2222       10.0.2.15    22     0     0\r\n\
        \x20 TCP[HOST_FORWARD]  13       127.0.0.1 36611       10.0.2.15    22     0     0\r\n\
        \x20 TCP[HOST_FORWARD]  12       127.0.0.1 42345       10.0.2.15  4022     0     0\r\n\
        \x20 UDP[236 sec]       21       10.0.2.15 48444        10.0.2.3    53     0     0\r\n";

    #[test]
    fn only_listening_forwards_are_read() {
        let ports: Vec<_> = parse(ANSWER).into_iter().map(|f| (f.host_port, f.guest_port)).collect();
        assert_eq!(ports, [(8080, 80), (2222, 22), (36611, 22), (42345, 4022)]);
    }

    #[test]
    fn a_published_port_is_never_taken_for_the_chosen_one() {
        let forwards = parse(ANSWER);
        let published = [(8080, 80), (2222, 22)];
        assert_eq!(chosen_port(&forwards, 4022, &published), Some(42345));
        assert_eq!(chosen_port(&forwards, 22, &published), Some(36611));
        assert_eq!(chosen_port(&forwards, 80, &published), None);
    }

    #[test]
    fn nonsense_is_ignored() {
        for text in ["", "TCP[HOST_FORWARD]", "TCP[HOST_FORWARD] 1 * x * y", "TCP[HOST_FORWARD] 1 a 70000 b 22 0 0"] {
            assert!(parse(text).is_empty(), "{text:?}");
        }
    }
}
