//! Errors found before the network, each with its message and without a request.

use std::time::Duration;

use base64::Engine;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    TokenRequest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, LineEnding};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, header_of, in_memory};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

fn bare(provider: &Provider) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID).transport(provider.transport())
}

/// docs/failures.md M12 (two credentials), among others.
#[tokio::test]
async fn a_client_that_cannot_work_is_not_built() {
    let provider = Provider::open();
    let custom = |host: &str| Authority::entra(Cloud::Custom(host.to_owned()), TENANT);
    let certificate = || Certificate::from_pem(&*PEM).unwrap();
    let named = |id: &str| {
        ConfidentialClient::builder(id)
            .tenant(TENANT)
            .client_secret(SECRET)
    };
    for (builder, text) in [
        (named(""), "the client id is empty"),
        (named(" "), "the client id is empty"),
        (named("1111\n"), "begins or ends with white space"),
        (bare(&provider).tenant(TENANT), "no credential"),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret("a")
                .client_secret("b"),
            "2 credentials",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret("a")
                .certificate(certificate()),
            "2 credentials",
        ),
        (bare(&provider).client_secret(SECRET), "no tenant"),
        (
            provider
                .builder()
                .authority(Authority::entra(Cloud::Public, "fabrikam.com")),
            "two tenants",
        ),
        (
            bare(&provider).tenant(TENANT).client_secret(""),
            "the client secret is empty",
        ),
        (
            bare(&provider).tenant(TENANT).client_secret(" \n"),
            "the client secret is empty",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret(format!("{SECRET}\n")),
            "a file usually ends in a newline",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret(format!(" {SECRET}")),
            "white space",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret(format!("\u{feff}{SECRET}")),
            "cannot be seen",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .client_secret(format!("{SECRET}\n{SECRET}")),
            "cannot be seen",
        ),
        (
            bare(&provider)
                .tenant("contoso.com/../evil")
                .client_secret(SECRET),
            "neither an id nor a domain",
        ),
        (
            bare(&provider).tenant("").client_secret(SECRET),
            "names no tenant; add",
        ),
        (
            bare(&provider)
                .tenant(TENANT)
                .authority(Authority::parse("https://u:hunter2@login.example.org"))
                .client_secret(SECRET),
            "user name or password",
        ),
        (
            bare(&provider)
                .authority(custom("http://login.example.org"))
                .client_secret(SECRET),
            "in the clear",
        ),
        (
            bare(&provider)
                .authority(custom("http://localhost:1"))
                .client_secret(SECRET),
            "in the clear",
        ),
        (
            bare(&provider)
                .authority(custom("https://u:p@login.example.org"))
                .client_secret(SECRET),
            "user name or password",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(!format!("{error}{error:?}").contains(SECRET), "{error:?}");
    }
    assert_eq!(provider.requests(), 0);
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn two_ways_to_send_are_refused() {
    let provider = Provider::open();
    let builder = provider.builder().reqwest(reqwest::Client::builder());
    let error = builder.build().unwrap_err().to_string();
    assert!(
        error.contains("both a transport and a reqwest builder"),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_cannot_succeed_is_not_sent() {
    let provider = Provider::open();
    let client = provider.client();
    let at = |tenant: &str| TokenRequest::new(SCOPE).tenant(tenant);
    for (request, text) in [
        (TokenRequest::new(""), "no scope"),
        (
            TokenRequest::new("User.Read.All"),
            "does not end in '/.default'",
        ),
        (
            TokenRequest::new("https://graph.microsoft.com"),
            "does not end in '/.default'",
        ),
        (
            TokenRequest::new("api://a/.default").scopes(["api://b/.default"]),
            "two resources",
        ),
        (
            TokenRequest::new("api://\u{e9}/.default"),
            "no scope may contain",
        ),
        (
            TokenRequest::new("https://database.windows.net/"),
            "use 'https://database.windows.net//.default'",
        ),
        (
            TokenRequest::new("https%3A%2F%2Fgraph.microsoft.com%2F.default"),
            "is percent-encoded; use 'https://graph.microsoft.com/.default'",
        ),
        (
            TokenRequest::new("scope=https://graph.microsoft.com/.default"),
            "the name of its parameter; use 'https://graph.microsoft.com/.default'",
        ),
        (
            TokenRequest::new("\"https://graph.microsoft.com/.default\""),
            "is in quotes or brackets; use 'https://graph.microsoft.com/.default'",
        ),
        (
            TokenRequest::new("api://a/.default,openid"),
            "spaces separate scopes; use 'api://a/.default openid'",
        ),
        (at("common"), "cannot get a token in 'common'"),
        (at("organizations"), "cannot get a token in"),
        (at("consumers"), "cannot get a token in"),
        (
            at("9188040d-6c67-4c5b-b112-36a304b66dad"),
            "cannot get a token in",
        ),
        (at("a b"), "neither an id nor a domain"),
        (at("contoso.com?x="), "neither an id nor a domain"),
        (
            TokenRequest::new(SCOPE).correlation_id("job-7"),
            "is not a GUID",
        ),
    ] {
        let error = client.acquire_token_for_client(&request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(client.token_provider(&request).is_err());
    }
    assert_eq!(provider.requests(), 0);
}

/// docs/failures.md M11: an authority may be `common`, for other flows and for requests that name their
/// tenant; an application's token may not.
#[tokio::test]
async fn a_client_at_common_needs_a_tenant_for_each_request() {
    let provider = Provider::open();
    let client = bare(&provider)
        .tenant("common")
        .client_secret(SECRET)
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert_eq!(provider.requests(), 0);

    let request = TokenRequest::new(SCOPE).tenant("fabrikam.com");
    client.acquire_token_for_client(request).await.unwrap();
    let endpoint = "https://login.microsoftonline.com/fabrikam.com/oauth2/v2.0/token";
    assert_eq!(provider.uri(0), endpoint);
}

#[tokio::test]
async fn a_provider_takes_nothing_that_belongs_to_one_call() {
    let client = Provider::open().client();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let request = || TokenRequest::new(SCOPE);
    let id = "a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6";
    for (what, request) in [
        ("a correlation id", request().correlation_id(id)),
        ("claims", request().claims("{}")),
        ("a rejected token", request().rejected_token(&token)),
        ("a forced refresh", request().force_refresh()),
    ] {
        let error = client.token_provider(request).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let expected = format!(
            "a token provider serves many calls and cannot have {what}; pass such a request to the client's acquire_token method instead"
        );
        assert_eq!(error.to_string(), expected);
    }
    let lasting = request().min_remaining(Duration::from_secs(600));
    client.token_provider(lasting).unwrap();
}

#[tokio::test]
async fn a_contradictory_request_is_rejected_and_keeps_the_cache() {
    let provider = Provider::open();
    let client = provider.client();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let request = || TokenRequest::new(SCOPE);
    for (request, expected) in [
        (request().claims(""), "the claims are not a JSON object"),
        (request().claims("[]"), "the claims are not a JSON object"),
        (request().claims("eyJhIjoxfQ=="), "decode them first"),
        (
            request().tenant("fabrikam.com").rejected_token(&token),
            "the rejected token is for another tenant, scope, user or parameter",
        ),
    ] {
        let error = client.acquire_token_for_client(request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_rejected_request_keeps_the_cached_token() {
    let provider = Provider::open();
    let client = provider.client();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    client
        .acquire_token_for_client("nonsense")
        .await
        .unwrap_err();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(provider.requests(), 1);
}

#[test]
fn a_certificate_is_read_however_the_pem_is_laid_out() {
    let (certificate, key) = PEM.split_at(PEM.find("-----BEGIN PRIVATE").unwrap());
    let pkcs1 = rsa::RsaPrivateKey::from_pkcs8_pem(key).unwrap();
    let pkcs1 = pkcs1.to_pkcs1_pem(LineEnding::LF).unwrap();
    let other = CertificateParams::default();
    let other_key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let other = other.self_signed(&other_key).unwrap().pem();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ec = CertificateParams::default().self_signed(&ec).unwrap().pem();
    let same = format!("{:?}", Certificate::from_pem(&*PEM).unwrap());
    for (name, pem) in [
        ("key first", format!("{key}{certificate}")),
        ("PKCS#1", format!("{certificate}{}", *pkcs1)),
        (
            "text around",
            format!("Bag Attributes\n  x: y\n{certificate}\nKey:\n{key}\n"),
        ),
        (
            "a text that begins as DER does",
            format!("0 s:CN=daemon\n{certificate}{key}"),
        ),
        ("a byte order mark", format!("\u{feff}{}", *PEM)),
        ("an EC certificate beside it", format!("{}{ec}", *PEM)),
        ("CRLF", PEM.replace('\n', "\r\n")),
        (
            "another certificate first",
            format!("{other}{certificate}{key}"),
        ),
    ] {
        let read = Certificate::from_pem(pem).unwrap();
        assert_eq!(format!("{read:?}"), same, "{name}");
    }
}

/// A certificate renewed with the same key, and the old one still in the file.
#[test]
fn the_later_of_two_matching_certificates_is_used() {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let until = |year| {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    let (old, new) = (until(2020), until(3000));
    for pem in [format!("{old}{new}"), format!("{new}{old}")] {
        let certificate = Certificate::from_pem(format!("{pem}{}", key.serialize_pem())).unwrap();
        assert!(
            format!("{certificate:?}").contains("3000-01-01"),
            "{certificate:?}"
        );
    }
}

#[tokio::test]
async fn a_certificate_outside_its_validity_is_refused() {
    let provider = Provider::open();
    let valid = |from: (i32, u8, u8), to: (i32, u8, u8)| {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let certificate = params.self_signed(&key).unwrap();
        Certificate::from_pem(format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap()
    };
    for (certificate, text) in [
        (
            valid((2020, 1, 1), (2021, 1, 1)),
            "expired on 2021-01-01T00:00:00Z",
        ),
        (
            valid((3000, 1, 1), (3001, 1, 1)),
            "not valid before 3000-01-01T00:00:00Z",
        ),
    ] {
        let builder = bare(&provider).tenant(TENANT).certificate(certificate);
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }

    // By the client's own clock, which a test may move; and when it expires while the program runs.
    let clock = confidential_client::testing::ManualClock::new();
    let builder = bare(&provider).tenant(TENANT).clock(clock.clone());
    let certificate = valid((2020, 1, 1), (3000, 1, 1));
    let client = builder.certificate(certificate.clone()).build().unwrap();
    clock.advance_wall(std::time::Duration::from_secs(1000 * 366 * 24 * 60 * 60));
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert_eq!(provider.requests(), 0);
    let late = bare(&provider).tenant(TENANT).clock(clock);
    assert!(late.certificate(certificate).build().is_err());
}

#[tokio::test]
async fn the_same_tenant_in_builder_and_authority_is_accepted() {
    let provider = Provider::open();
    let authority = Authority::entra(Cloud::Public, TENANT.to_uppercase());
    provider.builder().authority(authority).build().unwrap();
}

fn key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[tokio::test]
async fn a_self_signed_certificate_ends_its_chain() {
    let (old, new) = (key(), key());
    let old = named("daemon").self_signed(&old).unwrap().pem();
    let renewed = named("daemon").self_signed(&new).unwrap().pem();
    let bundle = format!("{renewed}{old}{}", new.serialize_pem());
    let certificate = Certificate::from_pem(bundle).unwrap().send_x5c();
    let provider = Provider::open();
    let client = in_memory(&provider)
        .certificate(certificate)
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let header = header_of(&provider.field(0, "client_assertion").unwrap());
    assert_eq!(
        header["x5c"].as_array().unwrap().len(),
        1,
        "the old one issued nothing"
    );
}

#[test]
fn a_renewed_self_signed_certificate_causes_no_endless_chain() {
    let key = key();
    let old = named("daemon").self_signed(&key).unwrap().pem();
    let mut params = named("daemon");
    params.not_after = date_time_ymd(4097, 1, 1);
    let renewed = params.self_signed(&key).unwrap().pem();
    let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err::<Vec<u8>, Boxed>("sealed".into()) };
    Certificate::from_signer(format!("{old}{renewed}"), signer).unwrap();
}

#[test]
fn a_certificate_that_is_valid_today_is_preferred_to_tomorrows() {
    let key = key();
    let mut today = named("today");
    today.not_before = date_time_ymd(2020, 1, 1);
    today.not_after = date_time_ymd(2090, 1, 1);
    let mut later = named("later");
    later.not_before = date_time_ymd(2080, 1, 1);
    later.not_after = date_time_ymd(2100, 1, 1);
    let pem = format!(
        "{}{}{}",
        today.self_signed(&key).unwrap().pem(),
        later.self_signed(&key).unwrap().pem(),
        key.serialize_pem()
    );
    let certificate = Certificate::from_pem(pem).unwrap();
    in_memory(&Provider::open())
        .certificate(certificate)
        .build()
        .unwrap();
}

#[test]
fn an_indented_pem_is_read() {
    let indented: String = PEM.lines().map(|line| format!("    {line}\n")).collect();
    Certificate::from_pem(indented).unwrap();
}

#[test]
fn private_keys_beside_a_signers_certificate_are_not_used() {
    let signer = || |_: SigningAlgorithm, _: Vec<u8>| async { Err::<Vec<u8>, Boxed>("no".into()) };
    let certificate = &PEM[..PEM.find("-----BEGIN PRIVATE").unwrap()];
    let private_key = &PEM[PEM.find("-----BEGIN PRIVATE").unwrap()..];
    let two_keys = format!("{certificate}{private_key}{private_key}");
    Certificate::from_signer(two_keys, signer()).unwrap();
}

/// Two CAs of one name, as after a CA was given a new key: the issuer is told by its key.
#[tokio::test]
async fn the_chain_uses_the_issuer_whose_key_signed_the_certificate() {
    let ca = || {
        let mut params = named("ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        CertifiedIssuer::self_signed(params, key()).unwrap()
    };
    let (other, issuer) = (ca(), ca());
    let leaf_key = key();
    let mut leaf = named("daemon");
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    for cas in [[&other, &issuer], [&issuer, &other]] {
        let cas = cas.map(|ca| ca.as_ref().pem()).concat();
        let pem = format!("{cas}{}{}", leaf.pem(), leaf_key.serialize_pem());
        let certificate = Certificate::from_pem(pem).unwrap().send_x5c();
        let provider = Provider::open();
        let client = in_memory(&provider)
            .certificate(certificate)
            .build()
            .unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let header = header_of(&provider.field(0, "client_assertion").unwrap());
        let base64 = base64::prelude::BASE64_STANDARD;
        let expected = [leaf.der(), issuer.as_ref().der()].map(|der| base64.encode(der));
        assert_eq!(header["x5c"], serde_json::json!(expected));
    }
}
