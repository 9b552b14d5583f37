/// The check that a token failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The request carries no bearer token.
    MissingToken,
    /// The request has several credentials, an empty token, or an `Authorization` header with
    /// another mistake in its syntax.
    InvalidRequest,
    /// The token is not a signed JWT, is longer than 64 KiB, or has a missing or unreadable claim.
    Malformed,
    /// The token is signed with a rejected algorithm, such as `none` or `HS256`.
    UnsupportedAlgorithm,
    /// No published key of the identity provider matches the token's header.
    NoMatchingKey,
    /// The signature is invalid.
    InvalidSignature,
    /// The token or the signing key belongs to another issuer.
    InvalidIssuer,
    /// The token is bound to a key ([RFC 7800]), and the request does not show that the sender has
    /// the key, or the validator does not check such bindings.
    ///
    /// The request may have no proof, or another certificate or proof key than that of the token.
    ///
    /// [RFC 7800]: https://www.rfc-editor.org/rfc/rfc7800
    BoundToKey,
    /// The token is not bound to a key. The API accepts only bound tokens, or the token was sent
    /// with the scheme of bound tokens.
    NotBound,
    /// The DPoP proof of the request is missing or invalid, or was used before ([RFC 9449 section
    /// 4.3]).
    ///
    /// [RFC 9449 section 4.3]: https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    InvalidProof,
    /// The DPoP proof has no nonce of the API, or an old one. The response has a nonce.
    NeedsNonce,
    /// The token's user flow of Azure AD B2C is not accepted by this API.
    PolicyNotAccepted,
    /// The token's tenant is not accepted by this API.
    TenantNotAccepted,
    /// The token is for another API.
    InvalidAudience,
    /// The token is for Microsoft Graph.
    ForGraph,
    /// The token has expired.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
    /// The token is an ID token or another token that is not an access token.
    NotAnAccessToken,
    /// The client was not granted a required scope.
    MissingScope,
    /// The application was not granted a required role.
    MissingRole,
    /// The operation requires a user token, and the token does not act for a user.
    NeedsUser,
    /// The operation requires an application token, and the token does not act for an application.
    NeedsApplication,
    /// The user must meet an authentication context.
    ///
    /// The response is a claims challenge, or a 403 if the client cannot answer a challenge.
    NeedsAuthenticationContext,
    /// An API that is called on behalf of the user needs more claims. The response is a claims
    /// challenge.
    NeedsClaims,
    /// The signing keys of the identity provider are unavailable.
    KeysUnavailable,
    /// The identity provider says that the token is not active ([RFC 7662 section 2.2]).
    ///
    /// [RFC 7662 section 2.2]: https://www.rfc-editor.org/rfc/rfc7662#section-2.2
    Inactive,
    /// The introspection endpoint of the identity provider is unavailable.
    IntrospectionUnavailable,
    /// The replay cache of the API failed or is full, so a replay of the proof cannot be ruled out.
    ReplayCacheUnavailable,
}
