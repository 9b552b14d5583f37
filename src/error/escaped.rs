use std::fmt::{self, Write};

/// A server's text made safe for a terminal and a log.
///
/// Line breaks become spaces. Control characters and invisible characters, some of which reverse
/// the reading direction, are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Escaped<'_> {
    /// Returns whether the text has characters, and only such as a reader sees.
    pub(crate) fn is_visible_word(&self) -> bool {
        let is_word = !self.0.is_empty() && !self.0.contains(char::is_whitespace);
        is_word && self.to_string() == self.0
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.split("\r\n").enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            for c in line.chars() {
                match c {
                    '\n' => f.write_char(' ')?,
                    '\u{61c}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' => {
                        write!(f, "{}", c.escape_unicode())?;
                    }
                    c if c.is_control() => write!(f, "{}", c.escape_default())?,
                    c => f.write_char(c)?,
                }
            }
        }
        Ok(())
    }
}
