use proptest::prelude::*;

use super::*;
use crate::error::Failure;
use crate::time::TimeSource;
use crate::token::Stage;

const HOUR: u64 = 60 * 60 * 1000;

fn token(expires_in_ms: u64, refresh_in_ms: u64) -> StoredToken {
    StoredToken {
        access_token: "token-1".to_owned(),
        issued_for_ms: HOUR,
        expires_in_ms,
        refresh_in_ms,
        scopes: "s".to_owned(),
        correlation_id: "c".to_owned(),
        claims: None,
        family: None,
        issued_token_type: None,
        is_not_applicable: false,
        additional_parameters: None,
    }
}

fn failure(wait_ms: u64) -> StoredFailure {
    let error = Error::Throttled(Failure::new("wait").into());
    let failure = SharedFailure::of(&error).unwrap();
    StoredFailure::new(failure, Duration::from_millis(wait_ms), 1)
}

fn rejected(text: &str, age_ms: u64) -> RejectedToken {
    RejectedToken {
        hash: TokenHash::of(text),
        age_ms,
    }
}

fn record(expires_in_ms: u64, wait_ms: u64, age_ms: u64) -> TokenRecord {
    TokenRecord {
        lifetime_ms: HOUR,
        token: Some(token(expires_in_ms, 50_000)),
        failure: Some(failure(wait_ms)),
        rejected: vec![rejected("token-0", age_ms)],
    }
}

/// The times of a record: the token's, the wait, and the ages of the rejected tokens.
fn times(record: &TokenRecord) -> (Option<(u64, u64)>, u64, Vec<u64>) {
    let token = record.token.as_ref();
    (
        token.map(|token| (token.expires_in_ms, token.refresh_in_ms)),
        record.failure.as_ref().unwrap().wait_ms,
        record.rejected.iter().map(|it| it.age_ms).collect(),
    )
}

#[test]
fn the_times_of_a_record_move_by_its_age() {
    for (age, expected) in [
        (0, (Some((60_000, 50_000)), 7_000, vec![1_000])),
        (5_000, (Some((55_000, 45_000)), 2_000, vec![6_000])),
        // The refresh is due, and the wait is over.
        (50_000, (Some((10_000, 0)), 0, vec![51_000])),
        (59_999, (Some((1, 0)), 0, vec![60_999])),
        (60_000, (None, 0, vec![61_000])),
        (298_999, (None, 0, vec![299_999])),
        (299_000, (None, 0, vec![])),
        (u64::MAX, (None, 0, vec![])),
    ] {
        let aged = record(60_000, 7_000, 1_000).aged(Duration::from_millis(age));
        assert_eq!(times(&aged), expected, "{age}");
        assert_eq!(aged.failure.unwrap().is_over(), expected.1 == 0, "{age}");
    }
}

#[test]
fn the_age_of_a_record_follows_from_the_time_that_the_store_keeps_it() {
    let record = record(60_000, 0, 0);
    for (remaining, age) in [
        (HOUR, 0),
        (HOUR - 1, 1),
        (0, HOUR),
        // The store says more than the record was stored for.
        (HOUR + 1, 0),
        (u64::MAX, 0),
    ] {
        let found = record.age(Duration::from_millis(remaining));
        assert_eq!(found, Duration::from_millis(age), "{remaining}");
    }
}

#[test]
fn a_record_is_kept_as_long_as_its_longest_part_is_of_use() {
    let empty = TokenRecord::default;
    for (name, record, expected) in [
        ("nothing", empty(), 1),
        ("the token", record(HOUR, 7_000, 0), HOUR),
        ("twice the wait", record(1, HOUR, 0), 2 * HOUR),
        ("the rejection", record(1, 1, 10_000), 290_000),
        ("an old rejection", record(5, 1, u64::MAX), 5),
        ("an endless wait", record(1, u64::MAX, 0), u64::MAX),
    ] {
        let (json, lifetime) = record.encode();
        assert_eq!(lifetime, Duration::from_millis(expected), "{name}");
        let read: TokenRecord = decode(&json).unwrap();
        assert_eq!(read.lifetime_ms, expected, "{name}");
    }
}

#[test]
fn a_record_names_the_last_rejected_tokens() {
    let mut record = record(HOUR, 0, 299_000);
    assert!(!record.has_rejected_token());
    for number in 1..=6 {
        record.reject(TokenHash::of(&format!("token-{number}")));
    }
    record.reject(TokenHash::of("token-4"));
    let hashes: Vec<_> = record.rejected.iter().map(|it| it.hash).collect();
    let expected = ["token-4", "token-6", "token-5", "token-3"].map(TokenHash::of);
    assert_eq!(hashes, expected);
    assert!(!record.has_rejected_token());
    record.reject(TokenHash::of("token-1"));
    assert!(record.has_rejected_token());
}

#[test]
fn a_rejection_is_recent_for_thirty_seconds() {
    for (age, expected) in [(0, true), (29_999, true), (30_000, false)] {
        assert_eq!(record(1, 0, age).has_recent_rejection(), expected, "{age}");
    }
    assert!(!TokenRecord::default().has_recent_rejection());
}

/// A fleet must not read the store all at once, and a token that is due stays due.
#[test]
fn the_refresh_in_another_process_is_a_little_later() {
    let now = TimeSource::System.now();
    let minute = 60_000;
    for (refresh_in, issued_for, jitter, expected) in [
        (10 * minute, HOUR, 0.0, 10 * minute),
        (10 * minute, HOUR, 0.5, 10 * minute + 30_000),
        (10 * minute, HOUR, 1.0, 11 * minute),
        (10 * minute, HOUR, 7.0, 11 * minute),
        (10 * minute, 10 * minute, 1.0, 10 * minute + 30_000),
        (0, HOUR, 1.0, 0),
    ] {
        let mut token = token(HOUR, refresh_in);
        token.issued_for_ms = issued_for;
        let lifetime = token.lifetime(jitter, now);
        let found = lifetime.refresh_in(&now);
        assert_eq!(
            found,
            Duration::from_millis(expected),
            "{refresh_in} {jitter}"
        );
        assert_eq!(lifetime.expires_in(&now), Duration::from_millis(HOUR));
    }
    assert_eq!(token(HOUR, 0).lifetime(1.0, now).stage(&now), Stage::Due);
    assert_eq!(token(0, 0).lifetime(1.0, now).stage(&now), Stage::Expired);
}

/// A later release may add members, and leave optional ones out.
#[test]
fn unknown_members_are_ignored_and_missing_ones_are_absent() {
    let token = r#""access_token":"a","issued_for_ms":1,"expires_in_ms":1,"refresh_in_ms":1,
        "scopes":"s","correlation_id":"c""#;
    for (json, has_token) in [
        (r#"{"lifetime_ms":1}"#.to_owned(), Some(false)),
        (
            r#"{"lifetime_ms":1,"new":{"a":[1]}}"#.to_owned(),
            Some(false),
        ),
        (
            format!(r#"{{"lifetime_ms":1,"token":{{{token},"new":1}}}}"#),
            Some(true),
        ),
        // Nothing is guessed.
        ("{}".to_owned(), None),
        (r#"{"lifetime_ms":1,"token":{}}"#.to_owned(), None),
        (r#"{"lifetime_ms":-1}"#.to_owned(), None),
        (r#"{"lifetime_ms":1.5}"#.to_owned(), None),
        (r#"{"lifetime_ms":1,"rejected":[{}]}"#.to_owned(), None),
        (r#"{"lifetime_ms":1} "#.repeat(2), None),
        (String::new(), None),
    ] {
        let record = decode::<TokenRecord>(json.as_bytes());
        let found = record.map(|record| record.token.is_some());
        assert_eq!(found, has_token, "{json}");
    }
}

#[test]
fn no_token_is_shown() {
    assert_eq!(format!("{:?}", token(1, 1)), "StoredToken(..)");
}

proptest! {
    /// Numbers of any size neither overflow nor make a token younger.
    #[test]
    fn a_token_only_grows_older(
        expires_in: u64, refresh_in: u64, issued_for: u64, wait: u64, lifetime: u64, remaining: u64,
    ) {
        let mut before = record(expires_in, wait, lifetime);
        before.lifetime_ms = lifetime;
        let mut stored = token(expires_in, refresh_in);
        stored.issued_for_ms = issued_for;
        before.token = Some(stored);
        let age = before.age(Duration::from_millis(remaining));
        let after = before.clone().aged(age);
        let now = TimeSource::System.now();
        prop_assert!(after.failure.unwrap().wait_ms <= wait);
        if let Some(token) = &after.token {
            prop_assert!(token.expires_in_ms <= expires_in && token.refresh_in_ms <= refresh_in);
            let restored = token.lifetime(1.0, now);
            prop_assert!(restored.remaining(&now) <= Duration::from_millis(expires_in));
        }
        let (json, lifetime) = before.encode();
        prop_assert!(!lifetime.is_zero());
        prop_assert!(decode::<TokenRecord>(&json).is_some());
    }
}
