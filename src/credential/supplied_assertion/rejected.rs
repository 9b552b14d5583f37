use std::time::{Duration, SystemTime};

use super::json_object;
use crate::error::{Error, ServerError};
use crate::jwt::time_claim;
use crate::time::format_time;

/// Adds advice about the times of a rejected assertion that a file or the caller's code supplied.
///
/// `date` is the time of the response by the provider's clock, and `now` by this machine's clock.
/// This machine's clock is not suspected if both agree.
pub(in crate::credential) fn explain(
    server: &ServerError,
    assertion: &str,
    source: &str,
    date: Option<SystemTime>,
    now: SystemTime,
) -> Option<Error> {
    let codes = server.error_codes();
    let is_about_time = codes.contains(&OUTSIDE_ITS_TIME);
    let may_be_about_time = codes.is_empty() && server.error() == "invalid_client";
    if !(is_about_time || may_be_about_time) {
        return None;
    }
    let claims = assertion.split('.').nth(1).and_then(json_object)?;
    let time = |name| time_claim(&claims, name).ok().flatten();
    let (not_before, expires) = (time("nbf"), time("exp"));
    let clock = clock(date, now);
    let at = date.unwrap_or(now);
    let help = match (not_before, expires) {
        (_, Some(expires)) if expires <= at => format!(
            "the assertion expired on {} ({source}), which is {} before this response; supply a new assertion, and check that its platform replaces it in time{}",
            format_time(expires),
            rough(at.duration_since(expires).unwrap_or_default()),
            clock.remark(),
        ),
        (Some(not_before), _) if not_before > at => format!(
            "the assertion is not valid before {} ({source}), which is {} after this response; check the clock of the platform that issued it{}",
            format_time(not_before),
            rough(not_before.duration_since(at).unwrap_or_default()),
            clock.remark(),
        ),
        // The assertion is valid by the provider's clock, or by this machine's if there is no other.
        _ if is_about_time && clock == ThisClock::IsRight => {
            let end = expires.map_or("has no 'exp'".to_owned(), |expires| {
                format!("expires on {}", format_time(expires))
            });
            format!(
                "the identity provider takes the assertion to be outside its time range ({source}), though the assertion {end} and this machine's clock is right; check the times in the assertion"
            )
        }
        _ => return None,
    };
    Some(Error::Server(server.with_help(help)))
}

/// The correctness of this machine's clock, by the response's `Date` header.
#[derive(Clone, Copy, PartialEq)]
enum ThisClock {
    IsRight,
    IsWrong,
    Unknown,
}

impl ThisClock {
    fn remark(self) -> &'static str {
        match self {
            Self::IsRight => " (this machine's clock agrees with the identity provider's)",
            Self::IsWrong | Self::Unknown => "",
        }
    }
}

fn clock(date: Option<SystemTime>, now: SystemTime) -> ThisClock {
    let Some(date) = date else {
        return ThisClock::Unknown;
    };
    let difference = match now.duration_since(date) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    };
    match difference < SUSPICIOUS {
        true => ThisClock::IsRight,
        false => ThisClock::IsWrong,
    }
}

/// Formats a duration in its largest unit.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Entra's code for an assertion outside its time range.
pub(super) const OUTSIDE_ITS_TIME: u64 = 700024;
/// The response may have taken a while.
const SUSPICIOUS: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use http::StatusCode;

    use super::*;
    use crate::error::ErrorResponse;

    fn help(codes: &[u64], claims: &str, date: Option<i64>) -> Option<String> {
        let seconds = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap())
        };
        let mut response =
            ErrorResponse::new(StatusCode::UNAUTHORIZED, "invalid_client".to_owned());
        response.error_codes = codes.to_vec();
        let jwt = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let now = seconds(NOW);
        let date = date.map(|ahead| seconds(NOW + ahead));
        let error = explain(&response.into(), &jwt, "federated token file /t", date, now)?;
        Some(error.server_error().unwrap().help().unwrap().to_owned())
    }

    /// 2026-11-21T03:00:00Z.
    const NOW: i64 = 1_795_230_000;

    #[test]
    fn an_expired_assertion_does_not_blame_a_right_clock() {
        let expired = format!(r#"{{"exp":{}}}"#, NOW - 3 * 3600);
        for (codes, date, remark) in [
            (&[700024][..], Some(2), "this machine's clock agrees"),
            (&[], Some(-59), "this machine's clock agrees"),
            (&[700024], None, "replaces it in time"),
            (&[700024], Some(3600), "replaces it in time"),
        ] {
            let help = help(codes, &expired, date).unwrap();
            assert!(help.contains("expired on 2026-11-21T00:00:00Z"), "{help}");
            assert!(help.contains("(federated token file /t)"), "{help}");
            assert!(help.contains(remark), "{help}");
            let is_blamed = help.contains("check this machine's clock");
            assert!(!is_blamed, "{help}");
            let agrees = help.contains("agrees");
            assert_eq!(agrees, date.is_some_and(|date| date < 60), "{help}");
        }
    }

    /// By the provider's clock, which is not this machine's, the assertion is valid.
    #[test]
    fn a_wrong_clock_is_not_acquitted() {
        let by_this_clock_expired = format!(r#"{{"exp":{}}}"#, NOW - 60);
        assert_eq!(help(&[700024], &by_this_clock_expired, Some(-3600)), None);
        let valid = format!(r#"{{"exp":{}}}"#, NOW + 7200);
        assert_eq!(help(&[700024], &valid, Some(3600)), None);
        assert_eq!(help(&[700024], &valid, None), None);
        let text = help(&[700024], &valid, Some(0)).unwrap();
        assert!(text.contains("this machine's clock is right"), "{text}");
        assert!(text.contains("expires on 2026-11-21T05:00:00Z"), "{text}");
    }

    #[test]
    fn an_assertion_of_the_future_blames_its_issuers_clock() {
        let future = format!(r#"{{"nbf":{}.5,"exp":{}}}"#, NOW + 900, NOW + 7200);
        let help = help(&[700024], &future, Some(0)).unwrap();
        assert!(
            help.contains("not valid before 2026-11-21T03:15:00"),
            "{help}"
        );
        assert!(help.contains("15 min after"), "{help}");
        assert!(help.contains("the platform that issued it"), "{help}");
    }

    #[test]
    fn other_rejections_keep_their_help() {
        let expired = format!(r#"{{"exp":{}}}"#, NOW - 3600);
        assert_eq!(help(&[700213], &expired, Some(0)), None);
        for claims in ["", "[]", r#"{"exp":"x"}"#, r#"{"exp":1e300}"#, "{}"] {
            assert_eq!(help(&[], claims, Some(0)), None, "{claims}");
        }
    }
}
