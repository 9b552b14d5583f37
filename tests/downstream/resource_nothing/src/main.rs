#[path = "../../issuer.rs"]
mod issuer;

use bytes::Bytes;
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::{ConfidentialClient, Error};
use http::Request;

fn main() {
    let error = issuer::builder().build().expect_err("no signatures");
    names_the_feature(&error);

    let error = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(sign_in())
        .expect_err("no signatures");
    names_the_feature(&error);
    println!(
        "{}: no token is accepted unverified",
        env!("CARGO_PKG_NAME")
    );
}

fn names_the_feature(error: &Error) {
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("enable the feature 'aws-lc-rs', 'ring' or 'rust-crypto'"),
        "{error}"
    );
}

/// An ID token cannot be verified, so the code is not even sent.
async fn sign_in() -> Result<(), Error> {
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("s3cret")
        .transport(|_: Request<Bytes>| async { panic!("a request is sent") })
        .build()
        .expect("a client");
    let request = AuthorizationRequest::new("https://app.example/back", "User.Read");
    let (_, flow) = client
        .authorization_request_url(&request)
        .await
        .expect("the page of the sign-in");
    let redirected = format!("https://app.example/back?code=code&state={}", flow.state());
    client
        .acquire_token_by_authorization_code(flow, redirected)
        .await
        .map(drop)
}
