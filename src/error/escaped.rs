use std::fmt::{self, Write};

/// A server's text made safe for a terminal and a log.
///
/// Line breaks become spaces. Control characters and invisible characters, some of which reverse
/// the reading direction, are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

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
