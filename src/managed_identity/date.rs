//! The times in the responses of token endpoints, in every spelling that Azure's hosts use.

#![warn(clippy::arithmetic_side_effects, reason = "parses untrusted input")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::DateTime;
use serde_json::Value;

use crate::response::number;

/// Reads a time: Unix seconds as a number or a string, ISO 8601, or the date of .NET such as
/// `12/20/2026 4:58:20 AM +00:00`.
pub(crate) fn time(value: &Value) -> Option<SystemTime> {
    if let Some(seconds) = number(value) {
        return UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    }
    let text = value.as_str()?.trim();
    of_iso_8601(text).or_else(|| of_dotnet(text))
}

/// Reads `2026-12-20T04:58:20.123Z`, with a space for the `T` and an offset for the `Z`.
fn of_iso_8601(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (year, month, day) = three(date, '-')?;
    let (time, offset) = match rest.find(['Z', 'z', '+', '-', ' ']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let time = time.split('.').next()?;
    let (hour, minute, second) = three(time, ':')?;
    at([year, month, day, hour, minute, second], offset.trim())
}

/// Reads `12/20/2026 4:58:20 AM +00:00` and `12/20/2026 16:58:20 +00:00`.
fn of_dotnet(text: &str) -> Option<SystemTime> {
    let mut words = text.split_ascii_whitespace();
    let (month, day, year) = three(words.next()?, '/')?;
    let (hour, minute, second) = three(words.next()?, ':')?;
    let mut offset = words.next();
    let half = offset.and_then(half_of_day);
    let hour = match half {
        // 12 AM is midnight.
        Some(Half::Morning) if hour == 12 => 0,
        Some(Half::Afternoon) if hour < 12 => hour.checked_add(12)?,
        _ => hour,
    };
    if half.is_some() {
        offset = words.next();
    }
    let nothing_left = words.next().is_none();
    let numbers = [year, month, day, hour, minute, second];
    nothing_left.then(|| at(numbers, offset.unwrap_or_default()))?
}

#[derive(Clone, Copy)]
enum Half {
    Morning,
    Afternoon,
}

fn half_of_day(word: &str) -> Option<Half> {
    match word.to_ascii_uppercase().as_str() {
        "AM" => Some(Half::Morning),
        "PM" => Some(Half::Afternoon),
        _ => None,
    }
}

fn three(text: &str, separator: char) -> Option<(u16, u16, u16)> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(three)
}

/// Returns the time with these numbers, which is `offset` from UTC. An empty offset is UTC.
fn at(numbers: [u16; 6], offset: &str) -> Option<SystemTime> {
    let [year, rest @ ..] = numbers;
    let [month, day, hour, minute, second] = rest.map(|number| u8::try_from(number).ok());
    let date = DateTime::new(year, month?, day?, hour?, minute?, second?).ok()?;
    let time = date.to_system_time();
    let (sign, offset) = match offset {
        "" | "Z" | "z" | "UTC" | "GMT" => return Some(time),
        _ => offset.split_at_checked(1)?,
    };
    let (hours, minutes) = offset
        .split_once(':')
        .or_else(|| offset.split_at_checked(2))?;
    let hours: u64 = hours.parse().ok().filter(|hours| *hours < 24)?;
    let minutes: u64 = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds = hours
        .checked_mul(60)?
        .checked_add(minutes)?
        .checked_mul(60)?;
    let distance = Duration::from_secs(seconds);
    match sign {
        "+" => time.checked_sub(distance),
        "-" => time.checked_add(distance),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_read_in_every_spelling() {
        // 2026-12-20T04:58:20Z
        const SECONDS: u64 = 1_797_742_700;
        for value in [
            json!(SECONDS),
            json!(1_797_742_700.9),
            json!("1797742700"),
            json!(" 1797742700 "),
            json!("1797742700.5"),
            json!("2026-12-20T04:58:20Z"),
            json!("2026-12-20T04:58:20.1234567Z"),
            json!("2026-12-20T04:58:20+00:00"),
            json!("2026-12-20T05:58:20+01:00"),
            json!("2026-12-20T05:58:20+0100"),
            json!("2026-12-19T23:28:20-05:30"),
            json!("2026-12-20 04:58:20Z"),
            json!("2026-12-20 04:58:20 +00:00"),
            json!("2026-12-20T04:58:20"),
            json!("12/20/2026 4:58:20 AM +00:00"),
            json!("12/20/2026 04:58:20 +00:00"),
            json!("12/20/2026 4:58:20 am +00:00"),
            json!("12/19/2026 11:58:20 PM -05:00"),
            json!("12/20/2026 04:58:20"),
            json!("12/20/2026 4:58:20 AM"),
        ] {
            let expected = UNIX_EPOCH + Duration::from_secs(SECONDS);
            assert_eq!(time(&value), Some(expected), "{value}");
        }
        let midnight = UNIX_EPOCH + Duration::from_secs(1_797_724_800);
        for (text, after) in [
            ("12/20/2026 12:00:00 AM +00:00", 0),
            ("12/20/2026 12:00:00 PM +00:00", 12),
            ("12/20/2026 00:00:00 PM +00:00", 12),
            ("12/20/2026 13:00:00 PM +00:00", 13),
        ] {
            let expected = midnight + Duration::from_secs(after * 3600);
            assert_eq!(time(&json!(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_time() {
        for value in [
            json!(null),
            json!(true),
            json!([1_797_742_700]),
            json!(""),
            json!("soon"),
            json!("tomorrow 04:58:20"),
            json!("20/12/2026 04:58:20 +00:00"),
            json!("2026-13-20T04:58:20Z"),
            json!("2026-02-30T04:58:20Z"),
            json!("2026-12-20T24:58:20Z"),
            json!("2026-12-20"),
            json!("2026-12-20T04:58Z"),
            json!("2026-12-20T04:58:20 somewhere"),
            json!("12/20/2026 4:58:20 AM +00:00 or later"),
            json!("12/20/2026 4:58:20 AM +99:00"),
            json!("1/2/3/4 4:58:20"),
            json!("12/20/2026 4:58:20 \u{e9}"),
        ] {
            assert_eq!(time(&value), None, "{value}");
        }
    }
}
