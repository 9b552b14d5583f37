//! Reads arbitrary responses of the managed identity endpoints: the result is a token or a
//! printable error.
//!
//! The first byte selects the host, the second the status. If the third byte is odd, the first line
//! is the value of headers. The rest is the body.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use confidential_client::credential::{HostEnvironment, ManagedIdentity};
use confidential_client::{AccessToken, Error, ManagedIdentityClient};
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const SECRET: &str = "Zq9~fuzzed.Secret-Value_7Yx";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const STATUSES: [u16; 12] = [200, 200, 200, 204, 302, 400, 401, 404, 410, 429, 500, 503];
const HOSTS: [&[(&str, &str)]; 6] = [
    &[],
    &[
        ("IDENTITY_ENDPOINT", "http://127.0.0.1/token"),
        ("IDENTITY_HEADER", SECRET),
    ],
    &[
        ("IDENTITY_ENDPOINT", "https://localhost/token"),
        ("IDENTITY_HEADER", SECRET),
        (
            "IDENTITY_SERVER_THUMBPRINT",
            "00112233445566778899AABBCCDDEEFF00112233",
        ),
    ],
    &[
        ("IDENTITY_ENDPOINT", "http://127.0.0.1/token"),
        ("IMDS_ENDPOINT", "http://127.0.0.1"),
    ],
    &[
        ("MSI_ENDPOINT", "http://127.0.0.1/token"),
        ("MSI_SECRET", SECRET),
    ],
    &[("MSI_ENDPOINT", "http://127.0.0.1/token")],
];

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    );
}

fuzz_target!(|input: &[u8]| {
    let [host, status, headers, rest @ ..] = input else {
        return;
    };
    let variables = HOSTS[usize::from(*host) % HOSTS.len()].to_vec();
    // Service Fabric and Cloud Shell accept no client id.
    let has_id = host / 8 % 2 == 1 && ![2, 5].contains(&(usize::from(*host) % HOSTS.len()));
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let (header, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) if headers % 2 == 1 => (&rest[..at], &rest[at + 1..]),
        _ => (&b""[..], rest),
    };
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = status.try_into().unwrap();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        for name in [
            "retry-after",
            "date",
            "content-type",
            "location",
            "www-authenticate",
        ] {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let fetched =
        RUNTIME.with_borrow(|runtime| runtime.block_on(acquire(variables, has_id, response)));
    match fetched {
        Ok(token) => {
            assert!((200..300).contains(&status));
            assert!(!token.secret().trim().is_empty());
            assert!(token.refresh_on() <= token.expires_on());
        }
        Err(error) => check(&error),
    }
});

/// Acquires a token from an endpoint that always returns `response`, without time for a retry.
async fn acquire(
    variables: Vec<(&'static str, &'static str)>,
    has_id: bool,
    response: Response<Bytes>,
) -> Result<AccessToken, Error> {
    let identity = match has_id {
        true => ManagedIdentity::user_assigned_client_id(CLIENT_ID),
        false => ManagedIdentity::system_assigned(),
    };
    let environment = HostEnvironment::from_variables(variables).arc_key_folder("/nowhere");
    let client = ManagedIdentityClient::builder(identity)
        .environment(environment)
        .transport(move |_: Request<Bytes>| {
            let response = response.clone();
            async move { Ok(response) }
        })
        .deadline(std::time::Duration::from_secs(2))
        .build()?;
    client
        .acquire_token("https://vault.azure.net/.default")
        .await
}

fn check(error: &Error) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET), "{text}");
    assert!(error.to_string().chars().all(|c| !c.is_control()), "{text}");
    // The key file of Azure Arc's challenge is never in the folder.
    assert!(
        error.status().is_some() || matches!(error, Error::Credential(_)),
        "{text}"
    );
    let _ = (
        error.is_transient(),
        error.retry_after(),
        error.claims_challenge(),
    );
}
