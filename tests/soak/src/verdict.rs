use std::time::Duration;

use crate::fault::{Fault, Variant};
use crate::findings::Findings;
use crate::key::{Key, SHORTEST};
use crate::ledger::EARLIEST_RENEWAL;
use crate::report::{Figures, get, mebibytes};
use crate::{MAX_CONCURRENT_REQUESTS, MAX_ENTRIES};

/// Checks that are possible only at the end.
pub fn judge(figures: &Figures<'_>, findings: &Findings) {
    requests(figures, findings);
    failures(figures, findings);
    memory(figures, findings);
    if figures.ran.length >= TELLING {
        coverage(figures, findings);
    }
}

/// Returns the maximum number of flights: for each key one for each time that a token is due, and
/// one more for each forced refresh, failure and eviction.
pub fn most_flights(figures: &Figures<'_>) -> u64 {
    let due = SHORTEST.mul_f64(EARLIEST_RENEWAL);
    let lives = figures.ran.length.div_duration_f64(due).ceil() as u64 + 1;
    let counts = &figures.counts;
    let failed: u64 = counts.failed.iter().sum();
    Key::COUNT as u64 * lives + counts.licences + failed + figures.stats.evictions
}

fn requests(figures: &Figures<'_>, findings: &Findings) {
    let counts = &figures.counts;
    let most = most_flights(figures);
    findings.expect(counts.flights <= most, "more flights than allowed", || {
        format!("{} of {most}", counts.flights)
    });
    let (known, seen) = (figures.stats.requests, counts.flights);
    findings.expect(known == seen, "flights without a token request", || {
        format!("{seen} of {known} did")
    });
    let landed = counts.tokens + counts.failed.iter().sum::<u64>();
    findings.expect(landed == seen, "flights without an outcome", || {
        format!("{landed} of {seen} did")
    });
    let (early, evictions) = (counts.early, figures.stats.evictions);
    let what = "more early requests than evictions";
    findings.expect(early <= evictions, what, || {
        format!("{early} and {evictions}")
    });
}

/// Checks that callers saw every failure of the provider, and no other.
fn failures(figures: &Figures<'_>, findings: &Findings) {
    let stats = &figures.stats;
    for (variant, told) in [
        (Variant::Transport, stats.transport_errors),
        (Variant::Server, stats.server_errors),
        (Variant::Throttled, stats.throttled_errors),
        (Variant::InvalidResponse, stats.invalid_response_errors),
    ] {
        let made = figures.counts.failed(variant);
        findings.expect(told == made, "failures that do not add up", || {
            format!("{variant:?}: {made} were made and {told} told")
        });
    }
    let none = (stats.config_errors, stats.credential_errors);
    findings.expect(none == (0, 0), "flights that failed of themselves", || {
        format!("{none:?} with Config and Credential")
    });
}

fn memory(figures: &Figures<'_>, findings: &Findings) {
    let bound = Key::all().filter(|key| key.is_bound()).count();
    let entries = figures.entries;
    findings.expect(entries <= MAX_ENTRIES + bound, "too many entries", || {
        entries.to_string()
    });
    // Tasks that drive idle connections.
    let tasks = figures.ran.tasks_left;
    findings.expect(tasks <= 2 * MAX_CONCURRENT_REQUESTS, "leaked tasks", || {
        tasks.to_string()
    });
    let grown = |[from, to]: [u64; 2], percent: u64, more: u64| {
        let is_flat = to <= from + from * percent / 100 + more;
        (!is_flat).then(|| mebibytes([from, to]))
    };
    let [resident, heap] = [
        figures.peaks.map(|sample| sample.resident),
        figures.peaks.map(|sample| sample.heap),
    ];
    if let Some(sizes) = grown(resident, 10, 4 << 20) {
        findings.add("the resident set grows", || sizes);
    }
    if let Some(sizes) = grown(heap, 5, 1 << 20) {
        findings.add("the heap grows", || sizes);
    }
}

/// Checks that every kind of event happened at least once.
fn coverage(figures: &Figures<'_>, findings: &Findings) {
    let tally = &figures.shared.tally;
    let often = [
        ("hit", get(&tally.hits)),
        ("hit in an outage", get(&tally.hits_in_outages)),
        ("token fetched", get(&tally.fetched)),
        ("call given up", get(&tally.cancelled)),
        ("eviction", figures.stats.evictions),
        ("retry", figures.counts.retries),
        ("visit", figures.visits),
        ("rotation", figures.rotations),
    ];
    // During an outage no request presents an unknown certificate, and a retry hides most faults.
    let seldom = [("repeat with another certificate", figures.counts.repeats)];
    let errors = tally
        .errors()
        .map(|(kind, count)| (format!("{kind:?}"), count));
    let seldom = seldom.map(|(what, count)| (what.to_owned(), count));
    let seldom = seldom.into_iter().chain(errors);
    let seldom = seldom.filter(|_| figures.ran.length >= ALL_TELLING);

    let faults = figures
        .faults()
        .filter(|(fault, _)| *fault != Fault::Stalled);
    let faults = faults.map(|(fault, count)| (format!("{fault:?}"), count));
    let often = often.map(|(what, count)| (what.to_owned(), count));
    for (what, count) in often.into_iter().chain(faults).chain(seldom) {
        findings.expect(count > 0, "something did not happen", || what);
    }
}

/// Minimum duration. In a shorter run some events may not happen.
const ALL_TELLING: Duration = Duration::from_secs(175);
const TELLING: Duration = Duration::from_secs(55);
