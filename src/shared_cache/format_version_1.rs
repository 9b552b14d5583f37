//! The fixed octets of format version 1, which every later release reads or rejects by its version.
//!
//! `tests/data/shared_cache_format.py` wrote them, without the code of this crate. A change of the
//! format that fails these tests needs a new version: see `docs/shared-cache.md`.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::name::RecordNames;
use super::options::EncryptionKey;
use super::record::{StoredSession, TokenRecord, decode, encode};
use super::seal::Sealer;
use super::store::SharedRecord;
use crate::authority::Tenant;
use crate::request::parameters::{ParameterLocation, Parameters};
use crate::scope::Scopes;
use crate::token::{CacheKey, TokenBinding, UserKey};

fn names() -> RecordNames {
    RecordNames::new(
        "confidential-client".to_owned(),
        "the name key of format 1".into(),
        "https://login.microsoftonline.com/",
        "11111111-2222-3333-4444-555555555555",
    )
}

fn sealer() -> Sealer {
    Sealer::new(Some(vec![EncryptionKey::from_bytes([7; 32])]))
}

#[test]
fn the_names_are_those_of_version_1() {
    let mut scopes = Scopes::default();
    scopes.add("https://graph.microsoft.com/.default");
    let mut parameters = Parameters::default();
    let (name, value) = ("fmi_path".to_owned(), "a/b".to_owned());
    parameters.add(ParameterLocation::Form, name, value);
    let key = CacheKey {
        tenant: Tenant::parse("Contoso.onmicrosoft.com").ok(),
        scopes: scopes.set().clone(),
        user: None,
        parameters,
    };
    assert_eq!(names().of_token(&key, TokenBinding::Unbound).unwrap(), NAME);
    let user = UserKey::Account("oid.tid".into());
    assert_eq!(names().of_session(&user).unwrap(), SESSION_NAME);
}

#[test]
fn a_record_of_version_1_is_read() {
    let value = BASE64_STANDARD.decode(VALUE).unwrap();
    let record = SharedRecord::new(7, value.into(), Duration::from_secs(3500));
    let content = sealer().open(NAME, &record).unwrap();
    assert_eq!(std::str::from_utf8(&content).unwrap(), CONTENT);
}

#[test]
fn the_content_is_that_of_version_1() {
    let record: TokenRecord = decode(CONTENT.as_bytes()).unwrap();
    let token = record.token.as_ref().unwrap();
    assert_eq!(token.access_token(), "token-1");
    let error = record.failure.as_ref().unwrap().to_error();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(error.aadsts(), Some(90055));
    let written = encode(&record);
    assert_eq!(std::str::from_utf8(&written).unwrap(), CONTENT);
}

#[test]
fn a_session_is_that_of_version_1() {
    for content in [SESSION, SMALLEST_SESSION, "{}"] {
        let record: StoredSession = decode(content.as_bytes()).unwrap();
        let written = record.encode();
        assert_eq!(std::str::from_utf8(&written).unwrap(), content);
    }
    let record: StoredSession = decode(SESSION.as_bytes()).unwrap();
    let session = record.session.unwrap();
    assert_eq!(session.refresh_token.expose(), "refresh-1");
    assert!(session.is_in_doubt && session.identity.unwrap().is_validated());
}

/// The other direction: the layout of a value that is written.
#[test]
fn a_record_is_written_in_version_1() {
    let expected = BASE64_STANDARD.decode(VALUE).unwrap();
    let content = CONTENT.as_bytes().to_vec();
    let value = sealer().seal(NAME, 7, content.into()).unwrap();
    assert_eq!(value.len(), expected.len());
    // The version, the encryption and the ID of the key. The salt and the rest are random.
    assert_eq!(value[..10], expected[..10]);
}

const SESSION: &str = concat!(
    r#"{"session":{"family":"00112233445566778899aabbccddeeff","refresh_token":"refresh-1","#,
    r#""identity":{"id_token":{"issuer":"https://id.example","subject":"adele","audiences":["web"],"#,
    r#""authorized_party":"web","authenticated":{"secs_since_epoch":1,"nanos_since_epoch":0},"#,
    r#""nonce":"n","tenant":null},"home_account_id":"o.t","is_validated":true},"#,
    r#""is_in_doubt":true}}"#
);
const SMALLEST_SESSION: &str = r#"{"session":{"family":"f","refresh_token":"refresh-1"}}"#;
const NAME: &str = "confidential-client:RbdK3doJf5CPgcBM5XsAf0rSGqpyOxzzSBx0nJPV_JQ";
const SESSION_NAME: &str = "confidential-client:rJ6JOwhGJ7CYBffG9nyF3diojFuFveqq7beTZMCKjbI";
const CONTENT: &str = "{\"lifetime_ms\":3599000,\"token\":{\"access_token\":\"token-1\",\"issued_for_ms\":3\
    599000,\"expires_in_ms\":3599000,\"refresh_in_ms\":3299000,\"scopes\":\"https://grap\
    h.microsoft.com/.default\",\"correlation_id\":\"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\
    \",\"claims\":\"AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX-GI\"},\"failure\":{\"failur\
    e\":{\"kind\":\"throttled\",\"message\":\"asked to wait\",\"status\":429,\"correlati\
    on_id\":\"a1\",\"response\":{\"error\":\"temporarily_unavailable\",\"description\":\
    \"busy\",\"codes\":[90055],\"suberror\":\"s\",\"claims\":\"{}\",\"trace_id\":\"t\",\
    \"timestamp\":\"u\",\"error_uri\":\"v\"}},\"wait_ms\":7000,\"failures\":2},\"rejecte\
    d\":[{\"hash\":\"bALPIINGnnJ1iji-C3xuq-m8WFgHdNr2ss9LbqFGlyI\",\"age_ms\":1000}]}";
const VALUE: &str = "AQHvRE1h28Pi5QABAgMEBQYHCAkKCwwNDg8QERITFBUWF26BYx+fBdyWQzhZGzo5KPXNyk8+jI7pjY0HWIrD\
    +0EEM0+0gt8/Kx3Vw2BgWJT9FfdXxz2q0xM+vftmxYJOTHvn6BJVX3kZhMxlhj7IEFcfgF65v4Dt0sr5v45a\
    CB+677DB/haaQz7EFphV9U9ilSWHLKyHBnCuEVCqhD7y8Smv2vZYkeSTMZfJSl0Q8TbJF56EIZGdGgnXMc+9\
    0syUSHWZXT09EgcSe10l4idXmkKyowXuHrJeahLlEcA9mSkNbcpqR721kJuN4sdq2BrH2PHQmNOVJSI4FwTg\
    HM5h0GJeFHYgukRJ+nTEz4h4BdtsxAGQPFuQMVmcey6ocYZDX9S1kyCv4zRi3q8tUTtryGk6w3PTDJWS4kc6\
    oaZ+bBR3nb31G0ymh4247gc98qAtknrGNeKXXPQYZMFaiLAsjDKPVHcdxJGnH2+zGjjPP8osU/pYVEwSLLiu\
    iJYTQlWvqluE4E7fUh3x+Rp1OgfjNjXLbVNqZIlOZ8yhgD22f/OGKDycRIzd+0oxZeWJ1tVkbmX/4GSCUgQj\
    /0CfLBtKbe0Tbm8pfVm9FgQzzEjYe7mpw3hoGdELrsT9XXa1dQNB/BgIIMJMJXPl2Cc0No9LhQUMLtCSy/Qi\
    /pHmmfFvQBhocSUiLWF0Co1wmZubMg6K9pbZewSMy9kyg3e9ta3cJPP1Fq0aTij/om/RB8uptZ/5veq/jjoO\
    sOa2zMxAaqv1gzlfZS0vT0pFG5zp0NFahXLL9EGLxp06EdstVoImAh2YtgpxvfJZZNYs1c+KM5cqFoBI/TAm\
    Dpe7L9zSWO9rHVI9ZpyCjGOio3mign4k4YsO1+aCyTyGbINqHEG8323pn+Vsvi2N3TJQxtY4GT+U2rNwrCi3\
    SJ397HPjKV/EmV6twZ1gNXoFU4M=";
