//! What a host sent, byte for byte, and where it can be cut.

/// Where each frame of a stream ends.
pub fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut at = 0;
    while at < bytes.len() {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = bytes[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length;
        ends.push(at);
    }
    ends
}

/// Every boundary of a frame, and `random` bytes anywhere: the same every time.
pub fn cuts(tape: &[u8], random: usize) -> Vec<usize> {
    let mut cuts = boundaries(tape);
    assert_eq!(cuts.last(), Some(&tape.len()), "the tape is whole");
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..random {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        cuts.push(usize::try_from(state % tape.len() as u64).unwrap());
    }
    cuts
}
