#![allow(
    clippy::arithmetic_side_effects,
    reason = "the tests choose the numbers"
)]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::error::ComparedTime;
use super::*;

static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static EC: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

const NOW: u64 = 1_800_000_000;
const LEEWAY: Duration = Duration::from_secs(300);
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const API: &str = "api://orders";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

impl From<&str> for Compared {
    fn from(found: &str) -> Self {
        Self::new(found, [""; 0])
    }
}

impl std::fmt::Debug for ClaimsSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimsSet").finish_non_exhaustive()
    }
}

/// Returns the expected comparison of a time with the clock.
fn compared(seconds: u64) -> ComparedTime {
    ComparedTime {
        claim: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        now: now(),
        leeway: LEEWAY,
    }
}

fn unfit(found: SigningAlgorithm) -> JwtError {
    JwtError::UnfitKey {
        found,
        key: "rsa".into(),
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk() -> Value {
    let public = RSA.public_key();
    json!({
        "kty": "RSA", "use": "sig", "kid": "rsa",
        "n": encode(public.modulus().big_endian_without_leading_zero()),
        "e": encode(public.exponent().big_endian_without_leading_zero()),
    })
}

fn ec_jwk() -> Value {
    let point = EC.public_key().as_ref();
    json!({ "kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..]) })
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn read(jwk: &Value) -> Option<PublishedKey> {
    PublishedKey::read(jwk.as_object().unwrap())
}

fn keys(issuer: &str, jwks: &[Value]) -> IssuerKeys {
    let issuer = Issuer::new(issuer);
    IssuerKeys {
        access_token_issuers: issuer
            .version_1("https://sts.windows.net/")
            .into_iter()
            .chain([issuer.clone()])
            .collect(),
        tenant: issuer.tenant().map(ToOwned::to_owned),
        issuer,
        keys: jwks.iter().filter_map(read).collect(),
        authorization_endpoint: None,
        responses_name_issuer: false,
    }
}

fn header(alg: &str, kid: &str) -> Value {
    json!({ "typ": "JWT", "alg": alg, "kid": kid })
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": API, "exp": NOW + 60, "nbf": NOW - 60, "tid": TENANT })
}

fn signed(header: &Value, claims: &Value) -> String {
    let message = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let random = SystemRandom::new();
    let signature = match header["alg"].as_str() {
        Some("ES256") => EC
            .sign(&random, message.as_bytes())
            .unwrap()
            .as_ref()
            .to_vec(),
        alg => {
            let mut signature = vec![0; RSA.public_modulus_len()];
            let encoding = match alg {
                Some("PS256") => &RSA_PSS_SHA256,
                _ => &RSA_PKCS1_SHA256,
            };
            RSA.sign(encoding, &random, message.as_bytes(), &mut signature)
                .unwrap();
            signature
        }
    };
    format!("{message}.{}", encode(signature))
}

/// Returns a token with these bytes, signed with RS256.
fn signed_bytes(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; RSA.public_modulus_len()];
    let random = SystemRandom::new();
    RSA.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", encode(signature))
}

fn access_token(token: &str, keys: &IssuerKeys) -> Result<ClaimsSet, JwtError> {
    let expected = Expected {
        audiences: &[API.to_owned()],
        now: now(),
        leeway: LEEWAY,
    };
    SignedJwt::parse(token)?.access_token(keys, &expected)
}

const ISSUER: &str = "https://login.example/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
const TEMPLATE: &str = "https://login.example/{tenantid}/v2.0";

#[test]
fn the_three_algorithms_are_verified() {
    let keys = keys(ISSUER, &[rsa_jwk(), ec_jwk()]);
    for (alg, kid) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "ec")] {
        let token = signed(&header(alg, kid), &claims());
        let claims = access_token(&token, &keys).unwrap();
        assert_eq!(claims.string("tid"), Some(TENANT), "{alg}");
    }
}

#[test]
fn a_malformed_token_is_rejected() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    let token = signed(&header("RS256", "rsa"), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let with_header = |header: &str| format!("{}.{}.{}", encode(header), parts[1], parts[2]);
    for (name, token) in [
        ("nothing", String::new()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{token}.{}", parts[2])),
        ("five parts", format!("{token}.a.a")),
        (
            "JSON form",
            json!({ "payload": parts[1], "signatures": [
            { "protected": parts[0], "signature": parts[2] },
            { "protected": parts[0], "signature": parts[2] },
        ] })
            .to_string(),
        ),
        ("padding", format!("{token}==")),
        ("white space", format!("{token} ")),
        (
            "standard base64",
            format!("{}.{}.{}", parts[0], parts[1], "+/+/"),
        ),
        (
            "trailing bits",
            format!("{}.{}.{}", parts[0], parts[1], "AB"),
        ),
        (
            "a header that is an array",
            with_header(r#"["RS256","JWT","rsa"]"#),
        ),
        ("a header without 'alg'", with_header(r#"{"kid":"rsa"}"#)),
        (
            "two 'alg'",
            with_header(r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#),
        ),
        (
            "two 'kid'",
            with_header(r#"{"alg":"RS256","kid":"rsa","kid":"rsa"}"#),
        ),
        (
            "a 'kid' that is a number",
            with_header(r#"{"alg":"RS256","kid":7}"#),
        ),
        (
            "claims that are an array",
            signed(&header("RS256", "rsa"), &json!([])),
        ),
    ] {
        let error = access_token(&token, &keys).unwrap_err();
        assert!(matches!(error, JwtError::Malformed(_)), "{name}: {error}");
    }
    for (name, header) in [
        (
            "an ignored value",
            &b"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"x\":\"\xff\"}"[..],
        ),
        (
            "an ignored name",
            b"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"\xff\":1}",
        ),
        (
            "an overlong character",
            b"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"x\":\"\xc0\xaf\"}",
        ),
        (
            "a surrogate",
            b"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"x\":[\"\xed\xa0\x80\"]}",
        ),
        (
            "half of an escaped pair",
            br#"{"alg":"RS256","kid":"rsa","x":{"y":"\ud800"}}"#,
        ),
    ] {
        let error = access_token(
            &signed_bytes(header, claims().to_string().as_bytes()),
            &keys,
        );
        let error = error.unwrap_err();
        assert!(matches!(error, JwtError::Malformed(_)), "{name}: {error}");
    }
    let escaped = br#"{"alg":"RS256","kid":"rsa","x":"\\u \u00e9 \ud83d\ude00"}"#;
    access_token(
        &signed_bytes(escaped, claims().to_string().as_bytes()),
        &keys,
    )
    .unwrap();
    let json = claims().to_string();
    let json = json.strip_suffix('}').unwrap();
    for (name, flaw) in [
        ("a claim that nobody reads", &b",\"x\":\"\xff\"}"[..]),
        ("the name of a claim", b",\"\xff\":1}"),
        ("half of an escaped pair", br#","x":["\ud800"]}"#),
    ] {
        let claims = [json.as_bytes(), flaw].concat();
        let header = header("RS256", "rsa").to_string();
        let error = access_token(&signed_bytes(header.as_bytes(), &claims), &keys).unwrap_err();
        assert!(matches!(error, JwtError::Malformed(_)), "{name}: {error}");
    }
    let long = format!("{}.{}.{}", parts[0], "A".repeat(64 * 1024), parts[2]);
    assert_eq!(access_token(&long, &keys).unwrap_err(), JwtError::TooLong);
}

#[test]
fn the_header_does_not_choose_how_the_token_is_verified() {
    let keys = keys(ISSUER, &[rsa_jwk(), ec_jwk()]);
    let with_header = |header: Value| access_token(&signed(&header, &claims()), &keys);
    for alg in [
        "none", "None", "", "HS256", "HS512", "RS1", "RS384", "ES256K", "ES512", "Ed448",
    ] {
        let error = with_header(header(alg, "rsa")).unwrap_err();
        assert_eq!(error, JwtError::Algorithm(alg.into()));
    }
    for algorithm in [SigningAlgorithm::EdDSA, SigningAlgorithm::ES384] {
        let error = with_header(header(algorithm.name(), "rsa")).unwrap_err();
        assert_eq!(error, unfit(algorithm));
    }
    for crit in [
        json!([]),
        json!(["exp"]),
        json!(["b64"]),
        json!(null),
        json!("x"),
    ] {
        let mut header = header("RS256", "rsa");
        header["crit"] = crit;
        assert_eq!(with_header(header).unwrap_err(), JwtError::Critical);
    }
    for (typ, taken) in [
        ("JWT", true),
        ("at+JWT", true),
        ("application/at+jwt", true),
        ("logout+jwt", false),
        ("dpop+jwt", false),
        ("", false),
    ] {
        let mut header = header("RS256", "rsa");
        header["typ"] = typ.into();
        assert_eq!(with_header(header).is_ok(), taken, "{typ:?}");
    }
    let mut misleading = header("RS256", "rsa");
    misleading["jwk"] = rsa_jwk();
    misleading["jku"] = "https://attacker.example/keys".into();
    misleading["x5u"] = "https://attacker.example/cert".into();
    misleading["x5c"] = json!(["MIIB"]);
    with_header(misleading.clone()).unwrap();
    misleading["kid"] = "elsewhere".into();
    assert_eq!(
        with_header(misleading).unwrap_err(),
        JwtError::UnknownKey("elsewhere".into())
    );
}

#[test]
fn a_key_verifies_only_what_it_is_published_for() {
    for (name, jwks, alg, kid, error) in [
        (
            "another name",
            vec![with(rsa_jwk(), "kid", "b")],
            "RS256",
            "rsa",
            JwtError::UnknownKey("rsa".into()),
        ),
        (
            "for encryption",
            vec![with(rsa_jwk(), "use", "enc")],
            "RS256",
            "rsa",
            JwtError::UnknownKey("rsa".into()),
        ),
        (
            "to sign with",
            vec![with(rsa_jwk(), "key_ops", json!(["sign"]))],
            "RS256",
            "rsa",
            JwtError::UnknownKey("rsa".into()),
        ),
        (
            "for another algorithm",
            vec![with(rsa_jwk(), "alg", "PS256")],
            "RS256",
            "rsa",
            unfit(SigningAlgorithm::RS256),
        ),
        (
            "of another kind",
            vec![with(ec_jwk(), "kid", "rsa")],
            "RS256",
            "rsa",
            unfit(SigningAlgorithm::RS256),
        ),
        (
            "RSA for a curve",
            vec![rsa_jwk()],
            "ES256",
            "rsa",
            unfit(SigningAlgorithm::ES256),
        ),
        (
            "of another number",
            vec![with(rsa_jwk(), "e", "Aw")],
            "RS256",
            "rsa",
            JwtError::Signature(Some("rsa".into())),
        ),
    ] {
        let keys = keys(ISSUER, &jwks);
        let outcome = access_token(&signed(&header(alg, kid), &claims()), &keys);
        assert_eq!(outcome.unwrap_err(), error, "{name}");
    }
    let both = keys(ISSUER, &[with(ec_jwk(), "kid", "rsa"), rsa_jwk()]);
    access_token(&signed(&header("RS256", "rsa"), &claims()), &both).unwrap();
    let n = rsa_jwk()["n"].clone();
    let small = encode([0xff; 255]);
    for (name, jwk) in [
        ("2040 bits", with(rsa_jwk(), "n", small)),
        ("exponent 1", with(rsa_jwk(), "e", encode([1]))),
        ("no exponent", with(rsa_jwk(), "e", "")),
        ("no kind", with(rsa_jwk(), "kty", json!(null))),
        ("a secret", json!({ "kty": "oct", "kid": "rsa", "k": n })),
        ("another algorithm", with(rsa_jwk(), "alg", "HS256")),
        ("a curve's algorithm", with(rsa_jwk(), "alg", "ES256")),
        ("another curve", with(ec_jwk(), "crv", "P-384")),
        ("a short point", with(ec_jwk(), "x", encode([1; 31]))),
        ("a name that is none", with(rsa_jwk(), "kid", 7)),
        ("an issuer that is none", with(rsa_jwk(), "issuer", 7)),
    ] {
        assert!(read(&jwk).is_none(), "{name}");
    }
}

#[test]
fn a_token_without_a_key_name_needs_exactly_one_key() {
    let token = signed(&json!({ "alg": "RS256" }), &claims());
    access_token(&token, &keys(ISSUER, &[rsa_jwk(), ec_jwk()])).unwrap();
    let two = keys(ISSUER, &[rsa_jwk(), with(rsa_jwk(), "kid", "b")]);
    assert_eq!(
        access_token(&token, &two).unwrap_err(),
        JwtError::UnnamedKey(2)
    );
    let by_thumbprint = signed(&json!({ "alg": "RS256", "x5t": "print" }), &claims());
    let named = keys(
        ISSUER,
        &[with(rsa_jwk(), "x5t", "print"), with(rsa_jwk(), "kid", "b")],
    );
    access_token(&by_thumbprint, &named).unwrap();
}

#[test]
fn a_changed_token_and_a_graph_token_get_different_errors() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    let token = signed(&header("RS256", "rsa"), &claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = encode(with(claims(), "tid", CONSUMERS).to_string());
    let head = message.split_once('.').unwrap().0;
    let changed = format!("{head}.{other}.{signature}");
    assert_eq!(
        access_token(&changed, &keys).unwrap_err(),
        JwtError::Signature(Some("rsa".into()))
    );

    let head = encode(with(header("RS256", "rsa"), "nonce", "n").to_string());
    let graph = format!("{head}.{}.{signature}", message.split_once('.').unwrap().1);
    assert_eq!(access_token(&graph, &keys).unwrap_err(), JwtError::ForGraph);
    for audience in [
        "https://graph.microsoft.com",
        "00000003-0000-0000-c000-000000000000",
    ] {
        let token = signed(&header("RS256", "rsa"), &with(claims(), "aud", audience));
        assert_eq!(access_token(&token, &keys).unwrap_err(), JwtError::ForGraph);
    }
}

#[test]
fn issuer_and_tenant_must_match() {
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    let consumers = TEMPLATE.replace("{tenantid}", CONSUMERS);
    let consumers_key = with(rsa_jwk(), "issuer", consumers.as_str());
    let template_key = with(rsa_jwk(), "issuer", TEMPLATE);
    for (name, published, jwk, iss, tid, error) in [
        ("its own", ISSUER, rsa_jwk(), ISSUER, TENANT, None),
        ("of version 1", ISSUER, rsa_jwk(), &v1, TENANT, None),
        ("of a template", TEMPLATE, rsa_jwk(), ISSUER, TENANT, None),
        (
            "of version 1 and a template",
            TEMPLATE,
            rsa_jwk(),
            &v1,
            TENANT,
            None,
        ),
        (
            "by a key for all",
            TEMPLATE,
            template_key.clone(),
            ISSUER,
            TENANT,
            None,
        ),
        (
            "of version 1 by a key for all",
            TEMPLATE,
            template_key.clone(),
            &v1,
            TENANT,
            None,
        ),
        (
            "by its own key",
            TEMPLATE,
            consumers_key.clone(),
            &consumers,
            CONSUMERS,
            None,
        ),
        (
            "another",
            ISSUER,
            rsa_jwk(),
            "https://login.example/x/v2.0",
            TENANT,
            Some(JwtError::Issuer("https://login.example/x/v2.0".into())),
        ),
        (
            "another tenant's",
            TEMPLATE,
            rsa_jwk(),
            ISSUER,
            CONSUMERS,
            Some(JwtError::Issuer(ISSUER.into())),
        ),
        (
            "another tenant's of version 1",
            ISSUER,
            rsa_jwk(),
            "https://sts.windows.net/x/",
            TENANT,
            Some(JwtError::Issuer("https://sts.windows.net/x/".into())),
        ),
        (
            "of a template by another's key",
            TEMPLATE,
            consumers_key.clone(),
            ISSUER,
            TENANT,
            Some(JwtError::KeyIssuer(consumers.as_str().into())),
        ),
        (
            "of version 1 by another's key",
            TEMPLATE,
            consumers_key,
            &v1,
            TENANT,
            Some(JwtError::KeyIssuer(consumers.as_str().into())),
        ),
        (
            "the template itself",
            TEMPLATE,
            rsa_jwk(),
            TEMPLATE,
            "{tenantid}",
            Some(JwtError::Issuer(TEMPLATE.into())),
        ),
    ] {
        let claims = with(with(claims(), "iss", iss), "tid", tid);
        let token = signed(&header("RS256", "rsa"), &claims);
        let outcome = access_token(&token, &keys(published, &[jwk]));
        assert_eq!(outcome.err(), error, "{name}");
    }
    let mut without_tenant = claims();
    without_tenant.as_object_mut().unwrap().remove("tid");
    let token = signed(&header("RS256", "rsa"), &without_tenant);
    let error = access_token(&token, &keys(TEMPLATE, &[rsa_jwk()])).unwrap_err();
    assert_eq!(error, JwtError::Issuer(ISSUER.into()));
}

#[test]
fn audience_and_times_are_checked() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    for (name, value, error) in [
        ("aud", json!(API), None),
        ("aud", json!(["other", API]), None),
        (
            "aud",
            json!("other"),
            Some(JwtError::Audience("other".into())),
        ),
        (
            "aud",
            json!("api://orders/"),
            Some(JwtError::Audience("api://orders/".into())),
        ),
        ("aud", json!([]), Some(JwtError::Audience("".into()))),
        ("aud", json!([API, 7]), Some(JwtError::Claim("aud"))),
        ("aud", json!(null), Some(JwtError::Claim("aud"))),
        ("iss", json!(null), Some(JwtError::Claim("iss"))),
        ("iss", json!([ISSUER]), Some(JwtError::Claim("iss"))),
        ("tid", json!(7), Some(JwtError::Claim("tid"))),
        ("exp", json!(NOW - 299), None),
        ("exp", json!(NOW as f64 - 299.5), None),
        (
            "exp",
            json!(NOW - 300),
            Some(JwtError::Expired(compared(NOW - 300))),
        ),
        ("exp", json!(0), Some(JwtError::Expired(compared(0)))),
        ("exp", json!(-1), Some(JwtError::Claim("exp"))),
        ("exp", json!(1e300), Some(JwtError::Claim("exp"))),
        ("exp", json!(u64::MAX), Some(JwtError::Claim("exp"))),
        ("exp", json!("1900000000"), Some(JwtError::Claim("exp"))),
        ("exp", json!(null), Some(JwtError::Claim("exp"))),
        ("nbf", json!(NOW + 300), None),
        (
            "nbf",
            json!(NOW + 301),
            Some(JwtError::NotYetValid(compared(NOW + 301))),
        ),
        ("nbf", json!("now"), Some(JwtError::Claim("nbf"))),
        ("iat", json!("whenever"), None),
    ] {
        let token = signed(
            &header("RS256", "rsa"),
            &with(claims(), name, value.clone()),
        );
        let outcome = access_token(&token, &keys);
        assert_eq!(outcome.err(), error, "{name}: {value}");
    }
    for (name, taken) in [
        ("aud", false),
        ("iss", false),
        ("exp", false),
        ("nbf", true),
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        let token = signed(&header("RS256", "rsa"), &claims);
        assert_eq!(access_token(&token, &keys).is_ok(), taken, "{name}");
    }
}

#[test]
fn an_id_token_must_be_for_this_client() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    for (name, header, claims, error) in [
        ("plain", header("RS256", "rsa"), claims(), None),
        (
            "issued to it",
            header("RS256", "rsa"),
            with(claims(), "azp", API),
            None,
        ),
        (
            "issued to another",
            header("RS256", "rsa"),
            with(claims(), "azp", "b"),
            Some(JwtError::AuthorizedParty("b".into())),
        ),
        (
            "for two, issued to nobody",
            header("RS256", "rsa"),
            with(claims(), "aud", json!([API, "b"])),
            Some(JwtError::Claim("azp")),
        ),
        (
            "for another",
            header("RS256", "rsa"),
            with(claims(), "aud", "b"),
            Some(JwtError::Audience("b".into())),
        ),
        (
            "by the older name",
            header("RS256", "rsa"),
            with(claims(), "iss", v1.as_str()),
            Some(JwtError::Issuer(v1.as_str().into())),
        ),
        (
            "an access token",
            with(header("RS256", "rsa"), "typ", "at+jwt"),
            claims(),
            Some(JwtError::Type("at+jwt".into())),
        ),
    ] {
        let token = signed(&header, &claims);
        let outcome =
            SignedJwt::parse(&token).and_then(|jwt| jwt.id_token(&keys, API, now(), LEEWAY));
        assert_eq!(outcome.err(), error, "{name}");
    }
}

#[test]
fn token_text_is_truncated_to_one_line() {
    let long = format!("a\nb\u{1b}{}", "x".repeat(999));
    let shown = JwtError::Audience(long.as_str().into()).to_string();
    assert!(shown.contains("a b\\u{1b}") && shown.len() < 400, "{shown}");
}

#[test]
fn an_id_token_at_the_wrong_time_is_not_rejected_without_the_times_and_the_clock_skew() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    for (name, at, expected) in [
        (
            "exp",
            NOW - 421,
            "the token has expired: 'exp' is 2027-01-15T07:52:59Z, which is 421 s before this machine's clock (2027-01-15T08:00:00Z), and the allowed clock skew is 300 s; synchronize this machine's clock (NTP) if the token is new",
        ),
        (
            "nbf",
            NOW + 301,
            "the token is not valid yet: 'nbf' is 2027-01-15T08:05:01Z, which is 301 s after this machine's clock (2027-01-15T08:00:00Z), and the allowed clock skew is 300 s; synchronize this machine's clock (NTP)",
        ),
    ] {
        let token = signed(&header("RS256", "rsa"), &with(claims(), name, at));
        let outcome =
            SignedJwt::parse(&token).and_then(|jwt| jwt.id_token(&keys, API, now(), LEEWAY));
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!error.for_sender().contains("20"), "{}", error.for_sender());
    }
}

/// docs/failures.md O7.
#[test]
fn a_null_in_a_jwk_does_not_drop_a_good_key() {
    let token = signed(&header("RS256", "rsa"), &claims());
    for member in [
        "alg", "use", "x5t", "x5c", "x5t#S256", "issuer", "key_ops", "crv", "d",
    ] {
        let keys = keys(ISSUER, &[with(rsa_jwk(), member, json!(null))]);
        access_token(&token, &keys).unwrap_or_else(|error| panic!("{member}: {error}"));
    }
    let every_optional_member = json!({
        "kid": null, "alg": null, "use": null, "x5t": null, "x5c": null, "issuer": null,
        "key_ops": null, "x": null, "y": null, "crv": null,
        "kty": "RSA", "n": rsa_jwk()["n"], "e": rsa_jwk()["e"],
    });
    let nameless = signed(&json!({ "alg": "RS256" }), &claims());
    access_token(&nameless, &keys(ISSUER, &[every_optional_member])).unwrap();
    let ec = with(with(ec_jwk(), "n", json!(null)), "use", json!(null));
    let by_ec = signed(&header("ES256", "ec"), &claims());
    access_token(&by_ec, &keys(ISSUER, &[ec])).unwrap();
    let by_thumbprint = with(with(rsa_jwk(), "kid", json!(null)), "x5t", "print");
    let named = signed(&json!({ "alg": "RS256", "x5t": "print" }), &claims());
    access_token(&named, &keys(ISSUER, &[by_thumbprint])).unwrap();
    for required in ["kty", "n", "e"] {
        let without = with(rsa_jwk(), required, json!(null));
        assert!(read(&without).is_none(), "{required}");
    }
    for required in ["crv", "x", "y"] {
        let without = with(ec_jwk(), required, json!(null));
        assert!(read(&without).is_none(), "{required}");
    }
}

#[test]
fn a_malformed_member_of_one_jwk_does_not_drop_the_other_keys() {
    let token = signed(&header("RS256", "rsa"), &claims());
    for member in [
        "kty", "kid", "alg", "use", "x5t", "issuer", "key_ops", "n", "e",
    ] {
        for malformed in [
            json!(7),
            json!([null]),
            json!({}),
            json!("\u{0}"),
            json!(true),
        ] {
            let keys = keys(
                ISSUER,
                &[
                    with(with(rsa_jwk(), "kid", "b"), member, malformed),
                    rsa_jwk(),
                ],
            );
            access_token(&token, &keys).unwrap_or_else(|error| panic!("{member}: {error}"));
        }
    }
}

#[test]
fn a_null_in_a_header_is_absent() {
    let keys = keys(ISSUER, &[with(rsa_jwk(), "x5t", "print")]);
    let with_null = |header: Value, member: &str| {
        let header = with(header, member, json!(null));
        access_token(&signed(&header, &claims()), &keys)
    };
    for member in ["typ", "cty", "x5c", "jku", "jwk", "nonce", "x5t"] {
        with_null(header("RS256", "rsa"), member)
            .unwrap_or_else(|error| panic!("{member}: {error}"));
    }
    with_null(json!({ "alg": "RS256", "x5t": "print" }), "kid").unwrap();
    // Without a name, the only key verifies the token.
    with_null(json!({ "alg": "RS256" }), "kid").unwrap();
    let error = with_null(header("RS256", "rsa"), "alg").unwrap_err();
    assert!(error.to_string().contains("with an 'alg'"), "{error}");
    // A changed token with an absent nonce is no token of Graph.
    let mut changed = signed(
        &with(header("RS256", "rsa"), "nonce", json!(null)),
        &claims(),
    );
    changed.replace_range(changed.len() - 8.., "AAAAAAAA");
    let error = access_token(&changed, &keys).unwrap_err();
    assert_eq!(error, JwtError::Signature(Some("rsa".into())));
}

#[test]
fn a_null_claim_is_absent() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    let token = |claim: &str| signed(&header("RS256", "rsa"), &with(claims(), claim, json!(null)));
    for optional in ["nbf", "iat", "azp", "acr", "cnf", "scp", "nonce"] {
        let found = access_token(&token(optional), &keys);
        let found = found.unwrap_or_else(|error| panic!("{optional}: {error}"));
        assert!(found.get(optional).is_none(), "{optional}");
    }
    for required in ["aud", "iss", "exp", "tid"] {
        let error = access_token(&token(required), &keys).unwrap_err();
        assert_eq!(error, JwtError::Claim(required));
    }
    // An issuer without tenants needs no `tid`.
    let other = "https://id.example";
    let without_tenant = with(with(claims(), "iss", other), "tid", json!(null));
    let without_tenant = signed(&header("RS256", "rsa"), &without_tenant);
    access_token(&without_tenant, &super::tests::keys(other, &[rsa_jwk()])).unwrap();
    for (claim, is_missing) in [("azp", false), ("nonce", false), ("iss", true)] {
        let token = token(claim);
        let jwt = SignedJwt::parse(&token).unwrap();
        let id_token = jwt.id_token(&keys, API, now(), LEEWAY);
        assert_eq!(id_token.is_err(), is_missing, "{claim}");
    }
}

/// RFC 7519 section 4.
#[test]
fn the_last_claim_of_a_name_decides() {
    let keys = keys(ISSUER, &[rsa_jwk()]);
    let json = claims().to_string();
    let members = json.trim_matches(['{', '}']);
    let other = "https://login.example/x/v2.0";
    for (flaw, error) in [
        (r#","aud":"other""#, JwtError::Audience("other".into())),
        (r#","aud":null"#, JwtError::Claim("aud")),
        (
            r#","\u0061ud":["other"]"#,
            JwtError::Audience("other".into()),
        ),
        (
            &*format!(r#","iss":"{other}""#),
            JwtError::Issuer(other.into()),
        ),
        (r#","exp":1"#, JwtError::Expired(compared(1))),
        (r#","tid":7"#, JwtError::Claim("tid")),
    ] {
        let with_both = |first: &str, last: &str| {
            let claims = format!("{{{members}{first}{last}}}");
            let token = signed_bytes(
                header("RS256", "rsa").to_string().as_bytes(),
                claims.as_bytes(),
            );
            access_token(&token, &keys).err()
        };
        assert_eq!(with_both(flaw, ""), Some(error), "{flaw}");
        let again = format!(",{members}");
        assert_eq!(with_both(flaw, &again), None, "{flaw}");
    }
}
