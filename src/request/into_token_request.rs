use super::TokenRequest;

/// A value that a client accepts as a token request.
///
/// Implemented for [`TokenRequest`], for one scope as text, and for arrays and slices of scopes. A
/// cache hit by a `&str`, a `&String` or a `&TokenRequest` copies nothing.
///
/// A program can implement the trait for a type of its own:
///
/// ```
/// use confidential_client::{IntoTokenRequest, TokenRequest};
///
/// enum Api {
///     Graph,
///     Orders,
/// }
///
/// impl IntoTokenRequest for Api {
///     fn into_token_request(self) -> TokenRequest {
///         TokenRequest::new(match self {
///             Self::Graph => "https://graph.microsoft.com/.default",
///             Self::Orders => "api://orders/.default",
///         })
///     }
/// }
///
/// assert_eq!(Api::Orders.into_token_request().tenant_id(), None);
/// # let _ = Api::Graph;
/// ```
pub trait IntoTokenRequest: Send + Sized {
    /// Converts the value into a request.
    fn into_token_request(self) -> TokenRequest;

    /// Lends the value to the lookup of a cached token.
    #[doc(hidden)]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Nothing)
    }
}

/// A request that was lent to a lookup.
#[doc(hidden)]
#[derive(Debug)]
pub struct LentRequest<'a>(pub(crate) Lent<'a>);

#[derive(Debug)]
pub(crate) enum Lent<'a> {
    /// The scope as the caller typed the text.
    Scope(&'a str),
    Request(&'a TokenRequest),
    Nothing,
}

impl IntoTokenRequest for TokenRequest {
    fn into_token_request(self) -> TokenRequest {
        self
    }

    #[inline]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Request(self))
    }
}

impl IntoTokenRequest for &TokenRequest {
    fn into_token_request(self) -> TokenRequest {
        self.clone()
    }

    #[inline]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Request(self))
    }
}

impl IntoTokenRequest for &str {
    fn into_token_request(self) -> TokenRequest {
        self.into()
    }

    #[inline]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Scope(self))
    }
}

impl IntoTokenRequest for &String {
    fn into_token_request(self) -> TokenRequest {
        self.as_str().into()
    }

    #[inline]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Scope(self))
    }
}

impl IntoTokenRequest for String {
    fn into_token_request(self) -> TokenRequest {
        self.into()
    }

    #[inline]
    fn lend(&self) -> LentRequest<'_> {
        LentRequest(Lent::Scope(self))
    }
}

impl<const N: usize> IntoTokenRequest for [&str; N] {
    fn into_token_request(self) -> TokenRequest {
        self.into()
    }
}

impl IntoTokenRequest for &[&str] {
    fn into_token_request(self) -> TokenRequest {
        self.into()
    }
}

impl<const N: usize> IntoTokenRequest for &[&str; N] {
    fn into_token_request(self) -> TokenRequest {
        TokenRequest::from_scopes(self)
    }
}

impl IntoTokenRequest for &[String] {
    fn into_token_request(self) -> TokenRequest {
        TokenRequest::from_scopes(self)
    }
}

impl IntoTokenRequest for Vec<&str> {
    fn into_token_request(self) -> TokenRequest {
        TokenRequest::from_scopes(self)
    }
}

impl IntoTokenRequest for Vec<String> {
    fn into_token_request(self) -> TokenRequest {
        TokenRequest::from_scopes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_of_scopes_is_a_request() {
        let scopes = ["api://drive/Files.Read", "api://drive/Files.Write"];
        let owned = scopes.map(ToOwned::to_owned);
        let expected = TokenRequest::from_scopes(scopes);
        for request in [
            scopes.into_token_request(),
            (&scopes).into_token_request(),
            scopes.as_slice().into_token_request(),
            scopes.to_vec().into_token_request(),
            owned.as_slice().into_token_request(),
            owned.to_vec().into_token_request(),
        ] {
            assert_eq!(format!("{request:?}"), format!("{expected:?}"));
        }
    }
}
