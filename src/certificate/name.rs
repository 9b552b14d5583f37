use std::fmt::{self, Write};

use der::asn1::ObjectIdentifier;

use crate::crypto::asn1::{Asn1Error, Asn1Reader, Asn1Value, OBJECT_IDENTIFIER, SET};

/// A distinguished name. `Display` prints it as in [RFC 4514].
///
/// Two names are equal if they differ only in case, white space and the type of a string, as
/// [RFC 5280 section 7.1] compares them.
///
/// [RFC 4514]: https://www.rfc-editor.org/rfc/rfc4514
/// [RFC 5280 section 7.1]: https://www.rfc-editor.org/rfc/rfc5280#section-7.1
pub(super) struct Name {
    /// The parts, in the order of the certificate.
    parts: Vec<Vec<Attribute>>,
}

struct Attribute {
    /// The encoded object identifier.
    kind: Vec<u8>,
    text: Option<String>,
    /// The encoded value.
    value: Vec<u8>,
}

impl Name {
    pub(super) fn parse(mut parts: Asn1Reader<'_>) -> Result<Self, Asn1Error> {
        let mut name = Self { parts: Vec::new() };
        while !parts.is_empty() {
            let mut attributes = parts.value(SET)?.reader();
            let mut part = Vec::new();
            while !attributes.is_empty() {
                let mut attribute = attributes.sequence()?;
                let kind = attribute.value(OBJECT_IDENTIFIER)?.content().to_vec();
                let value = attribute.any()?;
                part.push(Attribute {
                    kind,
                    text: text(value),
                    value: value.encoded().to_vec(),
                });
            }
            name.parts.push(part);
        }
        Ok(name)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        let folded = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            words.join(" ").to_lowercase()
        };
        self.kind == other.kind
            && match (&self.text, &other.text) {
                (Some(text), Some(other)) => folded(text) == folded(other),
                _ => self.value == other.value,
            }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().rev().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            for (index, attribute) in part.iter().enumerate() {
                if index > 0 {
                    f.write_char('+')?;
                }
                attribute.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oid = ObjectIdentifier::from_bytes(&self.kind).map(|oid| oid.to_string());
        let oid = oid.unwrap_or_else(|_| "an invalid object identifier".to_owned());
        let known = KEYWORDS.iter().find(|(known, _)| *known == oid);
        write!(f, "{}=", known.map_or(&*oid, |(_, keyword)| keyword))?;
        let Some(text) = &self.text else {
            f.write_char('#')?;
            return self
                .value
                .iter()
                .try_for_each(|byte| write!(f, "{byte:02x}"));
        };
        let last = text.chars().count().saturating_sub(1);
        for (index, c) in text.chars().enumerate() {
            match c {
                '#' if index == 0 => f.write_str("\\#")?,
                ' ' if index == 0 || index == last => f.write_str("\\ ")?,
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{c}")?,
                '\x00'..='\x1f' | '\x7f' => write!(f, "\\{:02x}", c as u8)?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Returns the text of a string, `None` for another type.
///
/// Text outside of ASCII is UTF-8 or Latin-1 in practice, whatever type the string has.
fn text(value: Asn1Value<'_>) -> Option<String> {
    let content = value.content();
    match value.tag() {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | T61_STRING | IA5_STRING
        | VISIBLE_STRING | GENERAL_STRING => match std::str::from_utf8(content) {
            Ok(text) => Some(text.to_owned()),
            Err(_) => Some(content.iter().copied().map(char::from).collect()),
        },
        BMP_STRING => {
            let units = content.chunks_exact(2).map(|unit| match unit {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            Some(String::from_utf16_lossy(&units.collect::<Vec<u16>>()))
        }
        UNIVERSAL_STRING => {
            let characters = content.chunks_exact(4).map(|unit| {
                let unit = unit
                    .iter()
                    .fold(0, |code: u32, byte| (code << 8) | u32::from(*byte));
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            });
            Some(characters.collect())
        }
        _ => None,
    }
}

const UTF8_STRING: u8 = 12;
const NUMERIC_STRING: u8 = 18;
const PRINTABLE_STRING: u8 = 19;
const T61_STRING: u8 = 20;
const IA5_STRING: u8 = 22;
const VISIBLE_STRING: u8 = 26;
const GENERAL_STRING: u8 = 27;
const UNIVERSAL_STRING: u8 = 28;
const BMP_STRING: u8 = 30;

/// Keywords of [RFC 4514 section 3](https://www.rfc-editor.org/rfc/rfc4514#section-3), and others
/// that OpenSSL prints.
const KEYWORDS: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.15", "BUSINESSCATEGORY"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.97", "ORGANIZATIONIDENTIFIER"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(attributes: &[(&[u8], u8, &[u8])]) -> Name {
        let tagged = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let parts: Vec<u8> = attributes
            .iter()
            .flat_map(|(kind, tag, value)| {
                let attribute = [tagged(6, kind), tagged(*tag, value)].concat();
                tagged(SET, &tagged(0x30, &attribute))
            })
            .collect();
        Name::parse(Asn1Reader::new(&parts)).unwrap()
    }

    const CN: &[u8] = &[0x55, 4, 3];

    #[test]
    fn every_type_of_string_is_shown_as_text() {
        for (tag, value, shown) in [
            (UTF8_STRING, "Größe".as_bytes(), "CN=Größe"),
            (UTF8_STRING, b"Gr\xf6\xdfe", "CN=Größe"),
            (PRINTABLE_STRING, b"a_b@c", "CN=a_b@c"),
            (T61_STRING, b"Gr\xf6\xdfe", "CN=Größe"),
            (T61_STRING, "Größe".as_bytes(), "CN=Größe"),
            (IA5_STRING, b"Gr\xf6\xdfe", "CN=Größe"),
            (BMP_STRING, b"\0G\0r\0\xf6\0\xdf\0e", "CN=Größe"),
            (BMP_STRING, b"\xd8\x3d\xdd\x11", "CN=🔑"),
            (UNIVERSAL_STRING, b"\0\0\0G\0\x01\xf5\x11", "CN=G🔑"),
            (OBJECT_IDENTIFIER, CN, "CN=#0603550403"),
            (UTF8_STRING, b"#a, b+c ", "CN=\\#a\\, b\\+c\\ "),
            (UTF8_STRING, b"a\nb", "CN=a\\0ab"),
        ] {
            assert_eq!(name(&[(CN, tag, value)]).to_string(), shown);
        }
    }

    #[test]
    fn the_last_part_is_shown_first() {
        let parts = name(&[
            (&[0x55, 4, 10], UTF8_STRING, b"Contoso, Ltd."),
            (CN, UTF8_STRING, b"daemon"),
            (&[0x2a, 3, 4], UTF8_STRING, b"x"),
            (&[0x80], UTF8_STRING, b"y"),
        ]);
        let shown = "an invalid object identifier=y,1.2.3.4=x,CN=daemon,O=Contoso\\, Ltd.";
        assert_eq!(parts.to_string(), shown);
    }

    #[test]
    fn names_differ_in_neither_case_nor_type_of_string() {
        let issuer = name(&[(CN, PRINTABLE_STRING, b"Contoso  Root CA")]);
        assert!(issuer == name(&[(CN, UTF8_STRING, b"CONTOSO Root CA ")]));
        assert!(issuer != name(&[(CN, UTF8_STRING, b"Contoso Root")]));
        assert!(issuer != name(&[(&[0x55, 4, 10], UTF8_STRING, b"Contoso Root CA")]));
    }
}
