//! Measures in turns, and keeps the best of each.

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

    /// Measures once more what `run` takes for that many calls.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        run: impl FnOnce(u32) -> Result<Duration>,
    ) -> Result<()> {
        let took = run(self.calls)?;
        self.record(name, took);
        Ok(())
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// The same where the caller measured.
    pub(crate) fn record(&mut self, name: &'static str, took: Duration) {
        match self.least.iter_mut().find(|(known, _)| *known == name) {
            Some((_, least)) => *least = took.min(*least),
            None => self.least.push((name, took)),
        }
    }

    /// What a call took in the best round.
    pub(crate) fn ns(&self, name: &str) -> Result<f64> {
        let row = self.least.iter().find(|(known, _)| *known == name);
        let (_, least) = row.ok_or_else(|| format!("{name} was not measured"))?;
        Ok(least.as_secs_f64() * 1e9 / f64::from(self.calls))
    }
}
