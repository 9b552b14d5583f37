//! The header `x-anchormailbox` of a token request for a user.

use http::{HeaderName, HeaderValue};

/// The user of a token request, as the header `x-anchormailbox` names the user.
///
/// Microsoft Entra ID routes the request to the data centre of the user by this header. The header
/// is a hint. Without the header, the request has the same response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnchorMailbox<'a> {
    /// The object ID of the user, and the tenant of the user by ID or by domain.
    ObjectId { object_id: &'a str, tenant: &'a str },
    /// The sign-in name of the user (UPN).
    Username(&'a str),
}

impl AnchorMailbox<'_> {
    /// Returns the value of the header in MSAL's form, `oid:{object id}@{tenant}` or `upn:{name}`.
    ///
    /// The value is sensitive, because the value names a user. A name that no header can carry,
    /// such as one beyond ASCII, has no value, and the request is sent without the hint.
    pub(crate) fn header_value(self) -> Option<HeaderValue> {
        let text = match self {
            Self::ObjectId { object_id, tenant } => format!("oid:{object_id}@{tenant}"),
            Self::Username(name) => format!("upn:{name}"),
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

pub(crate) const ANCHOR_MAILBOX: HeaderName = HeaderName::from_static("x-anchormailbox");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_in_msals_form_or_not_at_all() {
        let adele = "4f2b3e1a-0000-0000-0000-000000000001";
        let by_id = |tenant| AnchorMailbox::ObjectId {
            object_id: adele,
            tenant,
        };
        for (user, expected) in [
            (
                by_id("contoso.com"),
                Some("oid:4f2b3e1a-0000-0000-0000-000000000001@contoso.com"),
            ),
            (by_id("con toso"), None),
            (
                AnchorMailbox::Username("adele@contoso.com"),
                Some("upn:adele@contoso.com"),
            ),
            (AnchorMailbox::Username("ad\r\nele@contoso.com"), None),
            (AnchorMailbox::Username("ad\u{e8}le@contoso.com"), None),
        ] {
            let value = user.header_value();
            let text = value.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(text, expected, "{user:?}");
            assert!(value.is_none_or(|value| value.is_sensitive()), "{user:?}");
        }
    }
}
