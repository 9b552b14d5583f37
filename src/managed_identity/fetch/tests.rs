use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::managed_identity::environment::{
    IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, MSI_ENDPOINT, MSI_SECRET,
};
use crate::managed_identity::request::tests::RESOURCE;

#[cfg(all(feature = "reqwest", feature = "testing"))]
mod sockets;

const TOKEN: &str = r#"{"access_token":"t0ken","expires_in":"3599","token_type":"Bearer"}"#;

fn response(status: u16, body: &str) -> Response<Bytes> {
    let response = Response::builder().status(status);
    let body = Bytes::copy_from_slice(body.as_bytes());
    response.body(body).unwrap()
}

type Requests = Arc<Mutex<Vec<Request<Bytes>>>>;

/// Returns a transport of `respond`, and the requests that it got.
fn transport(
    respond: impl Fn(usize) -> Response<Bytes> + Send + Sync + 'static,
) -> (Arc<dyn Transport>, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let transport = move |request: Request<Bytes>| {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len()
        };
        let response = respond(number);
        async move { Ok(response) }
    };
    (Arc::new(transport), requests)
}

fn fetcher(
    identity: ManagedIdentity,
    environment: HostEnvironment,
    transport: Option<Arc<dyn Transport>>,
) -> Result<ManagedIdentityFetcher, Error> {
    ManagedIdentityFetcher::new(FetcherSettings {
        identity,
        environment,
        capabilities: vec!["cp1".to_owned()],
        transport,
        connect_timeout: None,
        attempt_timeout: Duration::from_secs(15),
        clock: TimeSource::default(),
    })
}

fn system(
    environment: HostEnvironment,
    transport: Arc<dyn Transport>,
) -> Result<ManagedIdentityFetcher, Error> {
    fetcher(
        ManagedIdentity::system_assigned(),
        environment,
        Some(transport),
    )
}

fn imds() -> HostEnvironment {
    HostEnvironment::from_fn(|_| None)
}

async fn fetch(fetcher: &ManagedIdentityFetcher) -> Result<IdentityToken, Error> {
    fetch_within(fetcher, fetcher.default_deadline()).await
}

async fn fetch_within(
    fetcher: &ManagedIdentityFetcher,
    limit: Duration,
) -> Result<IdentityToken, Error> {
    let request = IdentityTokenRequest {
        resource: &Resource::of_scopes(RESOURCE).unwrap(),
        correlation_id: "our-id",
        is_revoked: false,
        rejected_token: None,
        on_send: &|| (),
    };
    fetcher.fetch(request, Instant::now() + limit).await
}

#[tokio::test(start_paused = true)]
async fn an_update_of_imds_is_outlasted() {
    let began = Instant::now();
    let (transport, requests) =
        transport(move |_| match began.elapsed() < Duration::from_secs(70) {
            true => response(410, ""),
            false => response(200, TOKEN),
        });
    let fetcher = system(imds(), transport).unwrap();
    let token = fetch(&fetcher).await.unwrap();
    assert_eq!(token.secret.expose(), "t0ken");
    assert!(requests.lock().unwrap().len() >= 8);
}

#[tokio::test(start_paused = true)]
async fn the_statuses_of_the_schedule_are_retried_and_400_is_final() {
    let app_service = || {
        HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, "http://127.0.0.1/token"),
            (IDENTITY_HEADER, "s3cret"),
        ])
    };
    for (name, environment, status, failures, expected) in [
        ("IMDS", imds(), 404, 4, Ok(5)),
        ("IMDS, for ever", imds(), 404, 9, Err(5)),
        ("IMDS, final", imds(), 400, 1, Err(1)),
        ("App Service", app_service(), 503, 3, Ok(4)),
        ("App Service, for ever", app_service(), 503, 9, Err(4)),
        ("App Service, no update", app_service(), 410, 1, Err(1)),
    ] {
        let (transport, requests) = transport(move |number| match number <= failures {
            true => response(status, r#"{"error":"no"}"#),
            false => response(200, TOKEN),
        });
        let fetcher = system(environment, transport).unwrap();
        let result = fetch(&fetcher).await;
        let sent = requests.lock().unwrap().len();
        match (result, expected) {
            (Ok(_), Ok(expected)) => assert_eq!(sent, expected, "{name}"),
            (Err(error), Err(expected)) => {
                assert_eq!(error.status().unwrap(), status, "{name}");
                assert_eq!(sent, expected, "{name}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_is_not_asked_before_the_end_of_its_retry_after() {
    let began = Instant::now();
    let (transport, _) = transport(move |_| {
        let mut response = match began.elapsed() < Duration::from_secs(20) {
            true => response(429, ""),
            false => response(200, TOKEN),
        };
        let wait = http::HeaderValue::from_static("20");
        response.headers_mut().insert("retry-after", wait);
        response
    });
    let fetcher = system(imds(), transport).unwrap();
    fetch(&fetcher).await.unwrap();
    // A wait that exceeds the deadline is the caller's to wait.
    let fetcher = system(imds(), transport_of_429()).unwrap();
    let error = fetch_within(&fetcher, Duration::from_secs(10))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Throttled(_)), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
}

fn transport_of_429() -> Arc<dyn Transport> {
    let (transport, _) = transport(|_| {
        let mut response = response(429, "");
        let wait = http::HeaderValue::from_static("20");
        response.headers_mut().insert("retry-after", wait);
        response
    });
    transport
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_all_attempts() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&attempts);
    let hangs = move |_: Request<Bytes>| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { std::future::pending().await }
    };
    let fetcher = system(imds(), Arc::new(hangs)).unwrap();
    let began = Instant::now();
    let error = fetch(&fetcher).await.unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(75));
    assert_eq!(attempts.load(Ordering::Relaxed), 4);
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("no response from the managed identity endpoint of the instance metadata service (IMDS) (selected because IDENTITY_ENDPOINT, IDENTITY_HEADER, MSI_ENDPOINT and IMDS_ENDPOINT are not set) at http://169.254.169.254/metadata/identity/oauth2/token within 15 s; outside of Azure"),
        "{text}"
    );
    assert!(text.ends_with("(4 attempts)"), "{text}");
    assert_eq!(error.correlation_id(), Some("our-id"));
    let error = fetch_within(&fetcher, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("within 5 s"), "{error}");
}

#[tokio::test]
async fn the_variables_are_read_for_every_request() {
    let reads = Arc::new(AtomicUsize::new(0));
    let environment = HostEnvironment::from_fn(move |name| match name {
        IDENTITY_ENDPOINT => Some(OsString::from("http://127.0.0.1/token")),
        IDENTITY_HEADER => {
            let number = reads.fetch_add(1, Ordering::Relaxed);
            Some(OsString::from(format!("header-{number}")))
        }
        _ => None,
    });
    let (transport, requests) = transport(|_| response(200, TOKEN));
    let fetcher = system(environment, transport).unwrap();
    fetch(&fetcher).await.unwrap();
    fetch(&fetcher).await.unwrap();
    let requests = requests.lock().unwrap();
    let header = |number: usize| requests[number].headers()["x-identity-header"].clone();
    assert_ne!(header(0), header(1));
}

#[tokio::test]
async fn a_wrong_variable_or_id_is_found_before_the_network() {
    let client =
        || ManagedIdentity::user_assigned_client_id("11111111-2222-3333-4444-555555555555");
    for (identity, variables, expected) in [
        (
            ManagedIdentity::user_assigned_client_id("x"),
            vec![],
            "not a GUID",
        ),
        (
            client(),
            vec![(MSI_ENDPOINT, "http://localhost:50342/")],
            "cannot be used in Cloud Shell",
        ),
        (
            client(),
            vec![(MSI_ENDPOINT, "x"), (MSI_SECRET, "y")],
            "the variable MSI_ENDPOINT of Azure Machine Learning: the value is no URL",
        ),
        (
            client(),
            vec![
                (IDENTITY_ENDPOINT, "http://10.0.0.1/"),
                (IMDS_ENDPOINT, "y"),
            ],
            "the variable IDENTITY_ENDPOINT of Azure Arc: \"http://10.0.0.1/\" cannot be used: its host must be this machine",
        ),
    ] {
        let environment = HostEnvironment::from_variables(variables);
        let error = fetcher(identity, environment, None).err().unwrap();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_rejected_token_goes_to_service_fabric_alone() {
    for (environment, expected) in [
        (
            HostEnvironment::from_variables([
                (IDENTITY_ENDPOINT, "https://localhost:2377/token"),
                (IDENTITY_HEADER, "s3cret"),
                (
                    "IDENTITY_SERVER_THUMBPRINT",
                    "00112233445566778899AABBCCDDEEFF00112233",
                ),
            ]),
            true,
        ),
        (imds(), false),
    ] {
        let (transport, requests) = transport(|_| response(200, TOKEN));
        let fetcher = system(environment, transport).unwrap();
        let request = IdentityTokenRequest {
            resource: &Resource::of_scopes(RESOURCE).unwrap(),
            correlation_id: "our-id",
            is_revoked: true,
            rejected_token: Some(TokenHash::of("abc")),
            on_send: &|| (),
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        fetcher.fetch(request, deadline).await.unwrap();
        fetch(&fetcher).await.unwrap();
        let requests = requests.lock().unwrap();
        let [first, second] = [0, 1].map(|number: usize| requests[number].uri().to_string());
        let has_both =
            |uri: &str| uri.contains("xms_cc=cp1") && uri.contains("token_sha256_to_refresh=ba78");
        assert_eq!(has_both(&first), expected, "{first}");
        assert!(
            !second.contains("xms_cc") && !second.contains("sha256"),
            "{second}"
        );
    }
}
