use std::sync::Mutex as StdMutex;
use std::time::Duration;

use super::*;
use crate::error::{ErrorResponse, ServerError};
use crate::secret::Secret;
use crate::time::TimeSource;

/// The behaviour of a link for one request.
#[derive(Clone, Copy)]
enum Play {
    Token,
    Unavailable(&'static str),
    Failed(fn() -> Error),
    Hang,
}

/// A link that plays a list, and its last element for ever.
struct Scripted {
    name: &'static str,
    plays: Vec<Play>,
    requests: StdMutex<usize>,
}

impl Scripted {
    fn new(name: &'static str, plays: &[Play]) -> Arc<Self> {
        Arc::new(Self {
            name,
            plays: plays.to_vec(),
            requests: StdMutex::new(0),
        })
    }

    fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }

    async fn play(&self) -> Result<LinkToken, LinkFailure> {
        let number = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests - 1
        };
        // Other requests arrive while this one is in flight.
        tokio::task::yield_now().await;
        match self.plays[number.min(self.plays.len() - 1)] {
            Play::Token => Ok(IdentityToken {
                secret: Secret::from(self.name),
                expires_in: Duration::from_secs(3600),
                refresh_in: None,
                requested_at: TimeSource::default().now(),
            }
            .into()),
            Play::Unavailable(reason) => Err(LinkFailure::Unavailable(reason.to_owned())),
            Play::Failed(error) => Err(error().into()),
            Play::Hang => std::future::pending().await,
        }
    }
}

impl Link for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn fetch<'a>(&'a self, _: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(self.play())
    }
}

fn chain(links: &[Arc<Scripted>]) -> Chain {
    let links = links.iter().map(|link| Arc::clone(link) as Arc<dyn Link>);
    Chain::new(links.collect()).unwrap()
}

fn request() -> LinkRequest<'static> {
    LinkRequest {
        scopes: "https://vault.azure.net/.default",
        tenant: None,
        claims: None,
        rejected_token: None,
        correlation_id: "our-id",
        deadline: Instant::now() + Duration::from_secs(30),
        spare: Duration::ZERO,
        on_send: &|| (),
    }
}

fn rejected() -> Error {
    let status = http::StatusCode::UNAUTHORIZED;
    let response = ErrorResponse::new(status, "invalid_client".to_owned());
    let server = ServerError::from(response);
    Error::Server(server.with_help("renew the secret".to_owned()))
}

fn no_response() -> Error {
    Error::Transport(Failure::new("no response").into())
}

#[tokio::test]
async fn the_first_available_link_wins_and_a_failure_ends_the_chain() {
    use Play::{Failed, Token, Unavailable};
    let config: fn() -> Error = || Error::config("the id is wrong");
    for (name, first, second, expected, requests) in [
        ("the first", Token, Token, Ok("one"), [1, 0]),
        (
            "passed over",
            Unavailable("unset"),
            Token,
            Ok("two"),
            [1, 1],
        ),
        (
            "rejected",
            Failed(rejected),
            Token,
            Err("(help: renew the secret; the credential chain ended at one)"),
            [1, 0],
        ),
        (
            "an outage selects no other identity",
            Failed(no_response),
            Token,
            Err("no response (the credential chain ended at one)"),
            [1, 0],
        ),
        (
            "with the words of the links before",
            Unavailable("unset"),
            Failed(config),
            Err("the id is wrong (the credential chain ended at two, after one: unset)"),
            [1, 1],
        ),
        (
            "none",
            Unavailable("unset"),
            Unavailable("not installed"),
            Err("no credential of the chain is available; one: unset; two: not installed"),
            [1, 1],
        ),
    ] {
        let links = [
            Scripted::new("one", &[first]),
            Scripted::new("two", &[second]),
        ];
        let chain = chain(&links);
        let result = chain.fetch(&request()).await;
        match (result, expected) {
            (Ok(token), Ok(winner)) => {
                assert_eq!(token.secret(), winner, "{name}");
                assert_eq!(chain.winner(), Some(winner), "{name}");
            }
            (Err(error), Err(text)) => {
                assert!(error.to_string().ends_with(text), "{name}: {error}");
                assert_eq!(chain.winner(), None, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        let sent = links.each_ref().map(|link| link.requests());
        assert_eq!(sent, requests, "{name}");
    }
}

#[tokio::test]
async fn a_chain_without_an_available_link_is_looked_through_again() {
    let links = [
        Scripted::new("one", &[Play::Unavailable("unset")]),
        Scripted::new("two", &[Play::Unavailable("no login"), Play::Token]),
    ];
    let chain = chain(&links);
    let error = chain.fetch(&request()).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert_eq!(error.correlation_id(), Some("our-id"));
    let token = chain.fetch(&request()).await.unwrap();
    assert_eq!(token.secret(), "two");
}

#[tokio::test]
async fn the_winner_is_kept_when_it_fails_and_when_others_become_available() {
    let links = [
        Scripted::new("one", &[Play::Unavailable("unset"), Play::Token]),
        Scripted::new(
            "two",
            &[
                Play::Token,
                Play::Failed(no_response),
                Play::Unavailable("logged out"),
                Play::Token,
            ],
        ),
    ];
    let chain = chain(&links);
    chain.fetch(&request()).await.unwrap();
    let error = chain.fetch(&request()).await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let error = chain.fetch(&request()).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let text = "two, which the credential chain selected, is not available any more: logged out";
    assert_eq!(error.to_string(), text);
    chain.fetch(&request()).await.unwrap();
    assert_eq!(links.each_ref().map(|link| link.requests()), [1, 4]);
}

#[tokio::test]
async fn requests_at_the_same_time_select_one_link() {
    let links = [
        // A second look at the first link would find it available.
        Scripted::new("one", &[Play::Unavailable("unset"), Play::Token]),
        Scripted::new("two", &[Play::Token]),
    ];
    let chain = chain(&links);
    let (first, second) = (request(), request());
    let (first, second) = tokio::join!(chain.fetch(&first), chain.fetch(&second));
    assert_eq!(first.unwrap().secret(), "two");
    assert_eq!(second.unwrap().secret(), "two");
    assert_eq!(links.each_ref().map(|link| link.requests()), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_hangs_ends_the_request_at_its_deadline() {
    let links = [Scripted::new("one", &[Play::Hang, Play::Token])];
    let chain = chain(&links);
    let began = Instant::now();
    let error = chain.fetch(&request()).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert!(error.to_string().contains("credential chain"), "{error}");
    // The lock of the selection is free again.
    chain.fetch(&request()).await.unwrap();
}

#[test]
fn the_time_of_a_chain_is_the_sum_of_its_links() {
    let links = ["one", "two", "three"].map(|name| Scripted::new(name, &[Play::Token]));
    assert_eq!(chain(&links).time_limit(), TIME_LIMIT * 3);
}

#[test]
fn a_chain_needs_a_link() {
    let error = Chain::new(Vec::new()).err().unwrap();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
}
