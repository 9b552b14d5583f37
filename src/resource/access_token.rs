//! Checks that a validated token is an access token.

use super::claim_values::client_ids;
use super::claims::Claims;
use super::rejection::{RejectionReason, TokenRejection};
use crate::jwt;

/// Rejects ID tokens, refresh tokens and security event tokens.
///
/// `is_typed` says that the header names the type of access tokens ([RFC 9068 section 2.1]).
///
/// [RFC 9068 section 2.1]: https://www.rfc-editor.org/rfc/rfc9068#section-2.1
pub(super) fn check_access_token(claims: &Claims, is_typed: bool) -> Result<(), TokenRejection> {
    // Keycloak names the type of a token in a claim.
    if let Some(typ) = claims.string("typ")
        && NOT_ACCESS_TOKENS
            .iter()
            .any(|other| typ.eq_ignore_ascii_case(other))
    {
        return Err(not_an_access_token(
            "the token is of another type",
            format!("the claim 'typ' is {}", jwt::listed([typ])),
        ));
    }
    // RFC 8417 section 2.2: a security event token, such as a logout token.
    if claims.all().get("events").is_some() {
        return Err(not_an_access_token(
            "the token is a security event token",
            "the token has the claim 'events'".to_owned(),
        ));
    }
    match is_typed || !is_id_token(claims) {
        true => Ok(()),
        false => Err(not_an_access_token(
            "the token is an ID token, which is meant for the client",
            evidence(claims),
        )),
    }
}

/// Returns whether an introspection response without a type has claims of ID tokens alone.
///
/// Other members of a response say little: a provider may leave out the client and the scope of an
/// opaque access token.
pub(super) fn names_id_token(response: &Claims) -> bool {
    let has = |name: &str| response.all().get(name).is_some();
    !has("token_type")
        && ["at_hash", "c_hash", "s_hash", "nonce"]
            .into_iter()
            .any(has)
}

/// Returns whether the claims are those of an ID token ([OpenID Connect Core section 2]).
///
/// [OpenID Connect Core section 2]: https://openid.net/specs/openid-connect-core-1_0.html#IDToken
fn is_id_token(claims: &Claims) -> bool {
    let has = |name: &str| claims.all().get(name).is_some();
    if ["at_hash", "c_hash", "s_hash"].into_iter().any(has) {
        return true;
    }
    if claims.has_scope_claim() {
        return false;
    }
    // Entra's access tokens of an application for itself have the same audience and client, too.
    let authenticates_client = ["azpacr", "appidacr", "idtyp"].into_iter().any(has);
    has("nonce")
        || claims.client_id().is_none()
        || (!authenticates_client && is_for_its_client(claims))
}

/// Returns whether the client that requested the token is the only audience, or is an audience by
/// the name that ID tokens give the client.
fn is_for_its_client(claims: &Claims) -> bool {
    let mut audiences = claims.all().strings("aud").peekable();
    let party = claims.string("azp");
    audiences.clone().any(|audience| party == Some(audience))
        || (audiences.peek().is_some()
            && audiences.all(|audience| client_ids(claims.all()).any(|client| client == audience)))
}

/// Returns the names of the claims that tell an ID token from an access token.
fn evidence(claims: &Claims) -> String {
    let names = [
        "nonce",
        "at_hash",
        "c_hash",
        "s_hash",
        "scp",
        "scope",
        "azp",
        "client_id",
    ];
    let (present, absent): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| claims.all().get(name).is_some());
    format!(
        "the header's 'typ' is not 'at+jwt', the token has the claims {}, and the token lacks {}",
        jwt::listed(present),
        jwt::listed(absent)
    )
}

fn not_an_access_token(what: &str, detail: String) -> TokenRejection {
    TokenRejection::compared(
        RejectionReason::NotAnAccessToken,
        format!("{what}; send an access token"),
        detail,
    )
}

/// Types of Keycloak's other tokens, in the claim `typ`.
const NOT_ACCESS_TOKENS: [&str; 8] = [
    "ID",
    "Refresh",
    "Offline",
    "Logout",
    "Backchannel-Logout",
    "Serialized-ID",
    "InitialAccessToken",
    "RegistrationAccessToken",
];
