//! Whose tokens a refresh brings ([OpenID Connect Core section 12.2]).
//!
//! [OpenID Connect Core section 12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse

use confidential_client::delegated::{AuthorizationRequest, UserAssertion};
use confidential_client::{Authority, ConfidentialClient, Error, TokenRequest, TokenSource};
use serde_json::{Value, json};

use crate::support::issuer::{NEXT, STRANGER, TENANT_ID, encode, header, with, without};
use crate::support::openid::{
    Answer, BACK, FILES, HOME, ISSUER, OpenId, client_info, id_token, kinds, tokens,
};

const OTHER: &str = "mail.read";

/// The scope that only a refresh can acquire.
async fn refresh(
    client: &ConfidentialClient,
    account: &confidential_client::delegated::Account,
) -> Result<confidential_client::AccessToken, Error> {
    client.acquire_token_silent(account, OTHER).await
}

/// Changes the claims of the refreshed ID token, and names the text of the error.
type Row = (&'static str, fn(Value) -> Value, Option<&'static str>);

const ROWS: [Row; 18] = [
    ("the same user", |claims| claims, None),
    (
        "issued later",
        |claims| with(claims, "auth_method", "x"),
        None,
    ),
    (
        "another subject",
        |claims| with(claims, "sub", "megan"),
        Some("'sub'"),
    ),
    ("no subject", |claims| without(claims, "sub"), Some("'sub'")),
    (
        "a subject that is no text",
        |claims| with(claims, "sub", 7),
        Some("'sub'"),
    ),
    (
        "another issuer",
        |claims| with(claims, "iss", "https://evil.example"),
        Some("issuer"),
    ),
    ("no issuer", |claims| without(claims, "iss"), Some("'iss'")),
    (
        "for another client",
        |claims| with(claims, "aud", "daemon"),
        Some("audience"),
    ),
    (
        "for another client, too",
        |claims| with(with(claims, "aud", json!(["web", "daemon"])), "azp", "web"),
        Some("'daemon'"),
    ),
    (
        "issued to another client",
        |claims| with(claims, "azp", "daemon"),
        Some("'daemon'"),
    ),
    (
        "expired",
        |claims| with(claims, "exp", 1_700_000_000),
        Some("expired"),
    ),
    (
        "without an expiry",
        |claims| without(claims, "exp"),
        Some("'exp'"),
    ),
    (
        "not valid yet",
        |claims| with(claims, "nbf", 33_000_000_000_u64),
        Some("not valid yet"),
    ),
    (
        "without a time of issue",
        |claims| without(claims, "iat"),
        Some("'iat'"),
    ),
    (
        "of another sign-in",
        |claims| with(claims, "nonce", "other"),
        Some("'nonce'"),
    ),
    (
        "authenticated earlier",
        |claims| with(claims, "auth_time", 1_700_000_000),
        Some("'auth_time'"),
    ),
    (
        "authenticated later",
        |claims| with(claims, "auth_time", 1_900_000_000),
        Some("'auth_time'"),
    ),
    (
        "authenticated then",
        |claims| with(claims, "auth_time", 1_800_000_000),
        None,
    ),
];

#[tokio::test]
async fn a_refresh_that_brings_another_users_tokens_is_not_cached() {
    for (authority, issuer, _) in kinds() {
        for (name, change, expected) in ROWS {
            let name = format!("{authority}: {name}");
            let provider = OpenId::new(&issuer);
            let client = provider.client(authority.clone());
            let request = AuthorizationRequest::new(BACK, FILES);
            let claims = with(provider.claims(), "auth_time", 1_800_000_000);
            let signed_in = provider.sign_in_with(&client, &request, claims.clone());
            let account = signed_in.await.unwrap().account().clone();
            let mut body = tokens(2);
            body["id_token"] = id_token(&change(claims)).into();
            body["client_info"] = client_info(HOME).into();
            provider.answer(Answer::json(&body));
            let outcome = refresh(&client, &account).await;
            let Some(text) = expected else {
                assert_eq!(outcome.unwrap().secret(), "token-2", "{name}");
                client
                    .acquire_token_silent(&account, "third")
                    .await
                    .unwrap();
                assert_eq!(
                    provider.presented("refresh_token", "refresh-2"),
                    1,
                    "{name}"
                );
                continue;
            };
            let error = outcome.unwrap_err();
            assert!(
                matches!(error, Error::InvalidResponse(_)),
                "{name}: {error:?}"
            );
            assert!(error.to_string().contains(text), "{name}: {error}");
            let shown = format!("{error:?}{error}");
            assert!(
                !shown.contains("megan") && !shown.contains("token-2"),
                "{name}: {shown}"
            );
            assert_eq!(client.cache().len(), 2, "{name}");

            // Neither refresh token is sent any more, and what was cached is served.
            let kept = client.acquire_token_silent(&account, FILES).await.unwrap();
            assert_eq!(
                (kept.secret(), kept.source()),
                ("token-1", TokenSource::Cache)
            );
            for scope in [OTHER, "third"] {
                let error = client
                    .acquire_token_silent(&account, scope)
                    .await
                    .unwrap_err();
                assert!(
                    matches!(error, Error::InteractionRequired(_)),
                    "{name}: {error:?}"
                );
            }
            assert_eq!(provider.forms().len(), 2, "{name}");
            provider.sign_in(&client).await;
            refresh(&client, &account).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refreshed_id_token_by_another_key_is_refused() {
    let provider = OpenId::new(ISSUER);
    for (name, id_token) in [
        (
            "signed by another",
            STRANGER.sign(&header(), &provider.claims()),
        ),
        (
            "not signed",
            format!(
                "{}.{}.",
                encode(r#"{"alg":"none"}"#),
                encode(provider.claims().to_string())
            ),
        ),
        ("no token", "abc".to_owned()),
    ] {
        let client = provider.client(Authority::oidc(ISSUER));
        let account = provider.sign_in(&client).await.account().clone();
        provider.answer(Answer::json(&with(tokens(2), "id_token", id_token)));
        let error = refresh(&client, &account).await.unwrap_err();
        assert!(error.to_string().contains("ID token"), "{name}: {error}");
        let error = refresh(&client, &account).await.unwrap_err();
        assert!(
            matches!(error, Error::InteractionRequired(_)),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn client_info_of_another_home_account_is_not_cached() {
    let (authority, issuer, _) = kinds().into_iter().next().unwrap();
    let other = "megan.72f988bf-86f1-41af-91ab-2d7cd011db47";
    for (client_info, expected) in [
        (Some(client_info(HOME)), None),
        (None, None),
        (Some(client_info(other)), Some("home account")),
        (Some("!".to_owned()), Some("client_info")),
        (Some("e30".to_owned()), Some("client_info")),
    ] {
        for has_id_token in [true, false] {
            let provider = OpenId::new(&issuer);
            let client = provider.client(authority.clone());
            let account = provider.sign_in(&client).await.account().clone();
            let mut body = tokens(2);
            if has_id_token {
                body["id_token"] = id_token(&provider.claims()).into();
            }
            if let Some(client_info) = &client_info {
                body["client_info"] = client_info.as_str().into();
            }
            provider.answer(Answer::json(&body));
            match (refresh(&client, &account).await, expected) {
                (Ok(token), None) => assert_eq!(token.secret(), "token-2"),
                (Err(error), Some(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                    assert!(!error.to_string().contains("megan"), "{error}");
                    assert_eq!(client.cache().len(), 2);
                }
                (outcome, _) => panic!("{client_info:?}: {outcome:?}"),
            }
        }
    }
}

/// A guest has another directory's subject there.
#[tokio::test]
async fn a_token_of_another_directory_is_the_users_by_the_home_account() {
    let guest_of = "11111111-86f1-41af-91ab-2d7cd011db47";
    let issuer = format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0");
    for (home, is_same) in [
        (HOME, true),
        ("megan.72f988bf-86f1-41af-91ab-2d7cd011db47", false),
    ] {
        let provider = OpenId::new(&issuer);
        let client = provider.client(kinds()[0].0.clone());
        let account = provider.sign_in(&client).await.account().clone();
        let issuer = issuer.replace(TENANT_ID, guest_of);
        provider.publish("issuer", issuer.as_str());
        let claims = with(
            with(provider.claims(), "tid", guest_of),
            "sub",
            "as a guest",
        );
        let mut body = with(
            tokens(2),
            "id_token",
            id_token(&with(claims, "iss", issuer)),
        );
        body["client_info"] = client_info(home).into();
        provider.answer(Answer::json(&body));
        let request = TokenRequest::new(OTHER).tenant(guest_of);
        let outcome = client.acquire_token_silent(&account, request).await;
        assert_eq!(outcome.is_ok(), is_same, "{outcome:?}");
    }
}

/// On-behalf-of has no sign-in to compare with, and is compared with its first response.
#[tokio::test]
async fn an_on_behalf_of_refresh_that_brings_another_users_tokens_is_not_cached() {
    for (authority, issuer, _) in kinds() {
        let is_entra = authority == kinds()[0].0 || authority == kinds()[1].0;
        let provider = OpenId::new(&issuer);
        let megan = with(provider.claims(), "sub", "megan");
        let of_adele = id_token(&provider.claims());
        let megans_home = client_info("megan.72f988bf-86f1-41af-91ab-2d7cd011db47");
        for (name, first, second, is_same) in [
            ("none", json!({}), json!({}), true),
            (
                "none at first",
                json!({}),
                json!({ "id_token": of_adele }),
                true,
            ),
            (
                "none later",
                json!({ "id_token": of_adele }),
                json!({}),
                true,
            ),
            (
                "an encrypted one",
                json!({ "id_token": "a.b.c.d.e" }),
                json!({ "id_token": "f.g.h.i.j" }),
                true,
            ),
            (
                "the same",
                json!({ "id_token": of_adele }),
                json!({ "id_token": of_adele }),
                true,
            ),
            (
                "another's ID token",
                json!({ "id_token": of_adele }),
                json!({ "id_token": id_token(&megan) }),
                false,
            ),
            (
                "another's client_info",
                json!({ "client_info": client_info(HOME) }),
                json!({ "client_info": megans_home }),
                !is_entra,
            ),
        ] {
            let merged = |number: usize, more: &Value| {
                let mut body = tokens(number);
                body.as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
                Answer::json(&body)
            };
            let client = provider.client(authority.clone());
            let before = provider.forms().len();
            provider.answer(merged(1, &first));
            provider.answer(merged(2, &second));
            let assertion = UserAssertion::new("opaque");
            let token = client.acquire_token_on_behalf_of(&assertion, FILES).await;
            assert_eq!(token.unwrap().secret(), "token-1");
            let outcome = client.acquire_token_on_behalf_of(&assertion, OTHER).await;
            let grant = &provider.forms()[before + 1]["grant_type"];
            assert_eq!(grant, "refresh_token");
            assert_eq!(outcome.is_ok(), is_same, "{authority}: {name}: {outcome:?}");
            if is_same {
                continue;
            }
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
            // The next call begins again with the assertion.
            let token = client.acquire_token_on_behalf_of(&assertion, "third").await;
            token.unwrap();
            let forms = provider.forms();
            assert!(forms[before + 2].contains_key("assertion"), "{name}");
            assert_eq!(
                provider.presented("refresh_token", "refresh-2"),
                0,
                "{name}"
            );
        }
    }
}

/// The first response that names the user counts, and each half of the name by itself.
#[tokio::test]
async fn a_user_who_is_named_late_is_not_replaced_by_another() {
    let (authority, issuer, _) = kinds().into_iter().next().unwrap();
    let provider = OpenId::new(&issuer);
    let of_adele = id_token(&provider.claims());
    let of_megan = id_token(&with(provider.claims(), "sub", "megan"));
    let megans_home = client_info("megan.72f988bf-86f1-41af-91ab-2d7cd011db47");
    for (name, [first, second, third]) in [
        (
            "an ID token",
            [
                json!({}),
                json!({ "id_token": of_adele }),
                json!({ "id_token": of_megan }),
            ],
        ),
        (
            "client_info",
            [
                json!({ "id_token": of_adele }),
                json!({ "client_info": client_info(HOME) }),
                json!({ "client_info": megans_home }),
            ],
        ),
        (
            "client_info that cannot be read at first",
            [
                json!({ "client_info": "!" }),
                json!({ "client_info": client_info(HOME) }),
                json!({ "client_info": megans_home }),
            ],
        ),
    ] {
        let client = provider.client(authority.clone());
        let assertion = UserAssertion::new("opaque");
        let before = provider.forms().len();
        for (number, (more, scope)) in [(first, FILES), (second, OTHER), (third, "third")]
            .into_iter()
            .enumerate()
        {
            let mut body = tokens(number + 1);
            let members = body.as_object_mut().unwrap();
            members.extend(more.as_object().unwrap().clone());
            provider.answer(Answer::json(&body));
            let outcome = client.acquire_token_on_behalf_of(&assertion, scope).await;
            assert_eq!(outcome.is_ok(), number < 2, "{name}: {number}: {outcome:?}");
        }
        assert_eq!(provider.forms()[before + 2]["refresh_token"], "refresh-2");
    }
}

/// The refresh token is valid for one request at a provider that rotates.
#[tokio::test]
async fn the_keys_are_there_before_the_refresh_token_is_spent() {
    let issuer = format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0");
    let provider = OpenId::new(&issuer);
    let client = provider.client(kinds()[0].0.clone());
    let account = provider.sign_in(&client).await.account().clone();
    provider.withhold("jwks_uri");
    // The keys of another directory are not cached.
    let request = TokenRequest::new(OTHER).tenant("11111111-86f1-41af-91ab-2d7cd011db47");
    let error = client
        .acquire_token_silent(&account, request)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("OpenID configuration"),
        "{error}"
    );
    assert_eq!(provider.forms().len(), 1);
    refresh(&client, &account).await.unwrap();
}

/// The sessions of all users whose tokens are refreshed in these minutes would end.
#[tokio::test]
async fn a_roll_over_of_keys_during_an_outage_of_their_endpoint_ends_no_session() {
    let sign = |claims: &Value| NEXT.sign(&with(header(), "kid", "next"), claims);
    for (authority, issuer, _) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.builder(authority.clone()).keep_id_tokens();
        let client = client.build().unwrap();
        let signed_in = provider.sign_in(&client).await;
        let account = signed_in.account().clone();
        provider.publish_keys(std::slice::from_ref(&NEXT.jwk));
        provider.keys_are_down(true);
        let refreshed = |number: usize, claims: &Value| {
            let mut body = tokens(number);
            body["id_token"] = sign(claims).into();
            body["client_info"] = client_info(HOME).into();
            Answer::json(&body)
        };
        // The second refresh comes before the next search for the keys.
        for (number, scope) in [(2, OTHER), (3, "third")] {
            provider.answer(refreshed(number, &provider.claims()));
            let token = client.acquire_token_silent(&account, scope).await;
            assert_eq!(
                token.unwrap().secret(),
                format!("token-{number}"),
                "{authority}"
            );
        }
        assert_eq!(provider.presented("refresh_token", "refresh-2"), 1);
        // The ID token whose signature nobody has checked is not kept.
        let kept = client.acquire_id_token_silent(&account, FILES).await;
        assert_eq!(
            kept.unwrap().id_token().expose(),
            signed_in.id_token().expose(),
            "{authority}"
        );
        // Another user is still another user.
        provider.answer(refreshed(4, &with(provider.claims(), "sub", "megan")));
        let error = client.acquire_token_silent(&account, "fourth").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("'sub'"), "{authority}: {error}");
    }
}
