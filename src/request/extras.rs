//! What a caller adds to a request beyond the parameters of the standards.

use super::parameters::ParameterLocation;
use super::{AssertionClaimSet, TokenRequest};
use crate::error::Error;

/// # Headers, assertion claims and cache partitions
impl TokenRequest {
    /// Sets an extra header of the token request, such as the key of a gateway in front of the
    /// identity provider.
    ///
    /// The values are marked sensitive, and `Debug` shows the names alone. The last value of a name
    /// counts. On use, the client rejects headers that the client or its connection sends, such as
    /// `authorization`, `host`, `content-type`, `content-length`, `dpop` and `client-request-id`.
    ///
    /// Headers are **not** part of the cache key. A call that finds a cached token sends no header.
    /// A call that joins a token request in flight does not send its own headers, because the
    /// request has the headers of the call that started it. A background refresh has the headers
    /// of the call that started the refresh. Use [`cache_partition`](Self::cache_partition) with
    /// the same value if the header decides about the token.
    ///
    /// The header is sent with token requests and with pushed authorization requests, and not for
    /// discovery or introspection. A managed identity and a credential chain send no extra headers.
    /// A request that is pushed or redeemed after a sign-in carries the headers in the
    /// [`AuthorizationCodeFlow`](crate::delegated::AuthorizationCodeFlow).
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let request = TokenRequest::new("https://graph.microsoft.com/.default")
    ///     .header("x-gateway-key", "of the egress gateway");
    /// assert!(!format!("{request:?}").contains("egress"));
    /// ```
    #[doc(alias = "WithExtraHttpHeaders")]
    #[doc(alias = "WithCcsRoutingHint")]
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let mut headers = self.0.headers.clone();
        match headers.set(name.as_ref(), value.as_ref()) {
            Ok(()) => self.update(|fields| fields.headers = headers),
            Err(error) => self.invalid(error),
        }
    }

    /// Sends the extra headers of another request, too, in the partition of that request, because
    /// the headers may decide about the token.
    pub(crate) fn headers_and_partition_of(self, other: &Self) -> Self {
        let other = &other.0;
        let partition = other.parameters.partition();
        if other.headers.is_empty() && partition.is_none() {
            return self;
        }
        self.update(|fields| {
            fields.headers = other.headers.clone();
            let pair = partition.map(|partition| (String::new(), partition.to_owned()));
            fields.parameters.set(ParameterLocation::Partition, pair);
        })
    }

    /// Adds claims to the client assertion of the token request, as a JSON object
    /// ([RFC 7523 section 3]).
    ///
    /// For a client that signs its assertions, with a
    /// [`certificate`](crate::ConfidentialClientBuilder::certificate), a source of certificates or
    /// a [`Signer`](crate::credential::Signer). On use, another client rejects the request: a
    /// client with a secret has no assertion, and an assertion of the caller's own code has the
    /// claims that the code puts there.
    ///
    /// The claims are part of the cache key, because the identity provider may issue another token
    /// for them. The order of the members does not matter. A second call replaces the claims of the
    /// first. On use, the client rejects `aud`, `iss`, `sub`, `jti`, `exp`, `nbf` and `iat`, which
    /// the client sets. Introspection requests have no extra claims.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let request = TokenRequest::new("https://graph.microsoft.com/.default")
    ///     .client_assertion_claims(r#"{"client_region":"westeurope"}"#);
    /// # let _ = request;
    /// ```
    ///
    /// [RFC 7523 section 3]: https://www.rfc-editor.org/rfc/rfc7523#section-3
    #[doc(alias = "WithExtraClientAssertionClaims")]
    #[doc(alias = "WithClientClaims")]
    pub fn client_assertion_claims(self, json: impl AsRef<str>) -> Self {
        match AssertionClaimSet::parse(json.as_ref()) {
            Ok(claims) => self.update(|fields| {
                let location = ParameterLocation::AssertionClaim;
                fields.parameters.set(location, claims.into_pairs());
            }),
            Err(error) => self.invalid(error),
        }
    }

    /// Separates the cached tokens of this request from those of other partitions.
    ///
    /// The partition is part of the cache key, in memory and in a shared cache. It is never sent,
    /// never logged, and `Debug` hides it. In a shared cache, the name of the record contains a
    /// keyed hash of it. Use it for tokens that differ by more than the request says, for example
    /// for a daemon that acts for many customers, or for headers that decide about the token.
    ///
    /// The default is no partition. A partition does not separate users' sessions: all partitions
    /// of an account use one refresh token. On use, the client rejects an empty partition.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let request =
    ///     TokenRequest::new("https://graph.microsoft.com/.default").cache_partition("customer-7");
    /// # let _ = request;
    /// ```
    #[doc(alias = "WithCachePartitionKey")]
    pub fn cache_partition(self, partition: impl Into<String>) -> Self {
        let partition = partition.into();
        if partition.is_empty() {
            return self.invalid(Error::config(
                "the cache partition is empty; pass the text that tells the partitions apart, or leave cache_partition(..) out",
            ));
        }
        self.update(|fields| {
            let pair = (String::new(), partition);
            fields.parameters.set(ParameterLocation::Partition, [pair]);
        })
    }
}
