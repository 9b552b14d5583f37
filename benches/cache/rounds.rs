//! The best duration of each measurement over many rounds.

use std::time::Duration;

use crate::setup::Result;

pub(crate) struct Rounds {
    calls: u32,
    least: Vec<(&'static str, Duration)>,
}

impl Rounds {
    pub(crate) fn new(calls: u32) -> Self {
        Self {
            calls,
            least: Vec::new(),
        }
    }

    /// Measures one more round of `run`, which receives the number of calls.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        run: impl FnOnce(u32) -> Result<Duration>,
    ) -> Result<()> {
        let elapsed = run(self.calls)?;
        self.record(name, elapsed);
        Ok(())
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Records one more round that the caller measured.
    pub(crate) fn record(&mut self, name: &'static str, elapsed: Duration) {
        match self.least.iter_mut().find(|(known, _)| *known == name) {
            Some((_, least)) => *least = elapsed.min(*least),
            None => self.least.push((name, elapsed)),
        }
    }

    /// Returns the nanoseconds of one call in the best round.
    pub(crate) fn ns(&self, name: &str) -> Result<f64> {
        let row = self.least.iter().find(|(known, _)| *known == name);
        let (_, least) = row.ok_or_else(|| format!("{name} was not measured"))?;
        Ok(least.as_secs_f64() * 1e9 / f64::from(self.calls))
    }
}
