use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::environment::HostEnvironment;
use super::imds::Imds;
use super::source::{Evidence, Source, SourceKind};
use super::transport::DirectTransports;
use crate::error::Error;
use crate::time::{Deadline, TimeSource};
use crate::transport::Transport;

/// A question to the network whether IMDS exists, for a chain of credentials.
///
/// A client of a managed identity never probes. The answer "available" is remembered for good, and
/// "absent" for a minute.
pub(crate) struct ImdsProbe {
    environment: HostEnvironment,
    transports: DirectTransports,
    clock: TimeSource,
    last: Mutex<Option<(Availability, Deadline)>>,
}

/// The answer of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    /// No IMDS, with the reason.
    Absent(Arc<str>),
}

impl ImdsProbe {
    /// The longest time of a probe.
    pub(crate) const TIME_LIMIT: Duration = ANSWER_LIMIT;

    pub(crate) fn new(
        environment: HostEnvironment,
        transport: Option<Arc<dyn Transport>>,
        clock: TimeSource,
    ) -> Self {
        Self {
            environment,
            transports: DirectTransports::new(transport, Some(CONNECT_LIMIT)),
            clock,
            last: Mutex::new(None),
        }
    }

    /// Returns whether this host has a managed identity endpoint.
    ///
    /// A host with the variables of another source than IMDS, or with the Azure Arc agent, is not
    /// probed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a variable of the host is wrong.
    pub(crate) async fn availability(&self) -> Result<Availability, Error> {
        if SourceKind::of_variables(&self.environment).is_some() {
            return Ok(Availability::Available);
        }
        if let Some(remembered) = self.remembered() {
            return Ok(remembered);
        }
        let environment = self.environment.clone();
        let agent = spawn_blocking(move || environment.has_arc_agent()).await;
        let availability = match agent {
            Ok(true) => Availability::Available,
            Ok(false) | Err(_) => self.ask().await?,
        };
        let until = self.clock.now().plus(ABSENCE);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((availability.clone(), until));
        Ok(availability)
    }

    /// Returns the last answer, unless the answer is an absence of some time ago.
    fn remembered(&self) -> Option<Availability> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (availability, until) = last.as_ref()?;
        let is_valid =
            *availability == Availability::Available || !until.reached(&self.clock.now());
        is_valid.then(|| availability.clone())
    }

    /// Sends the probe: a request without the header that IMDS requires.
    async fn ask(&self) -> Result<Availability, Error> {
        let imds = Imds::read(&self.environment)?;
        let request = imds.probe()?;
        let source = Source::Imds(imds);
        let transport = self.transports.for_source(&source)?;
        let sent = timeout(ANSWER_LIMIT, transport.send(request)).await;
        let reason = match sent {
            Ok(Ok(response)) if is_imds(response.status()) => return Ok(Availability::Available),
            Ok(Ok(response)) => format!(
                "another server than IMDS responded with {}",
                response.status().as_u16()
            ),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no response within 3 s".to_owned(),
        };
        let evidence = Evidence::of(SourceKind::Imds, &self.environment);
        let reason = format!("{evidence} is absent: {reason}");
        Ok(Availability::Absent(reason.into()))
    }
}

/// Returns whether IMDS responds so to a request without the header `Metadata`.
///
/// A busy IMDS has other statuses than 400. The metadata services of other clouds respond 401, 403
/// or 404.
fn is_imds(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 408 | 410 | 429) || status.is_server_error()
}

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
const ABSENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};

    use super::*;
    use crate::managed_identity::environment::{IDENTITY_ENDPOINT, IDENTITY_HEADER};

    type Answer = Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>;

    /// Returns a probe of an in-memory transport, and the number of its requests.
    fn probe(
        environment: HostEnvironment,
        clock: TimeSource,
        respond: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> (ImdsProbe, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        let transport = move |request: Request<Bytes>| {
            assert!(!request.headers().contains_key("metadata"));
            let answer = respond(seen.fetch_add(1, Ordering::Relaxed));
            async move { answer }
        };
        let probe = ImdsProbe::new(environment, Some(Arc::new(transport)), clock);
        (probe, requests)
    }

    fn status(status: u16) -> Answer {
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }

    fn imds() -> HostEnvironment {
        HostEnvironment::from_fn(|_| None)
    }

    #[tokio::test]
    async fn the_status_of_a_request_without_the_header_shows_imds() {
        for (code, is_available) in [
            (400, true),
            (408, true),
            (410, true),
            (429, true),
            (500, true),
            (200, false),
            (302, false),
            (401, false),
            (403, false),
            (404, false),
        ] {
            let (probe, _) = probe(imds(), TimeSource::default(), move |_| status(code));
            match probe.availability().await.unwrap() {
                Availability::Available => assert!(is_available, "{code}"),
                Availability::Absent(reason) => {
                    assert!(!is_available, "{code}");
                    let text = format!("another server than IMDS responded with {code}");
                    assert!(reason.ends_with(&text), "{reason}");
                    assert!(reason.contains("IDENTITY_ENDPOINT"), "{reason}");
                }
            }
        }
        let (probe, _) = probe(imds(), TimeSource::default(), |_| Err("no route".into()));
        let absent = probe.availability().await.unwrap();
        assert!(matches!(&absent, Availability::Absent(reason) if reason.contains("no route")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_absent() {
        let transport = |_: Request<Bytes>| async { std::future::pending().await };
        let probe = ImdsProbe::new(imds(), Some(Arc::new(transport)), TimeSource::default());
        let absent = probe.availability().await.unwrap();
        assert!(matches!(&absent, Availability::Absent(reason) if reason.contains("within 3 s")));
    }

    #[tokio::test]
    async fn the_variables_of_another_source_need_no_probe() {
        let environment = HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, "http://127.0.0.1/"),
            (IDENTITY_HEADER, "s3cret"),
        ]);
        let (app_service, requests) = probe(environment, TimeSource::default(), |_| status(404));
        assert_eq!(
            app_service.availability().await.unwrap(),
            Availability::Available
        );
        assert_eq!(requests.load(Ordering::Relaxed), 0);
        // The program of the Azure Arc agent.
        let agent = std::env::current_exe().unwrap();
        let arc = imds().arc_agent(agent);
        let (arc, requests) = probe(arc, TimeSource::default(), |_| status(404));
        assert_eq!(arc.availability().await.unwrap(), Availability::Available);
        assert_eq!(requests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    #[cfg(feature = "testing")]
    async fn an_absence_is_remembered_for_a_minute_and_a_presence_for_good() {
        let clock = crate::testing::ManualClock::new();
        let source = TimeSource::Injected(Arc::new(clock.clone()));
        let (probe, requests) = probe(imds(), source, |number| match number {
            0 => Err("no route".into()),
            _ => status(400),
        });
        for (advance, is_available, sent) in [
            (0, false, 1),
            (59, false, 1),
            (1, true, 2),
            (86_400, true, 2),
        ] {
            clock.advance(Duration::from_secs(advance));
            let availability = probe.availability().await.unwrap();
            assert_eq!(
                availability == Availability::Available,
                is_available,
                "{advance}"
            );
            assert_eq!(requests.load(Ordering::Relaxed), sent, "{advance}");
        }
    }
}
