//! An ELF file QEMU boots like a Linux kernel (through its PVH note) that runs a few instructions.

/// Where it is loaded and entered: 32-bit protected mode, flat segments, no paging.
const ENTRY: u64 = 0x10_0000;

/// cli; hlt; jmp to hlt
const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// ecx = 0x0800_0000; dec ecx; jnz: a good half second of translated code.
const WAIT: &[u8] = &[0xb9, 0, 0, 0, 0x08, 0x49, 0x75, 0xfd];
/// dx = 0x604 (PM1a control); ax = 0x2000 (sleep enable, S5); out
const POWER_OFF: &[u8] = &[0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef];
/// dx = 0xcf9 (reset control); al = 6 (full reset); out
const RESET: &[u8] = &[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee];

/// Says its letter on the serial port, then does nothing for ever.
pub fn that_halts() -> Vec<u8> {
    kernel(&[&say(b'H'), HALT])
}

/// Says its letter and powers off a moment later.
pub fn that_powers_off() -> Vec<u8> {
    kernel(&[&say(b'P'), WAIT, POWER_OFF, HALT])
}

/// Says its letter and resets the machine.
pub fn that_resets() -> Vec<u8> {
    kernel(&[&say(b'R'), RESET, HALT])
}

/// dx = 0x3f8 (first serial port); al = letter; out
fn say(letter: u8) -> Vec<u8> {
    vec![0x66, 0xba, 0xf8, 0x03, 0xb0, letter, 0xee]
}

fn kernel(code: &[&[u8]]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const SEGMENT: u64 = 56;
    let code = code.concat();
    let length = code.len() as u64;
    let note_at = HEADER + 2 * SEGMENT;
    let mut note = Vec::new();
    for word in [4u32, 8, 18] {
        // Name length, content length, XEN_ELFNOTE_PHYS32_ENTRY.
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(ENTRY.to_le_bytes());
    let code_at = note_at + note.len() as u64;

    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // An executable for x86-64.
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for quad in [ENTRY, HEADER, 0] {
        elf.extend(quad.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [HEADER as u16, SEGMENT as u16, 2, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for (kind, flags, offset, address, size) in
        [(1u32, 5u32, code_at, ENTRY, length), (4, 4, note_at, 0, note.len() as u64)]
    {
        elf.extend(kind.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for quad in [offset, address, address, size, size, 4] {
            elf.extend(quad.to_le_bytes());
        }
    }
    elf.extend(note);
    elf.extend(code);
    elf
}
