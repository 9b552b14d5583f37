//! Validation of access tokens in a web API.
//!
//! A [`TokenValidator`] checks the token of a request and returns the [`Claims`]. An API for users
//! then checks two permissions:
//!
//! - **The client** needs a scope, such as `Files.Read`. The user or an administrator granted the
//!   scope to the client. A client without the scope gets a [`TokenRejection`].
//! - **The user** needs a right, such as a role or the ownership of a file. The application knows
//!   these rights. A user without the right gets [`UserNotAllowed`].
//!
//! Both checks must pass. The two errors are different types and give different 403 responses.
//!
//! ```
//! # use confidential_client::ConfidentialClient;
//! # use confidential_client::testing::{Application, LocalAuthority};
//! use confidential_client::resource::{AccessDenied, RejectionReason, TokenValidator};
//! use http::HeaderMap;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let local = LocalAuthority::start().await?;
//! # let daemon = Application::new("daemon").secret("the secret's value");
//! # let daemon = daemon.role("api://drive", "Files.Read.All");
//! # local.register("contoso.onmicrosoft.com", daemon);
//! # let authority = local.authority("contoso.onmicrosoft.com");
//! // Once per process. Here, authority is
//! // Authority::entra(Cloud::Public, "contoso.onmicrosoft.com").
//! let validator = TokenValidator::builder(authority)
//!     .audience("api://drive") // The application ID URI, for version 1 tokens.
//!     .audience("11111111-2222-3333-4444-555555555555") // The client id, for version 2 tokens.
//!     .single_tenant()
//!     .build()?;
//!
//! // For each request:
//! async fn read(validator: &TokenValidator, headers: &HeaderMap, owner: &str) -> Result<(), AccessDenied> {
//!     let token = validator.validate_headers(headers).await?;
//!     token.require_scope("Files.Read")?; // Client authorization.
//!     token.authorize_user(|user| user.object_id() == Some(owner))?; // User authorization.
//!     Ok(())
//! }
//! # let client = ConfidentialClient::builder("daemon")
//! #     .authority(local.authority("contoso.onmicrosoft.com"))
//! #     .client_secret("the secret's value")
//! #     .build()?;
//! # let token = client.acquire_token_for_client("api://drive/.default").await?;
//! # let mut headers = HeaderMap::new();
//! # headers.insert("authorization", token.authorization_header());
//!
//! // The token of a daemon does not act for a user, so the scope check rejects the token.
//! match read(&validator, &headers, "adele").await {
//!     Err(AccessDenied::Client(rejection)) => {
//!         assert_eq!(rejection.reason(), RejectionReason::NeedsUser);
//!         assert_eq!(rejection.status(), 403);
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Kinds of tokens
//!
//! An application that acts without a user has roles in place of scopes. No token passes as the
//! other kind, and a token of an unknown holder passes as neither. [`Holder`] has the evidence for
//! each kind of authority, and rules for providers that give none.
//!
//! | Method | User token | Application token | Unknown holder |
//! | --- | --- | --- | --- |
//! | [`require_scope`](Claims::require_scope) | needs the scope | rejected | rejected |
//! | [`require_application_role`](Claims::require_application_role) | rejected | needs the role | rejected |
//! | [`require_any`](Claims::require_any) | needs one of the scopes | needs one of the roles | rejected |
//! | [`require_user_role`](Claims::require_user_role) | needs the app role | rejected | rejected |
//! | [`authorize_user`](Claims::authorize_user) | decided by a closure | rejected | rejected |
//!
//! # Tenants
//!
//! The accepted tenants have no default. Call
//! [`single_tenant`](TokenValidatorBuilder::single_tenant),
//! [`tenants`](TokenValidatorBuilder::tenants) or
//! [`any_tenant`](TokenValidatorBuilder::any_tenant).
//!
//! # Rejections
//!
//! A [`TokenRejection`] has a text for each reader:
//!
//! | Text | Reader | Content |
//! | --- | --- | --- |
//! | `Display`, `WWW-Authenticate` ([RFC 6750 section 3]) | the client | the failed check, and the missing scope or claims |
//! | [`TokenRejection::chain`], `Debug`, the log | the operator | also the compared values, such as the audience of the token and the accepted audiences |
//!
//! Neither text contains the token, a name or an address of the user.
//!
//! The validator logs every rejection: of a token, of a request without a token, and of a missing
//! scope, role or right. The first rejection of a minute for each [`RejectionReason`] is a warning
//! with the number of rejections since the last warning (`suppressed`). The others are logged at
//! DEBUG. A check of [`Claims`] that fails logs a rejection, even if the application ignores the
//! result. [`Claims::scopes`] and [`Claims::roles`] log nothing.
//!
//! | Status | Rejections |
//! | --- | --- |
//! | 400 | several credentials, or another mistake in the `Authorization` header |
//! | 401 | no token, a rejected token or proof, or a claims challenge |
//! | 403 | a missing scope, role or right, or a client that cannot answer a claims challenge |
//! | 503 | the signing keys or the introspection endpoint are unavailable, or a proof cannot be checked for replay |
//!
//! An API that calls another API for its user hands the identity provider's demands on to the
//! client with [`Claims::challenge_from`].
//!
//! [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
//!
//! # Bound tokens
//!
//! A bearer token works for everybody who has the token. A token that is bound to a key (`cnf`,
//! [RFC 7800]) works only for the client that has the key. By default a validator rejects bound
//! tokens, because it must not accept a binding that it does not check.
//!
//! | Setting | Binding | The client shows the key by | Scheme |
//! | --- | --- | --- | --- |
//! | [`dpop`](TokenValidatorBuilder::dpop) | `jkt` ([RFC 9449]) | a proof in the header `DPoP` of each request | `DPoP` |
//! | [`certificate_bound`](TokenValidatorBuilder::certificate_bound) | `x5t#S256` ([RFC 8705]) | its certificate in the TLS connection | `Bearer` or `mtls_pop` |
//!
//! - [`TokenValidator::validate_request`] checks a token with its request.
//!   [`validate`](TokenValidator::validate) knows no request, and rejects bound tokens.
//! - A bound token without its key is rejected, whatever the scheme. A token that is not bound is
//!   rejected with the scheme of bound tokens.
//! - [`require_bound_tokens`](TokenValidatorBuilder::require_bound_tokens) rejects bearer tokens.
//!   Without it, an attacker with a bearer token of the same identity provider needs no key.
//! - The check does not depend on the signature of the token. An introspected token with `cnf` gets
//!   the same check.
//!
//! [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705#section-3
//! [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
//!
//! # Web frameworks
//!
//! With the feature `axum`, a handler receives the validated token as an argument, the extractor
//! `adapter::AcceptedToken`. In other frameworks, call [`TokenValidator::validate_headers`], or
//! [`TokenValidator::validate_request`] for bound tokens, and build the response from the error.
//!
//! # Opaque tokens
//!
//! [`TokenValidator::introspecting`] asks the identity provider about each token ([RFC 7662]). The
//! checks of the [`Claims`] stay the same.
//!
//! [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662
//!
//! # Limits
//!
//! Without introspection the validator does not check whether a token was revoked. The validator
//! does not detect a bearer token that is used twice, and does not decrypt tokens. Signed HTTP
//! requests (SHR), the older proof of possession of Microsoft Entra ID with the scheme `PoP`, are
//! not supported.
//!
//! [RFC 7800]: https://www.rfc-editor.org/rfc/rfc7800

mod accepted_tenants;
mod access_denied;
mod access_token;
mod agent_claims;
mod bearer;
mod builder;
mod certificate_source;
mod claim_values;
mod claims;
mod confirmation;
mod dpop_policy;
mod holder;
mod introspection;
mod nonce;
mod permission;
mod rejection;
mod rejection_log;
mod replay_cache;
mod request;
mod signing_keys;
mod validator;

pub use access_denied::{AccessDenied, UserNotAllowed};
pub use builder::TokenValidatorBuilder;
pub use certificate_source::CertificateSource;
pub use claims::Claims;
pub use dpop_policy::DpopPolicy;
pub use holder::Holder;
pub use permission::Permission;
pub use rejection::{RejectionReason, TokenRejection};
pub use replay_cache::{ReplayCache, ReplayCacheFuture};
pub use request::{ExternalUri, PeerCertificate, ResourceRequest};
pub use validator::TokenValidator;
