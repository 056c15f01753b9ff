//! How text looks: colours that carry no meaning of their own, and escaping of untrusted text. Pure.

use anstyle::{AnsiColor, Style};

/// Paints text, or leaves it alone.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// With colours.
    pub fn coloured() -> Self {
        Self { enabled: true }
    }

    /// Without.
    pub fn plain() -> Self {
        Self { enabled: false }
    }

    /// Whether anything is painted.
    pub fn is_coloured(self) -> bool {
        self.enabled
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.enabled { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// `error:`, FAIL.
    pub fn error(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    /// `warning:`, WARN.
    pub fn warning(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default().bold(), text)
    }

    /// `hint:`.
    pub fn hint(self, text: &str) -> String {
        self.with(AnsiColor::Cyan.on_default(), text)
    }

    /// PASS.
    pub fn good(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }
}

/// True for characters that could steer a terminal or reorder what is read.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Untrusted text on one line of a terminal: control and invisible characters become visible escapes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The same for text of several lines, such as another program's last words: each line after the first on a line of its
/// own, indented, so that none can pass for one of ours.
pub fn escape_lines(text: &str) -> String {
    text.trim_end().lines().map(escape).collect::<Vec<_>>().join("\n    ")
}

/// Untrusted output (a console log) on a terminal: keeps line structure, drops what could steer it.
/// Works on any piece of a stream, as it looks at single bytes only; bytes of UTF-8 pass through.
pub fn escape_stream(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\n' | b'\t' | 0x20..=0x7e | 0x80..=0xff => escaped.push(byte),
            b'\r' => {}
            _ => escaped.extend(byte.escape_ascii()),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(escape("a\u{1b}]0;x\u{7}b\nc\u{202e}d"), "a\\u{1b}]0;x\\u{7}b\\nc\\u{202e}d");
        assert_eq!(escape("naïve 文字"), "naïve 文字");
        assert_eq!(escape_lines("first\nhint: forged\u{1b}[1m\n"), "first\n    hint: forged\\u{1b}[1m");
        assert_eq!(escape_stream(b"\x1b[31mred\r\n\xc3\xa9\x07"), b"\\x1b[31mred\n\xc3\xa9\\x07");
    }

    #[test]
    fn plain_paint_adds_nothing() {
        assert_eq!(Paint::plain().error("x"), "x");
        assert_ne!(Paint::coloured().error("x"), "x");
    }
}
