//! This machine's clock, compared with the server's.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;

use crate::error::ClockCheck;

/// Compares this machine's clock with the `Date` header ([RFC 9110 section 6.6.1]).
///
/// `sent` and `received` are this machine's times of the request and of the response. A response
/// that took long is no difference.
///
/// [RFC 9110 section 6.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
pub(super) fn check_clock(
    headers: &HeaderMap,
    sent: SystemTime,
    received: SystemTime,
) -> ClockCheck {
    let Some(server) = date(headers) else {
        return ClockCheck::Unknown;
    };
    let exceeds = |later: SystemTime, earlier: SystemTime| {
        let difference = later.duration_since(earlier).ok()?;
        (difference > TOLERANCE).then_some(difference)
    };
    match (exceeds(sent, server), exceeds(server, received.max(sent))) {
        (Some(ahead), _) => ClockCheck::Ahead(ahead),
        (_, Some(behind)) => ClockCheck::Behind(behind),
        (None, None) => ClockCheck::Agrees,
    }
}

/// Returns the provider's time, from the `Date` header.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// The largest difference that is none: `Date` has whole seconds, and a proxy may add a second.
const TOLERANCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_header_gives_the_difference_of_the_clocks() {
        let at = |date: &str| httpdate::parse_http_date(date).unwrap();
        let sent = at("Sat, 21 Nov 2026 03:00:00 GMT");
        let check = |date: &str, seconds| {
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            check_clock(&headers, sent, sent + Duration::from_secs(seconds))
        };
        for (date, took, expected) in [
            (
                "Sat, 21 Nov 2026 03:15:00 GMT",
                0,
                ClockCheck::Behind(Duration::from_secs(900)),
            ),
            (
                "Sat, 21 Nov 2026 02:59:00 GMT",
                0,
                ClockCheck::Ahead(Duration::from_secs(60)),
            ),
            (
                "Sat, 21 Nov 2026 03:00:06 GMT",
                0,
                ClockCheck::Behind(Duration::from_secs(6)),
            ),
            (
                "Sat, 21 Nov 2026 02:59:54 GMT",
                20,
                ClockCheck::Ahead(Duration::from_secs(6)),
            ),
            ("Sat, 21 Nov 2026 03:00:05 GMT", 0, ClockCheck::Agrees),
            ("Sat, 21 Nov 2026 02:59:55 GMT", 0, ClockCheck::Agrees),
            ("Sat, 21 Nov 2026 03:00:20 GMT", 20, ClockCheck::Agrees),
            ("yesterday", 0, ClockCheck::Unknown),
        ] {
            assert_eq!(check(date, took), expected, "{date}");
        }
    }
}
