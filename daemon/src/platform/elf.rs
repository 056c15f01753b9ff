//! Tells a static program from one that needs a loader. Pure; nothing is executed.
//!
//! The initramfs holds /init and no libraries: a dynamically linked guest binary would end in a kernel panic
//! two seconds into the boot, so it is refused before a VM is started.

/// Program header type of the loader's path (ELF-64 specification, "PT_INTERP").
const PT_INTERP: u32 = 3;

/// More than what is before and in the program headers of a static program, which is all that is looked at.
pub const BEGINNING: u64 = 16 << 10;

/// True if `program`, of which the [`BEGINNING`] is enough, is a 64-bit little-endian ELF file that asks for a loader.
pub fn needs_loader(program: &[u8]) -> bool {
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let offset = number::<8>(program, 32).unwrap_or(0);
    let size = number::<2>(program, 54).unwrap_or(0);
    let count = number::<2>(program, 56).unwrap_or(0);
    (0..count).any(|index| {
        let header = offset.checked_add(index * size).and_then(|at| usize::try_from(at).ok());
        header.and_then(|at| number::<4>(program, at)) == Some(u64::from(PT_INTERP))
    })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_host_needs_a_loader_and_nonsense_does_not() {
        let shell = std::fs::read("/bin/sh").expect("every host has a shell");
        assert!(needs_loader(&shell));
        for end in [0, 6, 40, 60, 64] {
            assert!(!needs_loader(&shell[..end]), "cut at {end}");
        }
        assert!(!needs_loader(b"#!/bin/sh\n"));
        let mut endless = shell[..64].to_vec();
        endless[32..40].fill(0xff);
        assert!(!needs_loader(&endless));
    }
}
