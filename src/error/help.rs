//! Advice for the error codes of Microsoft Entra ID.

use super::ErrorResponse;
use super::origin::{ClockCheck, CredentialKind, CredentialOrigin};

mod table;

use table::{HELP, Help};

/// Returns the advice for an error response, or `None` if nothing is known about the error.
pub(super) fn advice(response: &ErrorResponse) -> Option<String> {
    if let Some(text) = advice_for_proof(response) {
        return Some(text);
    }
    if response.error == INVALID_TARGET {
        return Some(TARGET.to_owned());
    }
    let codes = &response.error_codes;
    let known = || codes.iter().filter_map(|code| find(*code));
    // A general code precedes the specific one in the responses of older versions.
    let help = known()
        .find(|help| !GENERAL.contains(&help.code))
        .or_else(|| known().next());
    let origin = response.origin.as_ref();
    let text = help.map(|help| sentence(help, origin, response.clock));
    let text = text.or_else(|| advice_for_assertion(response).map(ToOwned::to_owned));
    let difference = response.clock.to_string();
    if difference.is_empty() || !refuses_assertion(response) {
        return text;
    }
    let is_time_range = help.is_some_and(|help| help.code == OUTSIDE_TIME_RANGE);
    Some(match text {
        _ if is_time_range && !is_foreign(origin) => format!(
            "{difference}, so the assertion is outside its time range; correct the clock (NTP)"
        ),
        Some(text) => format!("{text}; {difference}, so correct the clock (NTP)"),
        None => format!("{difference}; correct the clock (NTP)"),
    })
}

/// Returns the advice for a request that had a user federated identity credential in the place of a
/// user assertion.
pub(super) fn for_user_credential(advice: &str) -> String {
    let advice = advice.replace(table::USER_ASSERTION, table::USER_CREDENTIAL);
    advice.replace(
        table::EXPIRED_USER_ASSERTION,
        table::EXPIRED_USER_CREDENTIAL,
    )
}

/// Returns the advice for an OpenID provider that rejects an assertion and names the claim.
fn advice_for_assertion(response: &ErrorResponse) -> Option<&'static str> {
    if !response.error_codes.is_empty() || !refuses_assertion(response) {
        return None;
    }
    let description = response.error_description.as_deref()?.to_ascii_lowercase();
    let mut words = description.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| match word {
        "aud" | "audience" | "audiences" => Some(AUDIENCE),
        "typ" => Some(TYPE),
        _ => None,
    })
}

/// Returns the advice for a rejected proof ([RFC 9449 sections 5 and 8]).
///
/// [RFC 9449 sections 5 and 8]: https://www.rfc-editor.org/rfc/rfc9449#section-8
fn advice_for_proof(response: &ErrorResponse) -> Option<String> {
    let text = match &*response.error {
        "invalid_dpop_proof" => INVALID_PROOF,
        "use_dpop_nonce" => USE_NONCE,
        _ => return None,
    };
    let difference = response.clock.to_string();
    Some(match difference.is_empty() {
        true => text.to_owned(),
        false => format!("{text}; {difference}, so correct the clock (NTP)"),
    })
}

fn find(code: u64) -> Option<&'static Help> {
    let at = HELP.binary_search_by_key(&code, |help| help.code).ok()?;
    HELP.get(at)
}

/// Returns the sentence of a code for this origin of the credential.
fn sentence(help: &Help, origin: Option<&CredentialOrigin>, clock: ClockCheck) -> String {
    let is_in_time = clock == ClockCheck::Agrees && help.code == OUTSIDE_TIME_RANGE;
    let text = match help.assertion.filter(|_| is_foreign(origin)) {
        _ if is_in_time && is_foreign(origin) => table::STALE_ASSERTION,
        _ if is_in_time => table::LATE_ASSERTION,
        Some(text) => text,
        None => help.text,
    };
    let mut sentence = text.to_owned();
    for name in ["secret", "certificate", "assertion"] {
        let origin = origin.filter(|origin| origin.kind.noun() == name);
        let noun = match origin.and_then(|origin| origin.source.as_deref()) {
            Some(source) => format!("{name} of the {source}"),
            None => name.to_owned(),
        };
        sentence = sentence.replace(&format!("{{{name}}}"), &noun);
    }
    sentence
}

fn is_foreign(origin: Option<&CredentialOrigin>) -> bool {
    origin.is_some_and(|origin| origin.kind == CredentialKind::Assertion)
}

/// Returns whether the provider rejects an assertion, whose validity depends on the clock.
fn refuses_assertion(response: &ErrorResponse) -> bool {
    let codes = |known: &[u64]| response.error_codes.iter().any(|code| known.contains(code));
    let origin = response.origin.as_ref();
    let is_sent = origin.is_some_and(CredentialOrigin::sends_assertion);
    is_sent && response.rejects_credential()
        || codes(&[OUTSIDE_TIME_RANGE])
        || codes(USER_ASSERTIONS)
}

const AUDIENCE: &str = "the audience of a client assertion is the issuer of the provider; if the provider accepts only the URL of its token endpoint, set client_assertion_audience(AssertionAudience::TokenEndpoint) of the Authority";
const TYPE: &str = "the type of a client assertion is 'JWT', and 'client-authentication+jwt' with typed_client_assertions() of the Authority; choose the type that the provider accepts";
/// The error code for an API that the client must not use ([RFC 8707 section 2]).
///
/// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
const INVALID_TARGET: &str = "invalid_target";
const TARGET: &str = "the provider issues this client no token for the requested API; compare audience(..) and resource(..) with the API's identifier at the provider, and permit the client to use the API there";
const INVALID_PROOF: &str = "the provider rejected the proof of possession (DPoP); call dpop(..) of the builder if the client has no proof key, and otherwise compare the URL of the token endpoint with the URL that the provider sees behind its proxy";
const USE_NONCE: &str = "the provider demands its nonce in the proof of possession (DPoP), and sent none in the header DPoP-Nonce or rejected its own; call dpop(..) of the builder if the client has no proof key";
/// The assertion is outside its time range.
const OUTSIDE_TIME_RANGE: u64 = 700024;
/// The user assertion of an on-behalf-of request is invalid or has expired.
const USER_ASSERTIONS: &[u64] = &[50013, 500133];
/// Codes that Entra sends together with a specific code.
const GENERAL: &[u64] = &[50000, 70000, 70002, 90023];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::error::ServerError;

    fn error_with(code: u64) -> ServerError {
        let mut response = ErrorResponse::new(StatusCode::UNAUTHORIZED, "x".to_owned());
        response.error_codes = vec![code];
        response.into()
    }

    fn origin(kind: CredentialKind, source: Option<&str>) -> Option<CredentialOrigin> {
        let source = source.map(str::to_owned);
        Some(CredentialOrigin { kind, source })
    }

    fn refusal(code: u64, origin: Option<CredentialOrigin>, clock: ClockCheck) -> String {
        let mut response =
            ErrorResponse::new(StatusCode::UNAUTHORIZED, "invalid_client".to_owned());
        response.error_codes = vec![code];
        response.origin = origin;
        response.clock = clock;
        ServerError::from(response)
            .help()
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn an_openid_provider_that_names_the_audience_or_the_type_has_help() {
        use CredentialKind::{Certificate, Secret};

        for (error, kind, codes, description, expected) in [
            (
                "invalid_client",
                Certificate,
                &[][..],
                "invalid aud value",
                Some("TokenEndpoint"),
            ),
            (
                "invalid_client",
                Certificate,
                &[],
                "wrong Audience.",
                Some("TokenEndpoint"),
            ),
            (
                "invalid_client",
                Certificate,
                &[],
                "unexpected \"typ\" header",
                Some("typed_client"),
            ),
            (
                "invalid_client",
                Certificate,
                &[],
                "audit log full; bad type",
                None,
            ),
            ("invalid_client", Secret, &[], "invalid aud value", None),
            (
                "invalid_request",
                Certificate,
                &[],
                "invalid aud value",
                None,
            ),
            (
                "invalid_client",
                Certificate,
                &[1],
                "invalid aud value",
                None,
            ),
        ] {
            let mut response = ErrorResponse::new(StatusCode::BAD_REQUEST, error.to_owned());
            response.error_description = Some(description.to_owned());
            response.error_codes = codes.to_vec();
            response.origin = origin(kind, None);
            let help = ServerError::from(response).help().map(str::to_owned);
            match (&help, expected) {
                (None, None) => {}
                (Some(help), Some(part)) => assert!(help.contains(part), "{description}: {help}"),
                _ => panic!("{error}: {description}: {help:?}"),
            }
        }
    }

    #[test]
    fn a_rejected_proof_has_help_whatever_the_credential() {
        for (error, part) in [
            ("invalid_dpop_proof", "the URL of the token endpoint"),
            ("use_dpop_nonce", "DPoP-Nonce"),
        ] {
            let mut response = ErrorResponse::new(StatusCode::UNAUTHORIZED, error.to_owned());
            response.origin = origin(CredentialKind::Certificate, None);
            let text = ServerError::from(response.clone());
            assert!(text.help().unwrap().contains(part), "{text}");
            assert!(text.help().unwrap().len() <= 260);
            assert!(!text.rejects_credential(), "{error} is about the proof");
            response.clock = ClockCheck::Behind(Duration::from_secs(900));
            let text = ServerError::from(response);
            assert!(text.help().unwrap().contains("900 s behind"), "{text}");
        }
    }

    #[test]
    fn every_common_code_has_help() {
        for (codes, text) in [
            (&[7000215][..], "its secret ID"),
            (&[7000216, 7000218], "no credential"),
            (&[7000222], "expired"),
            (&[700016], "not in this tenant"),
            (&[90002, 900023], "no such tenant"),
            (&[700027], "not registered"),
            (&[700024], "clock"),
            (&[7000214, 7000277], "revoked"),
            (&[1000502], "outside its validity"),
            (&[7000274], "own private key"),
            (&[70021, 700211, 700212, 700213], "federated credential"),
            (&[7002137, 7002138], "federated credential"),
            (&[500011], "resource is not known"),
            (&[1002012, 70011], "/.default"),
            (&[65001], "consent"),
            (&[50013, 500131], "calling client"),
            (&[500133], "return 401 to the caller"),
            (&[50076, 50079], "more than one factor"),
            (&[54005, 70008, 50173, 700082], "sign in again"),
            (&[50011, 500112], "redirect URI"),
            (&[53003], "Conditional Access"),
            (&[50012], "assertion"),
            (&[50105, 501051], "assigned"),
            (&[7000112, 70001], "disabled"),
            (&[7000229], "service principal"),
            (&[700222], "Microsoft Entra ID"),
            (&[500021, 500022], "tenant restriction"),
            (&[900382, 900432], "cloud"),
            (&[90061, 501661], "could not reach"),
        ] {
            for code in codes {
                let error = error_with(*code);
                assert!(error.help().unwrap().contains(text), "{code}");
            }
        }
    }

    #[test]
    fn the_table_is_sorted_and_has_one_sentence_of_the_house_for_each_code() {
        let codes: Vec<u64> = HELP.iter().map(|help| help.code).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted, "sorted and without duplicates");
        let texts = HELP
            .iter()
            .flat_map(|help| [Some(help.text), help.assertion]);
        let shared = [
            Some(table::STALE_ASSERTION),
            Some(table::LATE_ASSERTION),
            Some(table::USER_CREDENTIAL),
            Some(table::EXPIRED_USER_CREDENTIAL),
        ];
        for text in texts.chain(shared).flatten() {
            let is_name = ["Microsoft Entra ID ", "ID tokens "]
                .iter()
                .any(|name| text.starts_with(name));
            assert!(
                is_name || text.starts_with(|c: char| c.is_ascii_lowercase()),
                "{text}"
            );
            assert!(!text.ends_with(['.', ';', ' ']), "{text}");
            assert!(!text.contains(". ") && !text.contains("  "), "{text}");
            assert!(
                text.contains("; "),
                "what is wrong, then what to do: {text}"
            );
            assert!(text.len() <= 260, "{} characters: {text}", text.len());
            for part in text.split('{').skip(1) {
                let name = part.split('}').next().unwrap();
                let known = [
                    "secret",
                    "certificate",
                    "assertion",
                    "application ID URI",
                    "client id",
                ];
                assert!(known.contains(&name), "{{{name}}}: {text}");
            }
        }
    }

    #[test]
    fn the_help_names_the_source_of_the_credential() {
        for (code, kind, source, expected) in [
            (
                7000215,
                CredentialKind::Secret,
                None,
                "the client secret is wrong",
            ),
            (
                7000215,
                CredentialKind::Secret,
                Some("secret file /run/secret"),
                "the client secret of the secret file /run/secret is wrong",
            ),
            (
                700027,
                CredentialKind::Certificate,
                Some("certificate file /tls.pem"),
                "the certificate of the certificate file /tls.pem is not registered",
            ),
            (
                700027,
                CredentialKind::Assertion,
                Some("assertion provider"),
                "the assertion of the assertion provider is signed with a key",
            ),
            (
                700213,
                CredentialKind::Assertion,
                Some("federated token file /token"),
                "the assertion of the federated token file /token",
            ),
        ] {
            let text = refusal(code, origin(kind, source), ClockCheck::Unknown);
            assert!(text.contains(expected), "{text}");
            assert!(
                !text.contains("{secret}") && !text.contains("{assertion}"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_assertion_of_somebody_else_is_not_blamed_on_a_clock_that_agrees() {
        let file = || {
            origin(
                CredentialKind::Assertion,
                Some("federated token file /token"),
            )
        };
        let text = refusal(700024, file(), ClockCheck::Agrees);
        assert!(
            text.contains("the federated token file /token has expired"),
            "{text}"
        );
        assert!(!text.contains("NTP"), "{text}");
        let own = origin(CredentialKind::Certificate, None);
        let text = refusal(700024, own, ClockCheck::Agrees);
        assert!(
            text.contains("clock agrees") && !text.contains("NTP"),
            "{text}"
        );
        let text = refusal(700024, file(), ClockCheck::Unknown);
        assert!(text.contains("clock"), "{text}");
    }

    #[test]
    fn every_refusal_of_an_assertion_tells_the_difference_of_the_clocks() {
        let behind = ClockCheck::Behind(Duration::from_secs(900));
        let difference = "this machine's clock is 900 s behind the identity provider's";
        let file = || {
            origin(
                CredentialKind::Assertion,
                Some("federated token file /token"),
            )
        };
        let certificate = || origin(CredentialKind::Certificate, None);
        for code in [700024, 700027, 700213, 50012, 1] {
            for origin in [file(), certificate()] {
                let text = refusal(code, origin, behind);
                assert!(text.contains(difference), "{code}: {text}");
            }
        }
        let secret = origin(CredentialKind::Secret, None);
        assert!(!refusal(7000215, secret, behind).contains(difference));
        let user = origin(CredentialKind::Secret, None);
        assert!(refusal(500133, user, behind).contains(difference));
    }

    #[test]
    fn a_general_code_does_not_hide_the_specific_one() {
        let mut response = ErrorResponse::new(StatusCode::UNAUTHORIZED, "x".to_owned());
        response.error_codes = vec![70002, 50012];
        let text = advice(&response).unwrap();
        assert!(text.contains("assertion"), "{text}");
        response.error_codes = vec![70002];
        assert!(advice(&response).unwrap().contains("credential"));
    }
}
