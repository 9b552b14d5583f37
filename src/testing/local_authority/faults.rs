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
        lock(&self.provider.traffic).outage = Some(fault);
    }

    /// Ends the outage.
    pub fn end_outage(&self) {
        lock(&self.provider.traffic).outage = None;
    }
}
