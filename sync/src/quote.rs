//! POSIX shell quoting for the one string an SSH exec request carries.
//!
//! Never looks at the text: everything goes between single quotes, so nothing is ever expanded.

/// `text` as one shell word.
pub fn shell_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for (nth, piece) in text.split('\'').enumerate() {
        if nth > 0 {
            out.push_str("'\\''");
        }
        out.push_str(piece);
    }
    out.push('\'');
    out
}

/// [`shell_quote`] for names that need not be UTF-8.
pub fn shell_quote_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    out.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_exactly_what_was_quoted() {
        for text in ["", "plain", "two words", "it's", "''", "$(rm -rf /)`id`", "a\nb", "\\", "é\t*?[x]"] {
            let script = format!("printf %s {}", shell_quote(text));
            let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, text.as_bytes(), "{script}");
            assert_eq!(shell_quote(text).as_bytes(), shell_quote_bytes(text.as_bytes()));
        }
    }
}
