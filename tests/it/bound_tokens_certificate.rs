//! Tokens that are bound to a client certificate, at the validator of an API.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::Error;
use confidential_client::resource::{
    CertificateSource, Claims, DpopPolicy, PeerCertificate, RejectionReason, ResourceRequest,
    TokenRejection, TokenValidator,
};
use http::{HeaderValue, Request};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::issuer::{
    Issuer, RSA, TENANT_ID, encode, header, user_claims, user_token, with,
};
use crate::support::proof::ProofKey;

/// A client certificate and a token that is bound to it.
struct Client {
    der: Vec<u8>,
    pem: String,
    token: String,
}

impl Client {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["daemon.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().to_vec();
        let cnf = json!({ "x5t#S256": encode(Sha256::digest(&der)) });
        Self {
            pem: certificate.pem(),
            token: RSA.sign(&header(), &with(user_claims(), "cnf", cnf)),
            der,
        }
    }

    /// Returns the certificate as nginx encodes it.
    fn url_encoded(&self) -> String {
        let encode = |byte: u8| match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        self.pem.bytes().map(encode).collect()
    }

    fn base64(&self) -> String {
        BASE64_STANDARD.encode(&self.der)
    }

    fn hash(&self) -> String {
        let digest = Sha256::digest(&self.der);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn validator(source: CertificateSource) -> TokenValidator {
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    builder.certificate_bound(source).build().unwrap()
}

async fn send(
    validator: &TokenValidator,
    authorization: &str,
    headers: &[(&'static str, String)],
    certificate: Option<&[u8]>,
) -> Result<Claims, TokenRejection> {
    let mut request = Request::get("/files").header("authorization", authorization);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let mut request = request.body(()).unwrap();
    if let Some(certificate) = certificate {
        let certificate = PeerCertificate::from_der(certificate);
        request.extensions_mut().insert(certificate);
    }
    validator
        .validate_request(ResourceRequest::from(&request))
        .await
}

#[tokio::test]
async fn the_certificate_of_the_connection_must_be_that_of_the_token() {
    let accepting = validator(CertificateSource::connection());
    let requiring = {
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        let builder = builder.certificate_bound(CertificateSource::connection());
        builder.require_bound_tokens().build().unwrap()
    };
    let (client, other) = (Client::new(), Client::new());
    let bearer = format!("Bearer {}", client.token);
    let mtls_pop = format!("mtls_pop {}", client.token);
    let unbound = format!("Bearer {}", user_token());
    let proof_key = format!("Bearer {}", ProofKey::new().token);
    let in_header = [("x-client-cert", client.url_encoded())];
    use RejectionReason as Is;
    for (name, validator, authorization, headers, certificate, expected) in [
        (
            "the token's",
            &accepting,
            &bearer,
            &[][..],
            Some(&client),
            None,
        ),
        (
            "the token's, where it is required",
            &requiring,
            &bearer,
            &[],
            Some(&client),
            None,
        ),
        (
            "with Entra's scheme",
            &accepting,
            &mtls_pop,
            &[],
            Some(&client),
            None,
        ),
        (
            "another",
            &accepting,
            &bearer,
            &[],
            Some(&other),
            Some(Is::BoundToKey),
        ),
        (
            "another, with Entra's scheme",
            &accepting,
            &mtls_pop,
            &[],
            Some(&other),
            Some(Is::BoundToKey),
        ),
        ("none", &accepting, &bearer, &[], None, Some(Is::BoundToKey)),
        (
            "a header that is not named",
            &accepting,
            &bearer,
            &in_header,
            None,
            Some(Is::BoundToKey),
        ),
        (
            "another beside such a header",
            &accepting,
            &bearer,
            &in_header,
            Some(&other),
            Some(Is::BoundToKey),
        ),
        (
            "a bearer token",
            &accepting,
            &unbound,
            &[],
            Some(&client),
            None,
        ),
        (
            "a bearer token, where it is required",
            &requiring,
            &unbound,
            &[],
            Some(&client),
            Some(Is::NotBound),
        ),
        (
            "a bearer token, with Entra's scheme",
            &accepting,
            &unbound.replace("Bearer", "mtls_pop"),
            &[],
            Some(&client),
            Some(Is::NotBound),
        ),
        (
            "bound to a proof key",
            &accepting,
            &proof_key,
            &[],
            Some(&client),
            Some(Is::BoundToKey),
        ),
        (
            "DPoP",
            &accepting,
            &bearer.replace("Bearer", "DPoP"),
            &[],
            Some(&client),
            Some(Is::MissingToken),
        ),
    ] {
        let certificate = certificate.map(|client| &client.der[..]);
        let outcome = send(validator, authorization, headers, certificate).await;
        let reason = outcome.as_ref().err().map(TokenRejection::reason);
        assert_eq!(reason, expected, "{name}");
        let Err(rejection) = outcome else { continue };
        assert_eq!(rejection.status(), 401, "{name}");
        let challenge = rejection.www_authenticate().unwrap();
        let challenge = challenge.to_str().unwrap();
        assert!(challenge.starts_with(r#"Bearer realm="""#), "{challenge}");
        let is_invalid_token = challenge.contains(r#"error="invalid_token""#);
        assert_eq!(
            is_invalid_token,
            expected != Some(Is::MissingToken),
            "{challenge}"
        );
    }
    // The operator sees both thumbprints, and the client does not.
    let rejection = send(&accepting, &bearer, &[], Some(&other.der))
        .await
        .unwrap_err();
    for client in [&client, &other] {
        let thumbprint = encode(Sha256::digest(&client.der));
        assert!(rejection.chain().to_string().contains(&thumbprint));
        assert!(!rejection.to_string().contains(&thumbprint));
    }
}

#[tokio::test]
async fn the_certificate_is_read_from_the_header_of_a_proxy() {
    let (client, other) = (Client::new(), Client::new());
    let bearer = format!("Bearer {}", client.token);
    let (pem, base64, hash) = (client.url_encoded(), client.base64(), client.hash());
    let tail = |text: &str| text[..text.len() - 4].to_owned();
    let pem_of = || CertificateSource::url_encoded_pem("X-Client-Cert");
    let der_of = || CertificateSource::base64_der("X-ARR-ClientCert");
    let (envoy, rfc9440) = (CertificateSource::envoy, CertificateSource::rfc9440);
    let xfcc = |value: String| vec![("x-forwarded-client-cert", value)];
    let client_cert = |value: String| vec![("client-cert", value)];
    let x_client_cert = |value: String| vec![("x-client-cert", value)];
    let x_arr = |value: String| vec![("x-arr-clientcert", value)];
    let aws = client.pem.replace('\n', "%0A").replace(' ', "%20");
    let chain = format!("{pem}{}", other.url_encoded());
    let unpadded = base64.trim_end_matches('=').to_owned();
    for (name, source, headers, problem) in [
        ("nginx", pem_of(), x_client_cert(pem.clone()), None),
        (
            "AWS, which leaves '+', '/' and '=' alone",
            pem_of(),
            x_client_cert(aws),
            None,
        ),
        ("the chain behind it", pem_of(), x_client_cert(chain), None),
        (
            "another's",
            pem_of(),
            x_client_cert(other.url_encoded()),
            Some("x5t#S256"),
        ),
        (
            "no header",
            pem_of(),
            vec![],
            Some("'x-client-cert' is not in the request"),
        ),
        (
            "an empty header",
            pem_of(),
            x_client_cert(String::new()),
            Some("presented no certificate"),
        ),
        (
            "twice",
            pem_of(),
            [x_client_cert(pem.clone()), x_client_cert(pem.clone())].concat(),
            Some("more than once"),
        ),
        (
            "a header of another name",
            pem_of(),
            x_arr(pem.clone()),
            Some("is not in the request"),
        ),
        (
            "cut off",
            pem_of(),
            x_client_cert(tail(&pem)),
            Some("not a URL-encoded certificate"),
        ),
        (
            "not hexadecimal",
            pem_of(),
            x_client_cert(pem.replacen("%0A", "%+A", 1)),
            Some("not a URL-encoded certificate"),
        ),
        (
            "cut off behind '%'",
            pem_of(),
            x_client_cert(format!("{pem}%4")),
            Some("not a URL-encoded certificate"),
        ),
        (
            "base64 in place of PEM",
            pem_of(),
            x_client_cert(base64.clone()),
            Some("not a URL-encoded certificate"),
        ),
        (
            "Azure App Service and HAProxy",
            der_of(),
            x_arr(base64.clone()),
            None,
        ),
        ("without padding", der_of(), x_arr(unpadded), None),
        (
            "Traefik, with the issuer",
            der_of(),
            x_arr(format!("{base64},{}", other.base64())),
            None,
        ),
        (
            "another's first",
            der_of(),
            x_arr(format!("{},{base64}", other.base64())),
            Some("x5t#S256"),
        ),
        (
            "DER cut off",
            der_of(),
            x_arr(tail(&base64)),
            Some("not a certificate in DER"),
        ),
        (
            "no DER",
            der_of(),
            x_arr(BASE64_STANDARD.encode("text")),
            Some("not a certificate in DER"),
        ),
        (
            "RFC 9440",
            rfc9440(),
            client_cert(format!(":{base64}:")),
            None,
        ),
        (
            "RFC 9440 without colons",
            rfc9440(),
            client_cert(base64.clone()),
            Some("between colons"),
        ),
        (
            "RFC 9440 as a list",
            rfc9440(),
            client_cert(format!(":{base64}:, :{base64}:")),
            Some("between colons"),
        ),
        (
            "Envoy's hash",
            envoy(),
            xfcc(format!("By=spiffe://a;Hash={hash};Subject=\"CN=a;b,c\"")),
            None,
        ),
        (
            "Envoy's certificate",
            envoy(),
            xfcc(format!("Cert=\"{pem}\"")),
            None,
        ),
        (
            "both",
            envoy(),
            xfcc(format!("hash={};CERT=\"{pem}\"", hash.to_uppercase())),
            None,
        ),
        (
            "both, and they differ",
            envoy(),
            xfcc(format!("Hash={};Cert=\"{pem}\"", other.hash())),
            Some("not the hash of its 'Cert'"),
        ),
        (
            "another's hash",
            envoy(),
            xfcc(format!("Hash={}", other.hash())),
            Some("x5t#S256"),
        ),
        (
            "the client's element first",
            envoy(),
            xfcc(format!("Hash={hash},Hash={}", other.hash())),
            Some("several elements"),
        ),
        (
            "a separator in quotes with an escape",
            envoy(),
            xfcc(format!("Subject=\"a\\\",Hash=0\";Hash={hash}")),
            None,
        ),
        (
            "an open quote",
            envoy(),
            xfcc(format!("Subject=\"a;Hash={hash}")),
            Some("open quote"),
        ),
        (
            "two hashes",
            envoy(),
            xfcc(format!("Hash={hash};Hash={hash}")),
            Some("twice"),
        ),
        (
            "no hash",
            envoy(),
            xfcc("By=spiffe://a".to_owned()),
            Some("neither 'Hash' nor 'Cert'"),
        ),
        (
            "a part that is no pair",
            envoy(),
            xfcc(format!("Hash={hash};x")),
            Some("not a pair"),
        ),
        (
            "a short hash",
            envoy(),
            xfcc(format!("Hash={}", tail(&hash))),
            Some("not a SHA-256"),
        ),
        (
            "an odd hash",
            envoy(),
            xfcc(format!("Hash={hash}0")),
            Some("not a SHA-256"),
        ),
        (
            "a hash that is not hexadecimal",
            envoy(),
            xfcc(format!("Hash={}+1+1", tail(&hash))),
            Some("not a SHA-256"),
        ),
        (
            "a certificate that is none",
            envoy(),
            xfcc("Cert=\"x\"".to_owned()),
            Some("'Cert' that is not"),
        ),
    ] {
        let validator = validator(source);
        // The certificate of the connection is that of the proxy, and does not count.
        let outcome = send(&validator, &bearer, &headers, Some(&other.der)).await;
        let Some(problem) = problem else {
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
            continue;
        };
        let rejection = outcome.unwrap_err();
        assert_eq!(rejection.reason(), RejectionReason::BoundToKey, "{name}");
        let chain = rejection.chain().to_string();
        assert!(chain.contains(problem), "{name}: {chain}");
        assert!(!chain.contains("BEGIN"), "{name}: {chain}");
        assert!(
            !rejection.to_string().contains("header"),
            "{name}: {rejection}"
        );
    }
    // A header is enough where only the headers are known.
    let validator = validator(pem_of());
    let mut request = Request::get("/files")
        .header("authorization", &bearer)
        .body(())
        .unwrap();
    let value = HeaderValue::try_from(pem).unwrap();
    request.headers_mut().insert("x-client-cert", value);
    validator.validate_headers(request.headers()).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_bound_to_two_keys_needs_both() {
    let builder = Issuer::new().builder(TENANT_ID).single_tenant();
    let validator = builder
        .certificate_bound(CertificateSource::connection())
        .dpop(DpopPolicy::new("https://api.example"))
        .build()
        .unwrap();
    let (client, other) = (Client::new(), Client::new());
    let mut key = ProofKey::new();
    let jkt = crate::support::claims_of(&key.token)["cnf"]["jkt"].clone();
    let cnf = json!({ "jkt": jkt, "x5t#S256": encode(Sha256::digest(&client.der)) });
    let both = RSA.sign(&header(), &with(user_claims(), "cnf", cnf));
    key.token.clone_from(&both);
    let proof = || vec![("dpop", key.proof("GET", "https://api.example/files"))];
    let dpop = format!("DPoP {both}");
    for (name, authorization, headers, certificate, expected) in [
        ("both", &dpop, proof(), Some(&client), None),
        (
            "another certificate",
            &dpop,
            proof(),
            Some(&other),
            Some(RejectionReason::BoundToKey),
        ),
        (
            "no certificate",
            &dpop,
            proof(),
            None,
            Some(RejectionReason::BoundToKey),
        ),
        (
            "no proof",
            &dpop,
            vec![],
            Some(&client),
            Some(RejectionReason::InvalidProof),
        ),
        (
            "Bearer",
            &format!("Bearer {both}"),
            proof(),
            Some(&client),
            Some(RejectionReason::BoundToKey),
        ),
        (
            "only a certificate, with DPoP",
            &format!("DPoP {}", client.token),
            proof(),
            Some(&client),
            Some(RejectionReason::NotBound),
        ),
        (
            "only a proof key, with mtls_pop",
            &format!("mtls_pop {}", ProofKey::new().token),
            proof(),
            Some(&client),
            Some(RejectionReason::NotBound),
        ),
    ] {
        let certificate = certificate.map(|client: &Client| &client.der[..]);
        let outcome = send(&validator, authorization, &headers, certificate).await;
        assert_eq!(
            outcome.err().map(|rejection| rejection.reason()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_text_that_cannot_be_the_name_of_a_header_is_reported() {
    for name in ["", "x client cert", "$ssl_client_escaped_cert:", "x-é"] {
        let builder = Issuer::new().builder(TENANT_ID).single_tenant();
        let source = CertificateSource::base64_der(name);
        let error = builder.certificate_bound(source).build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}
