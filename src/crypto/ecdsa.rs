use super::asn1::{INTEGER, SEQUENCE};

/// Converts a signature of ECDSA from the form of a JWS to the form of TLS.
///
/// A JWS has two numbers of equal length ([RFC 7518 section 3.4]). TLS has a DER sequence of two
/// integers ([RFC 3279 section 2.2.3]).
///
/// [RFC 3279 section 2.2.3]: https://www.rfc-editor.org/rfc/rfc3279#section-2.2.3
/// [RFC 7518 section 3.4]: https://www.rfc-editor.org/rfc/rfc7518#section-3.4
pub(crate) fn to_der(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    encode(SEQUENCE, &[integer(r), integer(s)].concat())
}

/// Encodes a positive number. The first bit of an integer is its sign.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = number.get(zeros..).unwrap_or_default();
    match number.first() {
        Some(..=0x7f) => encode(INTEGER, number),
        Some(_) | None => encode(INTEGER, &[&[0], number].concat()),
    }
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ ..=0x7f) => encoded.push(length),
        Ok(length) => encoded.extend([0x81, length]),
        // No curve has numbers of this length.
        Err(_) => encoded.extend([0x82, (content.len() >> 8) as u8, content.len() as u8]),
    }
    encoded.extend_from_slice(content);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positive_and_as_short_as_possible() {
        for (signature, der) in [
            (&[1, 2][..], &[0x30, 6, 2, 1, 1, 2, 1, 2][..]),
            (&[0x80, 0x7f], &[0x30, 7, 2, 2, 0, 0x80, 2, 1, 0x7f]),
            (&[0, 1, 0, 0x80], &[0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]),
            (&[0, 0], &[0x30, 6, 2, 1, 0, 2, 1, 0]),
        ] {
            assert_eq!(to_der(signature), der, "{signature:02x?}");
        }
        let long = to_der(&[0xff; 132]);
        assert_eq!(long[..6], [0x30, 0x81, 138, 2, 67, 0]);
    }
}
