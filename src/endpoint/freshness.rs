use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

use super::cached_lookup::{A_DAY, AFTER_A_FAILURE};

/// Returns the time for which a discovered document may be cached, from `Cache-Control` and `Age`
/// ([RFC 9111 section 4.2]).
///
/// The time is at least 5 minutes, because a lookup for each token would be an attack on the
/// provider. The time is at most 24 hours, because a withdrawn key must not verify for longer.
///
/// | `Cache-Control` | time |
/// |---|---|
/// | none, or without a directive below | 24 hours |
/// | `max-age` | the seconds less `Age`, from 5 minutes to 24 hours |
/// | `no-store`, or `no-cache` without field names | 5 minutes |
/// | a `max-age` that is no number | 5 minutes, because such a response counts as stale |
///
/// `s-maxage` is for shared caches and is ignored, and so is `Expires`.
///
/// [RFC 9111 section 4.2]: https://www.rfc-editor.org/rfc/rfc9111#section-4.2
pub(super) fn time_to_live(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).iter();
    // One header that is not ASCII makes the time unknown, and therefore short.
    let stated = values.map(|value| value.to_str().map_or(Some(SHORTEST), stated_time));
    // Of several times, the shortest one is safe.
    let Some(stated) = stated.flatten().min() else {
        return LONGEST;
    };
    stated.saturating_sub(age(headers)).clamp(SHORTEST, LONGEST)
}

/// Returns the shortest time in a list of directives, or `None` if no directive has a time.
fn stated_time(directives: &str) -> Option<Duration> {
    let times = split_list(directives).filter_map(|directive| {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (directive.trim(), None),
        };
        match name.to_ascii_lowercase().as_str() {
            "no-store" => Some(Duration::ZERO),
            // With field names, the directive is about these fields alone.
            "no-cache" => value.is_none().then_some(Duration::ZERO),
            "max-age" => Some(value.and_then(seconds).unwrap_or_default()),
            _ => None,
        }
    });
    times.min()
}

/// Splits a list at the commas outside of quotes ([RFC 9110 section 5.6.1]).
///
/// [RFC 9110 section 5.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1
fn split_list(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    list.split(move |c: char| {
        let ends = c == ',' && !is_quoted;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && is_quoted && !is_escaped;
        ends
    })
}

fn age(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok());
    age.and_then(seconds).unwrap_or_default()
}

/// Reads a number of seconds, which may be quoted ([RFC 9111 section 5.2]).
///
/// [RFC 9111 section 5.2]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a u64 holds mean a long time.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

const SHORTEST: Duration = AFTER_A_FAILURE;
const LONGEST: Duration = A_DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawn_key_is_not_cached_for_longer_than_the_provider_says() {
        let (minute, hour) = (60, 3_600);
        for (name, headers, expected) in [
            ("nothing said", vec![], 24 * hour),
            (
                "no directive with a time",
                vec![("cache-control", "private, must-revalidate")],
                24 * hour,
            ),
            ("an hour", vec![("cache-control", "max-age=3600")], hour),
            (
                "among others",
                vec![("cache-control", "public, Max-Age = 3600 , no-transform")],
                hour,
            ),
            ("quoted", vec![("cache-control", "max-age=\"3600\"")], hour),
            (
                "a day and a half",
                vec![("cache-control", "max-age=129600")],
                24 * hour,
            ),
            (
                "more than a clock holds",
                vec![("cache-control", "max-age=99999999999999999999999")],
                24 * hour,
            ),
            (
                "seconds",
                vec![("cache-control", "max-age=15, stale-if-error=86400")],
                5 * minute,
            ),
            ("zero", vec![("cache-control", "max-age=0")], 5 * minute),
            ("no-store", vec![("cache-control", "no-store")], 5 * minute),
            (
                "no-cache beside a time",
                vec![("cache-control", "max-age=3600, no-cache")],
                5 * minute,
            ),
            (
                "no-cache of one field",
                vec![(
                    "cache-control",
                    "max-age=3600, no-cache=\"Set-Cookie, max-age=1\"",
                )],
                hour,
            ),
            (
                "a time within quotes",
                vec![(
                    "cache-control",
                    "private=\"a\\\", max-age=1, \", max-age=3600",
                )],
                hour,
            ),
            (
                "no number",
                vec![("cache-control", "max-age=soon")],
                5 * minute,
            ),
            (
                "negative",
                vec![("cache-control", "max-age=-1")],
                5 * minute,
            ),
            (
                "without a value",
                vec![("cache-control", "max-age")],
                5 * minute,
            ),
            (
                "not ASCII",
                vec![("cache-control", "max-age=3600, \u{fc}")],
                5 * minute,
            ),
            (
                "two times",
                vec![("cache-control", "max-age=7200, max-age=3600")],
                hour,
            ),
            (
                "two headers",
                vec![
                    ("cache-control", "public"),
                    ("cache-control", "max-age=3600"),
                ],
                hour,
            ),
            (
                "of a shared cache",
                vec![("cache-control", "s-maxage=60, max-age=3600")],
                hour,
            ),
            (
                "of a shared cache alone",
                vec![("cache-control", "s-maxage=60")],
                24 * hour,
            ),
            ("Expires alone", vec![("expires", "0")], 24 * hour),
            (
                "an age",
                vec![("cache-control", "max-age=7200"), ("age", "3600")],
                hour,
            ),
            (
                "older than its time",
                vec![("cache-control", "max-age=3600"), ("age", "7200")],
                5 * minute,
            ),
            (
                "an age that is no number",
                vec![("cache-control", "max-age=3600"), ("age", "old")],
                hour,
            ),
            ("an age without a time", vec![("age", "7200")], 24 * hour),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(
                    name,
                    http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            assert_eq!(time_to_live(&map).as_secs(), expected, "{name}");
        }
    }
}
