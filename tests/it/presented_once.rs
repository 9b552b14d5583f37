//! Authorization codes and refresh tokens, which a strict provider accepts once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use confidential_client::credential::AssertionContext;
use confidential_client::delegated::{Account, AuthorizationRequest, UserAssertion};
use confidential_client::testing::{Application, Fault, LocalAuthority, User};
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, Error, RetryPolicy, Secret, TokenRequest,
    TokenSource,
};
use http::Response;
use serde_json::json;

use crate::support::openid::{Answer, BACK, FILES, ISSUER, OpenId, id_token, kinds, tokens};
use crate::support::{CLIENT_ID, SECRET, TENANT, client_of, let_others_run, poll_once};

const OTHER: &str = "mail.read";

async fn silent(
    client: &ConfidentialClient,
    account: &Account,
    scope: &str,
) -> Result<AccessToken, Error> {
    client.acquire_token_silent(account, scope).await
}

/// Answers after which nobody knows whether the grant was redeemed.
fn in_doubt() -> Vec<(&'static str, Answer)> {
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    let wait = Response::builder().header("retry-after", "0");
    let throttled = wait.status(429).body("slow down".into()).unwrap();
    let wait = Response::builder().header("retry-after", "1");
    let unavailable = wait.status(503).body("".into()).unwrap();
    vec![
        ("no response", Answer::Error("closed".into())),
        ("a reset", Answer::Error(reset.into())),
        ("a timeout", Answer::Hang),
        ("408", Answer::status(408, "")),
        ("425", Answer::status(425, "")),
        ("429", Answer::status(429, "")),
        ("429 with Retry-After", Answer::Http(throttled)),
        ("499 of a proxy that gave up", Answer::status(499, "")),
        ("500", Answer::status(500, r#"{"error":"server_error"}"#)),
        ("502", Answer::status(502, "<html>")),
        ("503 with Retry-After", Answer::Http(unavailable)),
        (
            "504 that says the client is unknown",
            Answer::status(504, r#"{"error":"invalid_client"}"#),
        ),
        (
            "400 that is about time",
            Answer::status(400, r#"{"error":"temporarily_unavailable"}"#),
        ),
        (
            "400 that is the server's",
            Answer::status(400, r#"{"error":"server_error"}"#),
        ),
        (
            "200 cut short",
            Answer::status(200, r#"{"token_type":"Bearer","access_tok"#),
        ),
        (
            // Without an expiry, an OpenID provider's response is a success.
            "200 with an unreadable expiry",
            Answer::status(
                200,
                r#"{"token_type":"Bearer","access_token":"a","expires_in":"soon"}"#,
            ),
        ),
    ]
}

/// Answers that say that the grant was not redeemed.
fn rejected() -> Vec<(&'static str, Answer)> {
    let moved = Response::builder().header("location", "https://portal.example/");
    let moved = moved.status(302).body("".into()).unwrap();
    vec![
        ("400", Answer::status(400, r#"{"error":"invalid_scope"}"#)),
        ("401", Answer::status(401, r#"{"error":"invalid_client"}"#)),
        (
            "200 with an error",
            Answer::status(200, r#"{"error":"invalid_scope"}"#),
        ),
        ("403 of a proxy", Answer::status(403, "<html>")),
        ("404", Answer::status(404, "")),
        ("a redirect", Answer::Http(moved)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_in_doubt_is_not_sent_again_where_a_second_use_is_a_theft() {
    for (authority, issuer, is_sent_again) in kinds() {
        for rotates in [None, Some(true), Some(false)] {
            let is_sent_again = rotates.map_or(is_sent_again, |rotates| !rotates);
            for (name, answer) in in_doubt() {
                let name = format!("{authority}, {rotates:?}: {name}");
                let provider = OpenId::new(&issuer);
                let mut builder = provider.builder(authority.clone());
                if let Some(rotates) = rotates {
                    builder = builder.refresh_token_rotation(rotates);
                }
                let client = builder.build().unwrap();
                let account = provider.sign_in(&client).await.account().clone();
                provider.answer(answer);
                silent(&client, &account, OTHER).await.unwrap_err();
                let presented = || provider.presented("refresh_token", "refresh-1");
                assert_eq!(presented(), 1, "{name}: the retry policy repeated it");

                let outcome = silent(&client, &account, "third").await;
                if is_sent_again {
                    outcome.unwrap();
                    assert_eq!(presented(), 2, "{name}");
                    continue;
                }
                let error = outcome.unwrap_err();
                assert_eq!(presented(), 1, "{name}");
                assert!(
                    matches!(error, Error::InteractionRequired(_)),
                    "{name}: {error:?}"
                );
                assert!(error.to_string().contains("theft"), "{name}: {error}");
                // What is valid is served, and a sign-in begins anew.
                let kept = silent(&client, &account, FILES).await.unwrap();
                assert_eq!(
                    (kept.secret(), kept.source()),
                    ("token-1", TokenSource::Cache)
                );
                let request = TokenRequest::new(FILES).force_refresh();
                let kept = client.acquire_token_silent(&account, request).await;
                assert_eq!(presented(), 1, "{name}: {kept:?}");
                provider.sign_in(&client).await;
                silent(&client, &account, "fourth").await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_was_not_redeemed_is_kept() {
    for (authority, issuer, _) in kinds() {
        for (name, answer) in rejected() {
            let provider = OpenId::new(&issuer);
            let client = provider.client(authority.clone());
            let account = provider.sign_in(&client).await.account().clone();
            provider.answer(answer);
            silent(&client, &account, OTHER).await.unwrap_err();
            silent(&client, &account, "third").await.unwrap();
            let presented = provider.presented("refresh_token", "refresh-1");
            assert_eq!(presented, 2, "{authority}: {name}");
        }
    }
}

/// Without a rotated token the first stays valid (RFC 6749 section 6).
#[tokio::test]
async fn a_refresh_token_that_was_not_rotated_is_not_in_doubt() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let account = provider.sign_in(&client).await.account().clone();
    for (number, scope) in [OTHER, "third", "fourth"].into_iter().enumerate() {
        let mut body = tokens(2);
        body.as_object_mut().unwrap().remove("refresh_token");
        provider.answer(Answer::json(&body));
        silent(&client, &account, scope).await.unwrap();
        let presented = provider.presented("refresh_token", "refresh-1");
        assert_eq!(presented, number + 1);
    }
}

/// A request that did not leave is retried as any other.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_refused_leaves_no_doubt() {
    for (authority, issuer, _) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority);
        let account = provider.sign_in(&client).await.account().clone();
        let refused = || {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            Answer::Error(refused.into())
        };
        provider.answer(refused());
        provider.answer(refused());
        silent(&client, &account, OTHER).await.unwrap();
        assert_eq!(provider.presented("refresh_token", "refresh-1"), 3);

        let request = AuthorizationRequest::new(BACK, FILES);
        let (_, flow) = client.authorization_request_url(&request).await.unwrap();
        provider.answer(refused());
        let query = format!("code=of-a-sign-in&state={}", flow.state());
        let outcome = client
            .acquire_token_by_authorization_code(flow, query)
            .await;
        assert!(outcome.unwrap_err().to_string().contains("sent none"));
        assert_eq!(provider.presented("code", "of-a-sign-in"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_is_sent_once_whatever_the_answer() {
    for (authority, issuer, _) in kinds() {
        let answers = in_doubt().into_iter().chain(rejected());
        for (number, (name, answer)) in answers.enumerate() {
            let provider = OpenId::new(&issuer);
            let retry = RetryPolicy::default().max_attempts(5);
            let client = provider.builder(authority.clone()).retry(retry);
            let client = client.refresh_token_rotation(false).build().unwrap();
            let request = AuthorizationRequest::new(BACK, FILES);
            let (_, flow) = client.authorization_request_url(&request).await.unwrap();
            provider.answer(answer);
            let query = format!("code=c&state={}", flow.state());
            let outcome = client
                .acquire_token_by_authorization_code(flow, query)
                .await;
            let error = outcome.unwrap_err();
            if !matches!(error, Error::Server(_)) {
                let is_lost = error.to_string().contains("start the sign-in again");
                assert_eq!(is_lost, number < in_doubt().len(), "{name}: {error}");
            }
            assert_eq!(provider.presented("code", "c"), 1, "{authority}: {name}");
            assert!(client.cache().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn grants_that_are_valid_many_times_are_retried_as_before() {
    for (authority, issuer, _) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority.clone());
        provider.answer(Answer::status(503, ""));
        provider.answer(Answer::Error("reset".into()));
        client
            .acquire_token_for_client("api://a/.default")
            .await
            .unwrap();
        assert_eq!(provider.forms().len(), 3, "{authority}");
        provider.answer(Answer::status(503, ""));
        provider.answer(Answer::Error("reset".into()));
        let assertion = UserAssertion::new("opaque");
        client
            .acquire_token_on_behalf_of(&assertion, FILES)
            .await
            .unwrap();
        assert_eq!(provider.presented("assertion", "opaque"), 3, "{authority}");
    }
}

/// The assertion is valid many times.
#[tokio::test(start_paused = true)]
async fn an_api_falls_back_from_a_refresh_token_in_doubt_to_the_assertion() {
    for (authority, issuer, is_sent_again) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority.clone());
        let assertion = UserAssertion::new("opaque");
        client
            .acquire_token_on_behalf_of(&assertion, FILES)
            .await
            .unwrap();
        provider.answer(Answer::status(503, ""));
        let outcome = client.acquire_token_on_behalf_of(&assertion, OTHER).await;
        outcome.unwrap_err();
        let token = client.acquire_token_on_behalf_of(&assertion, "third").await;
        token.unwrap();
        let presented = provider.presented("refresh_token", "refresh-1");
        assert_eq!(presented, if is_sent_again { 2 } else { 1 }, "{authority}");
        // The refresh token of the last response replaces the one in doubt.
        client
            .acquire_token_on_behalf_of(&assertion, "fourth")
            .await
            .unwrap();
        assert_eq!(provider.presented("refresh_token", "refresh-3"), 1);
    }
}

/// The flight ends at the deadline, and says nothing about the request.
#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_the_refresh_token_in_doubt() {
    let provider = OpenId::new(ISSUER);
    let client = provider.builder(Authority::oidc(ISSUER));
    let client = client
        .attempt_timeout(Duration::from_secs(600))
        .build()
        .unwrap();
    let account = provider.sign_in(&client).await.account().clone();
    provider.answer(Answer::Hang);
    let waiting = silent(&client, &account, "third");
    // A call that waits for the refresh token does not send it either.
    let (first, second) = tokio::join!(silent(&client, &account, OTHER), waiting);
    assert!(matches!(first.unwrap_err(), Error::Transport(_)));
    second.unwrap_err();
    let error = silent(&client, &account, "fourth").await.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(provider.presented("refresh_token", "refresh-1"), 1);
}

#[test]
fn a_lost_runtime_leaves_the_refresh_token_in_doubt() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    for (authority, issuer, is_sent_again) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority);
        let lost = runtime();
        let account = lost.block_on(async {
            let account = provider.sign_in(&client).await.account().clone();
            provider.answer(Answer::Hang);
            let mut call = Box::pin(silent(&client, &account, OTHER));
            assert!(poll_once(&mut call).is_pending());
            let_others_run().await;
            assert_eq!(provider.forms().len(), 2, "it has left");
            drop(call);
            account
        });
        drop(lost);
        let outcome = runtime().block_on(silent(&client, &account, "third"));
        assert_eq!(outcome.is_ok(), is_sent_again, "{outcome:?}");
        let presented = provider.presented("refresh_token", "refresh-1");
        assert_eq!(presented, if is_sent_again { 2 } else { 1 });
    }
}

/// The stopped runtime held the refresh token until the deadline, and continues with an old one.
#[test]
fn a_runtime_that_stops_and_continues_does_not_send_a_used_refresh_token() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let deadline = Duration::from_millis(200);
    for (authority, issuer, _) in kinds() {
        let provider = OpenId::new(&issuer);
        let method = "token_endpoint_auth_methods_supported";
        provider.publish(method, vec!["private_key_jwt"]);
        let gate = Arc::new(tokio::sync::Semaphore::new(1));
        let asked = Arc::clone(&gate);
        let client = provider
            .without_credential(authority)
            .client_assertion(move |_: AssertionContext| {
                let gate = Arc::clone(&asked);
                async move {
                    gate.acquire().await?.forget();
                    Ok(id_token(&json!({})))
                }
            })
            .retry(RetryPolicy::none().deadline(deadline))
            .build()
            .unwrap();
        let (stopped, other) = (runtime(), runtime());
        let (account, mut call) = stopped.block_on(async {
            let account = provider.sign_in(&client).await.account().clone();
            let held = account.clone();
            let client = client.clone();
            let call = tokio::spawn(async move { silent(&client, &held, OTHER).await });
            let_others_run().await;
            (account, call)
        });
        // The assertion of the first call is ready as soon as its runtime continues.
        gate.add_permits(1);
        std::thread::sleep(deadline);
        gate.add_permits(1);
        let outcome = other.block_on(silent(&client, &account, "third"));
        outcome.unwrap();
        stopped.block_on(async { drop((&mut call).await) });
        let presented = provider.presented("refresh_token", "refresh-1");
        assert_eq!(presented, 1, "{issuer}");
    }
}

/// A provider authenticates the client before it looks at the grant (RFC 6749 section 4.1.3).
#[tokio::test]
async fn a_grant_is_sent_with_another_credential_only_after_the_client_was_rejected() {
    for (status, is_sent_again) in [(401, true), (400, true), (500, false), (429, false)] {
        let provider = OpenId::new(ISSUER);
        let read = AtomicUsize::new(0);
        let client = provider.without_credential(Authority::oidc(ISSUER));
        let client = client
            .retry(RetryPolicy::none())
            .client_secret_source(move || {
                let number = read.fetch_add(1, Ordering::SeqCst);
                async move { Ok(Secret::from(format!("secret-{number}"))) }
            });
        let client = client.build().unwrap();
        let account = provider.sign_in(&client).await.account().clone();
        let rejected = || Answer::status(status, r#"{"error":"invalid_client"}"#);
        provider.answer(rejected());
        let outcome = silent(&client, &account, OTHER).await;
        assert_eq!(outcome.is_ok(), is_sent_again, "{status}: {outcome:?}");
        let times = if is_sent_again { 2 } else { 1 };
        assert_eq!(
            provider.presented("refresh_token", "refresh-1"),
            times,
            "{status}"
        );

        let request = AuthorizationRequest::new(BACK, FILES);
        let (_, flow) = client.authorization_request_url(&request).await.unwrap();
        provider.answer(rejected());
        let query = format!("code=of-a-sign-in&state={}", flow.state());
        let outcome = client
            .acquire_token_by_authorization_code(flow, query)
            .await;
        outcome.unwrap_err();
        assert_eq!(
            provider.presented("code", "of-a-sign-in"),
            times,
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_lost_connection_at_a_server_that_rotates_does_not_revoke_the_session() {
    let local = LocalAuthority::builder()
        .strict_rotation()
        .start()
        .await
        .unwrap();
    let back = "https://app.example.org/signed-in";
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(back);
    local.register(TENANT, app);
    let adele = "adele@contoso.onmicrosoft.com";
    local.register_user(TENANT, User::new(adele));
    local.consent(
        TENANT,
        CLIENT_ID,
        adele,
        "api://drive/Files.Read api://mail/Mail.Read",
    );
    let request = AuthorizationRequest::new(back, "api://drive/Files.Read");
    for fault in [
        Fault::dropped(),
        Fault::dropped_in_body(),
        Fault::status(503),
        Fault::truncated(),
    ] {
        let client = client_of(&local).client_secret(SECRET);
        let client = client
            .retry(RetryPolicy::default())
            .refresh_token_rotation(true);
        let client = client.build().unwrap();
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let redirected = local.sign_in(page, adele).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, redirected);
        let account = signed_in.await.unwrap().account().clone();
        let before = local.token_requests().len();
        local.script([fault]);
        silent(&client, &account, "api://mail/Mail.Read")
            .await
            .unwrap_err();
        let error = silent(&client, &account, "api://mail/Mail.Read")
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
        assert_eq!(local.token_requests().len(), before + 1);

        // A code over the same connection, which is lost.
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let redirected = local.sign_in(page, adele).await.unwrap();
        local.script([Fault::dropped()]);
        let before = local.token_requests().len();
        let lost = client
            .acquire_token_by_authorization_code(flow, redirected)
            .await;
        assert!(matches!(lost, Err(Error::Transport(_))), "{lost:?}");
        assert_eq!(local.token_requests().len(), before + 1);
    }
}

/// reqwest would send any request again.
#[tokio::test]
async fn the_retries_of_the_callers_reqwest_builder_do_not_send_a_code_twice() {
    let local = LocalAuthority::start().await.unwrap();
    let back = "https://app.example.org/signed-in";
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(back);
    local.register(TENANT, app);
    local.register_user(TENANT, User::new("adele@contoso.com"));
    let retries = reqwest::retry::for_host("127.0.0.1")
        .no_budget()
        .classify_fn(|attempt| match attempt.status() {
            Some(status) if status.is_server_error() => attempt.retryable(),
            _ => attempt.success(),
        });
    let client = client_of(&local)
        .client_secret(SECRET)
        .reqwest(reqwest::Client::builder().retry(retries))
        .build()
        .unwrap();
    let request = AuthorizationRequest::new(back, "api://drive/Files.Read");
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let redirected = local.sign_in(page, "adele@contoso.com").await.unwrap();
    local.script([Fault::status(503)]);
    let lost = client.acquire_token_by_authorization_code(flow, redirected);
    assert_eq!(lost.await.unwrap_err().status().unwrap(), 503);
    assert_eq!(local.token_requests().len(), 1);
}

/// Over sockets: reqwest says that there was no connection.
#[tokio::test]
async fn a_server_that_is_gone_leaves_the_refresh_token_valid() {
    let local = LocalAuthority::start().await.unwrap();
    let back = "https://app.example.org/signed-in";
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(back);
    local.register(TENANT, app);
    local.register_user(TENANT, User::new("adele@contoso.com"));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
        .client_secret(SECRET)
        .retry(RetryPolicy::default().base_delay(Duration::ZERO))
        // An idle connection could look alive, and the refresh token would be sent on it.
        .reqwest(reqwest::Client::builder().pool_max_idle_per_host(0));
    let client = client.build().unwrap();
    let request = AuthorizationRequest::new(back, "api://drive/Files.Read");
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let redirected = local.sign_in(page, "adele@contoso.com").await.unwrap();
    let signed_in = client.acquire_token_by_authorization_code(flow, redirected);
    let account = signed_in.await.unwrap().account().clone();
    let address = local.base_url().trim_start_matches("http://").to_owned();
    drop(local);
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Another test must not listen on the port.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.set_reuseaddr(true).unwrap();
    reserved.bind(address.parse().unwrap()).unwrap();
    for scope in [OTHER, "third"] {
        let error = silent(&client, &account, scope).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(error.to_string().contains("(3 attempts)"), "{error}");
    }
}
