//! Sign-in at oidc-provider, and its refresh tokens, each valid once.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use confidential_client::delegated::{
    AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest, Prompt,
};
use confidential_client::{Authority, ConfidentialClient, Error, TokenRequest, TokenSource};
use http::header::USER_AGENT;
use http::{Request, Response};
use serde_json::Value;
use url::form_urlencoded;

use super::browser::Browser;
use super::{ORDERS, Server, Tenant};
use crate::support::claims_of;

/// RFC 8707 wants the resource said to the page and to the token endpoint.
pub fn orders() -> TokenRequest {
    TokenRequest::new("orders.read")
        .query_parameter("resource", ORDERS)
        .form_parameter("resource", ORDERS)
}

async fn begin<'a>(
    server: &Server,
    client: &ConfidentialClient,
    tenant: &'a Tenant,
) -> (AuthorizationCodeFlow, Browser<'a>) {
    let back = &tenant.web.redirect_uri;
    // It gives a refresh token to those alone whose users were asked.
    let request = AuthorizationRequest::new(back, orders()).prompt(Prompt::Consent);
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    (flow, Browser::open(server, &page, back).await)
}

async fn come_back(
    server: &Server,
    client: &ConfidentialClient,
    tenant: &Tenant,
    user: &str,
) -> (AuthorizationCodeFlow, String) {
    let (flow, mut browser) = begin(server, client, tenant).await;
    browser.submit("login", user).await;
    assert!(browser.html.contains("orders.read"), "{}", browser.html);
    browser.submit("consent", user).await;
    (flow, browser.at.into())
}

pub async fn sign_in(
    server: &Server,
    client: &ConfidentialClient,
    tenant: &Tenant,
    user: &str,
) -> AuthenticationResult {
    let (flow, back) = come_back(server, client, tenant, user).await;
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    signed_in.await.unwrap()
}

pub fn client_of(server: &Server, tenant: &Tenant) -> ConfidentialClient {
    server
        .at(&tenant.issuer, &tenant.web.client_id)
        .client_secret(tenant.secret.as_str())
        .build()
        .unwrap()
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn users_sign_in_and_the_client_goes_on_for_them() {
    let server = Server::of("sign-in");
    for tenant in server.tenants() {
        let client = client_of(&server, tenant);
        let adele = sign_in(&server, &client, tenant, "adele").await;
        let megan = sign_in(&server, &client, tenant, "megan").await;
        for (signed_in, user) in [(adele, "adele"), (megan, "megan")] {
            let account = signed_in.account();
            assert_eq!(account.local_account_id(), user);
            assert_eq!(account.tenant_id(), None);
            let id: Value = serde_json::from_str(signed_in.id_token_claims()).unwrap();
            assert_eq!(
                (&id["aud"], &id["iss"]),
                (&"web".into(), &(*tenant.issuer).into())
            );
            let token = signed_in.access_token();
            assert_eq!(token.scopes(), "orders.read");
            let claims = claims_of(token.secret());
            assert_eq!(claims["aud"], ORDERS);
            assert_eq!(claims["sub"], user);
            let again = client.acquire_token_silent(account, orders()).await;
            let again = again.unwrap();
            assert_eq!(again.source(), TokenSource::Cache);
            assert_eq!(again.secret(), token.secret());
        }
    }
    let seen = server.seen().await;
    let to_one = seen
        .iter()
        .find(|seen| seen.form.contains(&"code".to_owned()));
    let mut form = to_one.unwrap().form.clone();
    form.sort();
    assert_eq!(
        form,
        [
            "client_id",
            "client_secret",
            "code",
            "code_verifier",
            "grant_type",
            "redirect_uri",
            "resource",
            "scope"
        ]
    );
}

/// RFC 9207: its metadata announce the issuer in the redirect.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_redirect_whose_issuer_was_stripped_or_changed_redeems_no_code() {
    let server = Server::of("mix-up");
    let tenant = &server.is.one;
    let client = client_of(&server, tenant);
    let (flow, back) = come_back(&server, &client, tenant, "adele").await;
    let url = url::Url::parse(&back).unwrap();
    let with_issuer = |issuer: Option<&str>| {
        let mut changed = url.clone();
        let pairs = url.query_pairs().filter(|(name, _)| name != "iss");
        let mut query = changed.query_pairs_mut();
        query.clear().extend_pairs(pairs);
        if let Some(issuer) = issuer {
            query.append_pair("iss", issuer);
        }
        drop(query);
        String::from(changed)
    };
    for redirect in [with_issuer(None), with_issuer(Some(&server.is.two.issuer))] {
        let signed_in = client.acquire_token_by_authorization_code(flow.clone(), redirect);
        let error = signed_in.await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(error.to_string().contains("issuer"), "{error}");
    }
    let sent_codes = async || {
        let seen = server.seen().await;
        let codes = seen
            .iter()
            .filter(|seen| seen.form.contains(&"code".to_owned()));
        codes.count()
    };
    assert_eq!(sent_codes().await, 0);
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    signed_in.await.unwrap();
    assert_eq!(sent_codes().await, 1);
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_refresh_token_is_used_once_and_the_next_goes_on() {
    let server = Server::of("rotation");
    let tenant = &server.is.one;
    let client = client_of(&server, tenant);
    let signed_in = sign_in(&server, &client, tenant, "adele").await;
    let mut tokens = vec![signed_in.access_token().secret().to_owned()];
    for _ in 0..3 {
        let request = orders().force_refresh();
        let token = client.acquire_token_silent(signed_in.account(), request);
        let token = token.await.unwrap();
        assert_eq!(token.source(), TokenSource::IdentityProvider);
        assert_eq!(claims_of(token.secret())["sub"], "adele");
        tokens.push(token.secret().to_owned());
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
    let seen = server.seen().await;
    assert!(seen.iter().all(|seen| seen.refused.is_none()));
    let used = seen.into_iter().filter_map(|seen| seen.refresh_token);
    let mut used: Vec<_> = used.collect();
    assert_eq!(used.len(), 3);
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 3);
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_refresh_token_that_somebody_used_ends_the_session() {
    let server = Server::of("stolen");
    let tenant = &server.is.one;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let client = ConfidentialClient::builder(&tenant.web.client_id)
        .authority(Authority::oidc(&tenant.issuer))
        .client_secret(tenant.secret.as_str())
        .transport({
            let (http, sent) = (server.http.clone(), Arc::clone(&sent));
            let user_agent = server.user_agent.clone();
            move |mut request: Request<Bytes>| {
                let http = http.clone();
                let name = user_agent.parse().unwrap();
                request.headers_mut().insert(USER_AGENT, name);
                sent.lock().unwrap().push(request.clone());
                async move {
                    let request = reqwest::Request::try_from(request.map(reqwest::Body::from))?;
                    let answer = http.execute(request).await?;
                    let status = answer.status();
                    Ok(Response::builder()
                        .status(status)
                        .body(answer.bytes().await?)?)
                }
            }
        })
        .build()
        .unwrap();
    let signed_in = sign_in(&server, &client, tenant, "adele").await;
    let account = signed_in.account();
    let request = orders().force_refresh();
    let token = client.acquire_token_silent(account, request).await.unwrap();

    // What a thief would do.
    let refresh = sent.lock().unwrap().last().unwrap().clone();
    let mut form = form_urlencoded::parse(refresh.body());
    assert!(form.any(|field| field == ("grant_type".into(), "refresh_token".into())));
    let stolen = reqwest::Request::try_from(refresh.map(reqwest::Body::from)).unwrap();
    assert_eq!(server.http.execute(stolen).await.unwrap().status(), 400);
    let refused = server.seen().await.pop().unwrap().refused;
    assert_eq!(refused.as_deref(), Some("refresh token already used"));

    // The token that is still good is served; then only the user can help.
    let request = orders().force_refresh();
    let again = client.acquire_token_silent(account, request).await.unwrap();
    assert_eq!(again.secret(), token.secret());
    client.invalidate(&token);
    let requests = sent.lock().unwrap().len();
    let error = client.acquire_token_silent(account, orders()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(sent.lock().unwrap().len(), requests);
    let again = sign_in(&server, &client, tenant, "adele").await;
    assert_eq!(again.account(), account);
}

/// One row for each decision about a sign-in, of which the last is the provider's.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_sign_in_that_is_not_the_users_own_is_refused() {
    let server = Server::of("other sign-ins");
    let [one, two] = server.tenants();
    let client = client_of(&server, one);
    for (member, value, why) in [
        ("state", "another", "its state is not the one that was sent"),
        ("nonce", "another", "its nonce is not the one that was sent"),
        (
            "code_verifier",
            "another-verifier-of-forty-three-characters-1234567",
            "invalid_grant",
        ),
    ] {
        let (flow, back) = come_back(&server, &client, one, "adele").await;
        let mut kept = serde_json::to_value(&flow).unwrap();
        kept[member] = value.into();
        let flow = serde_json::from_value(kept).unwrap();
        let error = client.acquire_token_by_authorization_code(flow, back);
        let error = error.await.unwrap_err().to_string();
        assert!(error.contains(why), "{member}: {error}");
    }
    // RFC 9207: the other issuer sent the user here.
    let (flow, back) = come_back(&server, &client, one, "adele").await;
    let [named, mixed_up] = [&one.issuer, &two.issuer]
        .map(|issuer| form_urlencoded::byte_serialize(issuer.as_bytes()).collect::<String>());
    assert!(back.contains(&named), "{back}");
    let error = client.acquire_token_by_authorization_code(flow, back.replace(&named, &mixed_up));
    let error = error.await.unwrap_err().to_string();
    assert!(error.contains("it names another issuer"), "{error}");
    assert!(client.cache().is_empty());
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_code_is_redeemed_once() {
    let server = Server::of("codes");
    let tenant = &server.is.two;
    let client = client_of(&server, tenant);
    let (flow, back) = come_back(&server, &client, tenant, "adele").await;
    let first = client.acquire_token_by_authorization_code(flow.clone(), &back);
    first.await.unwrap();
    let again = client.acquire_token_by_authorization_code(flow, &back);
    let error = again.await.unwrap_err();
    assert!(error.needs_user_interaction(), "{error:?}");
    let refused = server.seen().await.pop().unwrap().refused;
    assert_eq!(
        refused.as_deref(),
        Some("authorization code already consumed")
    );
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_user_may_turn_back() {
    let server = Server::of("turned back");
    let tenant = &server.is.one;
    let client = client_of(&server, tenant);
    let (flow, mut browser) = begin(&server, &client, tenant).await;
    browser.cancel().await;
    let error = client.acquire_token_by_authorization_code(flow, browser.at);
    let error = error.await.unwrap_err();
    assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
    assert_eq!(error.server_error().unwrap().error(), "access_denied");
    assert!(client.cache().is_empty());
}
