use std::time::Duration;

use super::LocalAuthority;
use crate::testing::fault::Fault;
use crate::testing::provider::lock;
use crate::testing::recorded_request::RecordedRequest;

/// Received requests and faults.
impl LocalAuthority {
    /// Returns all received token requests in order, including requests with a fault.
    pub fn token_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.provider.traffic).requests.clone()
    }

    /// Returns all received pushed authorization requests in order ([RFC 9126]).
    ///
    /// Faults apply to token requests alone.
    ///
    /// [RFC 9126]: https://www.rfc-editor.org/rfc/rfc9126
    pub fn pushed_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.provider.traffic).pushed.clone()
    }

    /// Returns all received introspection requests in order ([RFC 7662]).
    ///
    /// Faults apply to token requests alone.
    ///
    /// [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662
    pub fn introspection_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.provider.traffic).introspected.clone()
    }

    /// Adds faults for the next token requests, one fault for each request.
    ///
    /// The faults follow earlier scripted faults.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.provider.traffic).script.extend(faults);
    }

    /// Applies a fault to every token request until [`end_outage`](Self::end_outage).
    ///
    /// [Scripted](Self::script) faults come first.
    pub fn begin_outage(&self, fault: Fault) {
        lock(&self.provider.traffic).begin_outage(fault);
    }

    /// Applies a fault to every token request until the clock of the authority is ahead by
    /// `duration`.
    ///
    /// [`end_outage`](Self::end_outage) ends the outage earlier. The clock is the
    /// [`clock`](super::LocalAuthorityBuilder::clock) of the builder, and the operating system's
    /// without one. The time limits and retries of a client follow tokio's timers.
    pub fn begin_outage_for(&self, fault: Fault, duration: Duration) {
        let now = self.provider.clocks();
        lock(&self.provider.traffic).begin_outage_for(fault, duration, now);
    }

    /// Ends the outage.
    pub fn end_outage(&self) {
        lock(&self.provider.traffic).end_outage();
    }
}
