//! An in-memory identity provider for the crates in this folder.

use bytes::Bytes;
use confidential_client::{
    AccessToken, Certificate, ConfidentialClient, ConfidentialClientBuilder, Error,
};
use http::{Request, Response};

/// Returns a builder with a transport that issues tokens to requests with this field.
pub fn builder(field: &'static str) -> ConfidentialClientBuilder {
    ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .transport(move |request: Request<Bytes>| async move {
            let form = String::from_utf8(request.into_body().to_vec())?;
            let value = form
                .split('&')
                .find_map(|pair| pair.strip_prefix(&format!("{field}=")))
                .ok_or("the field is missing")?;
            if field == "client_assertion" {
                assert_eq!(value.split('.').filter(|part| !part.is_empty()).count(), 3);
            }
            let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
            Ok(Response::new(Bytes::from(body)))
        })
}

pub fn acquire(client: &ConfidentialClient) -> Result<AccessToken, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(client.acquire_token_for_client("https://graph.microsoft.com/.default"))
}

pub fn pem() -> Vec<u8> {
    let path = std::env::args().nth(1).expect("the path of a PEM");
    std::fs::read(path).expect("a PEM that can be read")
}

/// Runs the checks that most of these crates share.
#[allow(dead_code, reason = "the crate without signing does another thing")]
pub fn acquire_with_a_certificate() {
    let certificate = Certificate::from_pem(pem()).expect("a certificate");
    let builder = builder("client_assertion").certificate(certificate);
    let client = builder.build().expect("a client");
    let token = acquire(&client).expect("a token");
    assert_eq!(token.secret(), "abc");
}
