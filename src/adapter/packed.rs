use http::{HeaderMap, HeaderName, HeaderValue};

/// A copy of headers and of `N` other texts, in one allocation.
///
/// A clone of a `HeaderMap` allocates twice for the map, and once for each value that had no clone
/// before. A retry is rare, so the copy is cheap to create, and not to read.
///
/// A text is its length and its bytes. A header is two texts, and an octet between the texts tells
/// whether the value is sensitive.
pub(super) struct Packed<const N: usize>(Vec<u8>);

impl<const N: usize> Packed<N> {
    #[inline]
    pub(super) fn new(texts: [&[u8]; N], headers: &HeaderMap) -> Self {
        let texts_len: usize = texts.iter().map(|text| LENGTH + text.len()).sum();
        let headers_len: usize = headers
            .iter()
            .map(|(name, value)| 2 * LENGTH + 1 + name.as_str().len() + value.len())
            .sum();
        let mut packed = Vec::with_capacity(texts_len + headers_len);
        for text in texts {
            push(&mut packed, text);
        }
        for (name, value) in headers {
            push(&mut packed, name.as_str().as_bytes());
            packed.push(value.is_sensitive().into());
            push(&mut packed, value.as_bytes());
        }
        Self(packed)
    }

    /// Returns `None` if the bytes are not what [`new`](Self::new) wrote.
    pub(super) fn unpack(&self) -> Option<([&[u8]; N], HeaderMap)> {
        let mut packed = &self.0[..];
        let mut texts: [&[u8]; N] = [&[]; N];
        for text in &mut texts {
            *text = take(&mut packed)?;
        }
        let mut headers = HeaderMap::new();
        while !packed.is_empty() {
            let name = HeaderName::from_bytes(take(&mut packed)?).ok()?;
            let is_sensitive = *packed.split_off_first()? != 0;
            let mut value = HeaderValue::from_bytes(take(&mut packed)?).ok()?;
            value.set_sensitive(is_sensitive);
            headers.append(name, value);
        }
        Some((texts, headers))
    }
}

fn push(packed: &mut Vec<u8>, text: &[u8]) {
    packed.extend_from_slice(&text.len().to_ne_bytes());
    packed.extend_from_slice(text);
}

fn take<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = packed.split_first_chunk::<LENGTH>()?;
    let (text, rest) = rest.split_at_checked(usize::from_ne_bytes(*length))?;
    *packed = rest;
    Some(text)
}

/// The octets of a length.
const LENGTH: usize = size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let mut headers = HeaderMap::new();
        for (name, value, is_sensitive) in [
            ("accept", &b"application/json"[..], false),
            ("x-custom", b"", false),
            ("cookie", b"a=b", true),
            ("x-custom", b"\tcaf\xe9", false),
            ("accept", b"text/html", false),
        ] {
            let mut value = HeaderValue::from_bytes(value).unwrap();
            value.set_sensitive(is_sensitive);
            headers.append(HeaderName::from_static(name), value);
        }
        let packed = Packed::new([b"https://a.example/", &[]], &headers);
        assert_eq!(packed.0.capacity(), packed.0.len(), "one allocation");
        let (texts, unpacked) = packed.unpack().unwrap();
        assert_eq!(texts, [&b"https://a.example/"[..], &[]]);
        // The order and the sensitivity count, and `==` ignores both.
        let list = |headers: &HeaderMap| {
            let all = headers.iter().map(|(name, value)| {
                (
                    name.clone(),
                    value.as_bytes().to_owned(),
                    value.is_sensitive(),
                )
            });
            all.collect::<Vec<_>>()
        };
        assert_eq!(list(&unpacked), list(&headers));
    }

    #[test]
    fn nothing_is_allocated_for_no_headers() {
        let packed = Packed::new([], &HeaderMap::new());
        assert_eq!(packed.0.capacity(), 0);
        assert!(packed.unpack().unwrap().1.is_empty());
    }

    #[test]
    fn truncated_bytes_are_not_unpacked() {
        let headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("a"))]);
        let Packed(mut packed) = Packed::new([b"text"], &headers);
        while packed.pop().is_some() {
            // Without its last header, the copy is whole.
            let is_whole = packed.len() == LENGTH + "text".len();
            let packed = Packed::<1>(packed.clone());
            assert_eq!(packed.unpack().is_some(), is_whole, "{}", packed.0.len());
        }
    }
}
