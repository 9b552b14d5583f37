//! A reader of BER and DER ([X.690](https://www.itu.int/rec/T-REC-X.690)).
//!
//! The reader accepts what OpenSSL accepts. The crate `der` rejects constructed strings that are
//! nested or have a definite length, long forms of a length, and `true` written as 1.
#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

/// A sequence of encoded values, read from first to last.
#[derive(Clone, Copy)]
pub(crate) struct Asn1Reader<'a> {
    rest: &'a [u8],
}

/// One encoded value.
#[derive(Clone, Copy)]
pub(crate) struct Asn1Value<'a> {
    tag: u8,
    content: &'a [u8],
    encoded: &'a [u8],
}

/// The reason why bytes are not the expected value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asn1Error {
    /// The bytes end before the value does.
    Truncated,
    Malformed,
}

impl<'a> Asn1Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the next value.
    pub(crate) fn any(&mut self) -> Result<Asn1Value<'a>, Asn1Error> {
        let header = Header::read(self.rest)?;
        let behind = self.rest.get(header.length..).unwrap_or_default();
        let (content, end) = match header.content {
            Some(length) => {
                let content = behind.get(..length).ok_or(Asn1Error::Truncated)?;
                (content, header.length.saturating_add(length))
            }
            None => {
                let length = indefinite_length(behind)?;
                let content = behind.get(..length).ok_or(Asn1Error::Truncated)?;
                let end = header.length.saturating_add(length);
                (content, end.saturating_add(END_OF_CONTENTS.len()))
            }
        };
        let (encoded, rest) = self
            .rest
            .split_at_checked(end)
            .ok_or(Asn1Error::Truncated)?;
        self.rest = rest;
        Ok(Asn1Value {
            tag: header.tag,
            content,
            encoded,
        })
    }

    /// Reads the next value, which must have the tag.
    pub(crate) fn value(&mut self, tag: u8) -> Result<Asn1Value<'a>, Asn1Error> {
        let value = self.any()?;
        match value.tag == tag {
            true => Ok(value),
            false => Err(Asn1Error::Malformed),
        }
    }

    /// Reads the next value if it has the tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Asn1Value<'a>>, Asn1Error> {
        match self.rest.first() == Some(&tag) {
            true => self.any().map(Some),
            false => Ok(None),
        }
    }

    pub(crate) fn sequence(&mut self) -> Result<Self, Asn1Error> {
        self.value(SEQUENCE).map(|value| value.reader())
    }

    pub(crate) fn oid(&mut self) -> Result<ObjectIdentifier, Asn1Error> {
        let content = self.value(OBJECT_IDENTIFIER)?.content;
        ObjectIdentifier::from_bytes(content).map_err(|_| Asn1Error::Malformed)
    }

    /// Reads an integer between 0 and `u64::MAX`.
    pub(crate) fn unsigned(&mut self) -> Result<u64, Asn1Error> {
        self.value(INTEGER)?.to_unsigned()
    }

    /// Reads an octet string, primitive or constructed.
    pub(crate) fn octets(&mut self) -> Result<Zeroizing<Vec<u8>>, Asn1Error> {
        let value = self.any()?;
        match value.tag & !CONSTRUCTED == OCTET_STRING {
            true => value.octets(),
            false => Err(Asn1Error::Malformed),
        }
    }
}

impl<'a> Asn1Value<'a> {
    pub(crate) fn tag(&self) -> u8 {
        self.tag
    }

    pub(crate) fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Returns the bytes of the value with its tag and its length.
    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// Returns a reader of the values in a constructed value.
    pub(crate) fn reader(&self) -> Asn1Reader<'a> {
        Asn1Reader::new(self.content)
    }

    /// Returns the value of an integer between 0 and `u64::MAX`.
    pub(crate) fn to_unsigned(self) -> Result<u64, Asn1Error> {
        if self.content.first().is_none_or(|first| *first >= 0x80) {
            return Err(Asn1Error::Malformed);
        }
        let leading = self.content.iter().take_while(|byte| **byte == 0).count();
        let digits = self.content.get(leading..).unwrap_or_default();
        if digits.len() > 8 {
            return Err(Asn1Error::Malformed);
        }
        let append = |number: u64, digit: &u8| (number << 8) | u64::from(*digit);
        Ok(digits.iter().fold(0, append))
    }

    /// Returns the octets of a string with any tag. Joins the parts of a constructed string.
    pub(crate) fn octets(&self) -> Result<Zeroizing<Vec<u8>>, Asn1Error> {
        let mut octets = Zeroizing::new(Vec::with_capacity(self.content.len()));
        self.append_octets(&mut octets, 0)?;
        Ok(octets)
    }

    fn append_octets(&self, octets: &mut Vec<u8>, depth: usize) -> Result<(), Asn1Error> {
        if self.tag & CONSTRUCTED == 0 {
            octets.extend_from_slice(self.content);
            return Ok(());
        }
        if depth == DEEPEST {
            return Err(Asn1Error::Malformed);
        }
        let mut parts = self.reader();
        while !parts.is_empty() {
            let part = parts.any()?;
            if part.tag & !CONSTRUCTED != OCTET_STRING {
                return Err(Asn1Error::Malformed);
            }
            part.append_octets(octets, depth.saturating_add(1))?;
        }
        Ok(())
    }
}

/// The tag and the length of a value.
struct Header {
    tag: u8,
    /// Number of content bytes, `None` for the indefinite form.
    content: Option<usize>,
    /// Number of bytes before the content.
    length: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Asn1Error> {
        let [tag, first, rest @ ..] = bytes else {
            return Err(Asn1Error::Truncated);
        };
        // No format here has a tag number over 30, which takes more than one byte.
        if tag & 0x1f == 0x1f {
            return Err(Asn1Error::Malformed);
        }
        let header = |content, more: usize| Self {
            tag: *tag,
            content,
            length: more.saturating_add(2),
        };
        match first {
            0..=0x7f => Ok(header(Some(usize::from(*first)), 0)),
            0x80 if tag & CONSTRUCTED != 0 => Ok(header(None, 0)),
            0x81..=0x88 => {
                let count = usize::from(first & 0x7f);
                let digits = rest.get(..count).ok_or(Asn1Error::Truncated)?;
                let append = |number: u64, digit: &u8| (number << 8) | u64::from(*digit);
                let content = digits.iter().fold(0, append);
                let content = usize::try_from(content).map_err(|_| Asn1Error::Malformed)?;
                Ok(header(Some(content), count))
            }
            _ => Err(Asn1Error::Malformed),
        }
    }
}

/// Returns the length of a content of the indefinite form, without the end-of-contents octets.
fn indefinite_length(content: &[u8]) -> Result<usize, Asn1Error> {
    let mut position: usize = 0;
    let mut depth: usize = 0;
    loop {
        let rest = content.get(position..).ok_or(Asn1Error::Truncated)?;
        if rest.starts_with(&END_OF_CONTENTS) {
            if depth == 0 {
                return Ok(position);
            }
            depth = depth.saturating_sub(1);
            position = position.saturating_add(END_OF_CONTENTS.len());
            continue;
        }
        let header = Header::read(rest)?;
        position = position.saturating_add(header.length);
        match header.content {
            Some(length) => position = position.saturating_add(length),
            None if depth == DEEPEST => return Err(Asn1Error::Malformed),
            None => depth = depth.saturating_add(1),
        }
    }
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// The bit of a tag that marks a constructed value.
pub(crate) const CONSTRUCTED: u8 = 0x20;

/// Returns the tag of a context-specific, constructed value.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

const END_OF_CONTENTS: [u8; 2] = [0, 0];
/// Deepest nesting of indefinite lengths and of constructed strings.
const DEEPEST: usize = 32;

/// Encodes a value whose content is the concatenation of `parts`.
#[cfg(test)]
pub(crate) fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84][..], &length, &content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_length_is_read() {
        for encoded in [
            &b"\x30\x03\x02\x01\x05"[..],
            b"\x30\x81\x03\x02\x01\x05",
            b"\x30\x84\x00\x00\x00\x03\x02\x01\x05",
            b"\x30\x80\x02\x01\x05\x00\x00",
        ] {
            let with_rest = [encoded, b"\n"].concat();
            let mut reader = Asn1Reader::new(&with_rest);
            let value = reader.value(SEQUENCE).unwrap();
            assert_eq!(value.encoded(), encoded);
            assert_eq!(value.reader().unsigned(), Ok(5), "{encoded:02x?}");
            assert!(!reader.is_empty());
        }
    }

    #[test]
    fn the_parts_of_a_string_are_joined() {
        for encoded in [
            &b"\x04\x04abcd"[..],
            b"\x24\x08\x04\x02ab\x04\x02cd",
            b"\x24\x80\x04\x01a\x24\x80\x04\x02bc\x00\x00\x04\x01d\x00\x00",
        ] {
            let octets = Asn1Reader::new(encoded).octets().unwrap();
            assert_eq!(&**octets, b"abcd", "{encoded:02x?}");
        }
    }

    #[test]
    fn broken_values_are_errors() {
        use Asn1Error::{Malformed, Truncated};
        let nested = [[0x30, 0x80].repeat(100), [0, 0].repeat(100)].concat();
        let strings = (0..100).fold(vec![], |inner: Vec<u8>, _| {
            let length = (inner.len() as u32).to_be_bytes();
            [&[0x24, 0x84][..], &length, &inner].concat()
        });
        for (encoded, expected) in [
            (&b""[..], Truncated),
            (b"\x30", Truncated),
            (b"\x30\x02\x02", Truncated),
            (b"\x30\x82\x01", Truncated),
            (b"\x30\x80\x02\x01\x05", Truncated),
            (b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff", Truncated),
            (b"\x30\x89\x00\x00\x00\x00\x00\x00\x00\x00\x00", Malformed),
            (b"\x04\x80\x00\x00", Malformed),
            (b"\x3f\x81\x00\x00", Malformed),
            (&nested, Malformed),
        ] {
            let error = Asn1Reader::new(encoded).any().err();
            assert_eq!(error, Some(expected), "{encoded:02x?}");
        }
        assert!(Asn1Reader::new(&strings).octets().is_err());
        assert!(Asn1Reader::new(b"\x24\x03\x02\x01\x05").octets().is_err());
    }

    #[test]
    fn integers_outside_the_range_are_errors() {
        for (encoded, expected) in [
            (&b"\x02\x02\x00\x80"[..], Ok(0x80)),
            (b"\x02\x03\x00\x00\x80", Ok(0x80)),
            (
                b"\x02\x09\x00\xff\xff\xff\xff\xff\xff\xff\xff",
                Ok(u64::MAX),
            ),
            (
                b"\x02\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00",
                Err(Asn1Error::Malformed),
            ),
            (b"\x02\x01\x80", Err(Asn1Error::Malformed)),
            (b"\x02\x00", Err(Asn1Error::Malformed)),
        ] {
            assert_eq!(Asn1Reader::new(encoded).unsigned(), expected);
        }
    }
}
