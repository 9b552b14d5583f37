//! Tokens for this crate's own client of the endpoints.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::managed_identity::{
    FetcherSettings, IdentityToken, IdentityTokenRequest, ManagedIdentity, ManagedIdentityFetcher,
    Resource,
};
use crate::testing::ManualClock;
use crate::testing::token::jwt::ReceivedJwt;
use crate::time::TimeSource;
use crate::token::TokenHash;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const RESOURCE: &str = "https://vault.azure.net";

fn fetcher(
    host: &LocalManagedIdentity,
    kind: HostKind,
    id: ManagedIdentity,
) -> ManagedIdentityFetcher {
    ManagedIdentityFetcher::new(FetcherSettings {
        identity: id,
        environment: host.environment(kind),
        capabilities: vec!["cp1".to_owned()],
        transport: None,
        connect_timeout: None,
        attempt_timeout: Duration::from_secs(15),
        clock: TimeSource::default(),
    })
    .unwrap()
}

/// Fetches with one attempt, because the rest of the time is kept for the last attempt.
async fn fetch(
    fetcher: &ManagedIdentityFetcher,
    rejected_token: Option<&str>,
) -> Result<IdentityToken, Error> {
    let request = IdentityTokenRequest {
        resource: &Resource::of_scopes(RESOURCE).unwrap(),
        correlation_id: "our-id",
        is_revoked: rejected_token.is_some(),
        rejected_token: rejected_token.map(TokenHash::of),
        on_send: &|| (),
    };
    let limit = Duration::from_secs(3);
    fetcher.fetch(request, Instant::now() + limit).await
}

fn claims(token: &IdentityToken) -> Value {
    let jwt = ReceivedJwt::<Value>::parse(token.secret.expose()).unwrap();
    jwt.claims
}

/// Returns the kinds that the features of this build reach.
fn kinds() -> impl Iterator<Item = HostKind> {
    let reaches = |kind: &HostKind| cfg!(feature = "rustls") || *kind != HostKind::ServiceFabric;
    HostKind::ALL.into_iter().filter(reaches)
}

#[tokio::test]
async fn each_host_issues_a_signed_token_of_its_identity() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let system = host.system_assigned().unwrap();
    for kind in kinds() {
        let fetcher = fetcher(&host, kind, ManagedIdentity::system_assigned());
        let token = fetch(&fetcher, None).await.unwrap();
        let day = Duration::from_secs(24 * 3600);
        let aged = day - token.expires_in;
        assert!(aged <= Duration::from_secs(60), "{kind:?}: {aged:?}");
        let claims = claims(&token);
        assert_eq!(claims["aud"], RESOURCE, "{kind:?}");
        assert_eq!(claims["iss"], host.issuer(), "{kind:?}");
        assert_eq!(claims["sub"], system.object_id(), "{kind:?}");
        let jwt = ReceivedJwt::<Value>::parse(token.secret.expose()).unwrap();
        let is_valid =
            |issuer: &crate::testing::token::issuer::TokenIssuer<'_>| issuer.verifies(&jwt);
        assert!(
            host.state
                .provider
                .with_issuer(|_, issuer, _| is_valid(issuer)),
            "{kind:?}"
        );
        let request = host.requests().pop().unwrap();
        assert_eq!(request.path(), kind.path());
    }
}

#[tokio::test]
async fn a_user_assigned_identity_is_selected_by_each_id_of_its_host() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let identity = AssignedIdentity::new(CLIENT_ID).role(RESOURCE, "Secrets.Read");
    host.assign(identity.clone());
    let client = || ManagedIdentity::user_assigned_client_id(CLIENT_ID);
    let object = || ManagedIdentity::user_assigned_object_id(identity.object_id());
    let resource = || ManagedIdentity::user_assigned_resource_id(identity.resource_id());
    for kind in kinds() {
        let ids = match kind {
            HostKind::Imds | HostKind::AppService | HostKind::AzureArc => {
                vec![client(), object(), resource()]
            }
            HostKind::ServiceFabric => vec![object()],
            HostKind::CloudShell => vec![],
            HostKind::AzureMl => vec![client()],
        };
        for id in ids {
            let token = fetch(&fetcher(&host, kind, id.clone()), None).await;
            let claims = claims(&token.unwrap());
            assert_eq!(claims["azp"], CLIENT_ID, "{kind:?} {id}");
            assert_eq!(claims["roles"][0], "Secrets.Read", "{kind:?} {id}");
            assert_eq!(claims["xms_mirid"], identity.resource_id(), "{kind:?} {id}");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_identity_is_detected() {
    let host = LocalManagedIdentity::start().await.unwrap();
    host.assign(AssignedIdentity::new(CLIENT_ID));
    for kind in [
        HostKind::Imds,
        HostKind::AppService,
        HostKind::AzureArc,
        HostKind::AzureMl,
    ] {
        host.script([Fault::another_identity()]);
        let id = ManagedIdentity::user_assigned_client_id(CLIENT_ID);
        let error = fetch(&fetcher(&host, kind, id), None).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("the token belongs to the identity with"),
            "{kind:?}: {text}"
        );
    }
}

#[tokio::test]
async fn an_identity_that_is_not_assigned_is_rejected_in_the_words_of_each_host() {
    let host = LocalManagedIdentity::start().await.unwrap();
    host.assign_system(None);
    for kind in kinds().filter(|kind| *kind != HostKind::CloudShell) {
        let fetcher = fetcher(&host, kind, ManagedIdentity::system_assigned());
        let error = fetch(&fetcher, None).await.unwrap_err();
        let text = error.to_string();
        // The advice shows that the client knows the words.
        assert!(
            text.contains("no system-assigned identity is assigned"),
            "{kind:?}: {text}"
        );
    }
}

#[tokio::test]
async fn a_cached_token_is_returned_until_half_of_its_lifetime_is_over() {
    let clock = ManualClock::new();
    let builder = LocalAuthority::builder().clock(clock.clone());
    let local = builder.start().await.unwrap();
    let host = local.managed_identity("contoso.com").await.unwrap();
    let imds = fetcher(&host, HostKind::Imds, ManagedIdentity::system_assigned());
    let first = fetch(&imds, None).await.unwrap();
    // The hash of a rejected token reaches no other host than Service Fabric.
    let rejected = first.secret.expose();
    let again = fetch(&imds, Some(rejected)).await.unwrap();
    assert_eq!(again.secret.expose(), rejected);
    clock.advance(Duration::from_secs(12 * 3600 - 60));
    let again = fetch(&imds, None).await.unwrap();
    assert_eq!(again.secret.expose(), rejected);
    clock.advance(Duration::from_secs(60));
    let second = fetch(&imds, None).await.unwrap();
    assert_ne!(second.secret.expose(), rejected);
}

#[tokio::test]
#[cfg(feature = "rustls")]
async fn service_fabric_issues_a_new_token_for_the_hash_of_the_cached_one() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let fabric = fetcher(
        &host,
        HostKind::ServiceFabric,
        ManagedIdentity::system_assigned(),
    );
    let first = fetch(&fabric, None).await.unwrap();
    let other = fetch(&fabric, Some("another token")).await.unwrap();
    assert_eq!(other.secret.expose(), first.secret.expose());
    let second = fetch(&fabric, Some(first.secret.expose())).await.unwrap();
    assert_ne!(second.secret.expose(), first.secret.expose());
    assert_eq!(claims(&second)["xms_cc"][0], "cp1");
}

#[tokio::test]
async fn the_environment_follows_a_new_secret() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let system = ManagedIdentity::system_assigned;
    let app_service = fetcher(&host, HostKind::AppService, system());
    let old = host.variables(HostKind::AppService);
    host.roll_secret();
    assert_ne!(host.variables(HostKind::AppService), old);
    fetch(&app_service, None).await.unwrap();
}

#[tokio::test]
async fn the_key_of_an_azure_arc_challenge_is_accepted_once() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let folder = host.arc_key_folder().to_owned();
    let arc = fetcher(
        &host,
        HostKind::AzureArc,
        ManagedIdentity::system_assigned(),
    );
    fetch(&arc, None).await.unwrap();
    let requests = host.requests();
    assert_eq!(requests.len(), 2);
    let key = requests[1].header("authorization").unwrap();
    assert!(!host.state.key_folder.accept(key));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    host.state.key_folder.challenge().unwrap();
    drop(host);
    assert!(!folder.exists());
}
