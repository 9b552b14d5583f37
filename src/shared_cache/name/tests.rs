use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::authority::Tenant;
use crate::request::parameters::Parameters;
use crate::scope::Scopes;
use crate::token::Thumbprint;

const NAME_KEY: &str = "a name key of 16 octets";

fn names() -> RecordNames {
    RecordNames::new("prefix".to_owned(), NAME_KEY.into(), "authority", "client")
}

fn key(tenant: Option<&str>, scopes: &str, user: Option<UserKey>) -> CacheKey {
    let mut set = Scopes::default();
    set.add(scopes);
    CacheKey {
        tenant: tenant.map(|tenant| Tenant::parse(tenant).unwrap()),
        scopes: set.set().clone(),
        user: user.map(Arc::new),
        parameters: Parameters::default(),
    }
}

#[test]
fn the_spelling_of_a_tenant_does_not_matter() {
    let name = |tenant| {
        names()
            .of_token(&key(Some(tenant), "s", None), TokenBinding::Unbound)
            .unwrap()
    };
    assert_eq!(name("contoso.com"), name("CONTOSO.com"));
    assert_ne!(name("contoso.com"), name("contoso.org"));
}

#[test]
fn each_client_each_name_key_and_each_kind_has_names_of_its_own() {
    let user = UserKey::Account("u".into());
    let of = |prefix: &str, name_key: &str, authority: &str, client_id: &str| {
        let names = RecordNames::new(prefix.to_owned(), name_key.into(), authority, client_id);
        names.of_session(&user).unwrap()
    };
    let all = [
        of("p", NAME_KEY, "ab", "c"),
        of("q", NAME_KEY, "ab", "c"),
        of("p", "another name key of the test", "ab", "c"),
        // The same text without the lengths.
        of("p", NAME_KEY, "a", "bc"),
        of("p", NAME_KEY, "abc", ""),
    ];
    for (at, name) in all.iter().enumerate() {
        assert!(!all[..at].contains(name), "{at}");
    }
    // The same text with another kind.
    let names = names();
    let [token, session] = [RecordKind::Token, RecordKind::Session];
    let text = b"text";
    assert_ne!(
        names.hash(token, text).unwrap(),
        names.hash(session, text).unwrap()
    );
}

#[test]
fn a_name_is_the_prefix_and_a_hash() {
    let name = names()
        .of_token(&key(Some("contoso.com"), "s", None), TokenBinding::Unbound)
        .unwrap();
    let (prefix, hash) = name.split_once(':').unwrap();
    assert_eq!((prefix, hash.len()), ("prefix", 43));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    assert!(hash.chars().all(is_plain), "{hash}");
}

#[test]
fn tokens_bound_to_other_keys_have_other_names() {
    use TokenBinding::{Certificate, EntraCertificate, ProofKey, Unbound};

    let (one, other) = (Thumbprint([1; 32]), Thumbprint([2; 32]));
    let key = key(Some("contoso.com"), "s", None);
    let bindings = [
        Unbound,
        ProofKey(one),
        ProofKey(other),
        Certificate(one),
        EntraCertificate(one),
    ];
    let name = |binding| names().of_token(&key, binding).unwrap();
    let distinct: std::collections::HashSet<_> = bindings.map(name).into_iter().collect();
    assert_eq!(distinct.len(), bindings.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Few letters, so that keys are often equal, or differ in one place alone.
    #[test]
    fn two_keys_have_one_name_exactly_if_they_are_equal(first in keys(), second in keys()) {
        let name = |key| names().of_token(key, TokenBinding::Unbound).unwrap();
        prop_assert_eq!(first == second, name(&first) == name(&second));
    }
}

fn keys() -> impl Strategy<Value = CacheKey> {
    let user = prop_oneof![
        Just(None),
        "[ab]{0,2}".prop_map(|id| Some(UserKey::Account(id.into()))),
        (0_u8..2).prop_map(|octet| Some(UserKey::Assertion([octet; 32]))),
        (0_u8..2).prop_map(|octet| Some(UserKey::Exchange([octet; 32]))),
        "[ab]{0,2}".prop_map(|name| Some(UserKey::Federated(name.into()))),
        ("[ab]{0,2}", prop::option::of("[ab]{0,2}")).prop_map(|(agent, user)| {
            let user = user.map(|name| Arc::new(UserKey::Federated(name.into())));
            let agent = agent.into();
            Some(UserKey::Agent { agent, user })
        }),
    ];
    let tenant = prop::option::of("[aA]\\.b");
    let parameter = (0_u8..4, "[ab]{1,2}", "[ab]{0,2}");
    let parameters = prop::collection::vec(parameter, 0..3);
    (tenant, "[ab ]{0,3}", user, parameters).prop_map(|(tenant, scopes, user, parameters)| {
        let mut key = key(tenant.as_deref(), &scopes, user);
        for (location, name, value) in parameters {
            match location {
                0 => key.parameters.add(ParameterLocation::Form, name, value),
                1 => key.parameters.add(ParameterLocation::Query, name, value),
                2 => key
                    .parameters
                    .add(ParameterLocation::AssertionClaim, name, value),
                _ => {
                    let partition = (String::new(), value);
                    key.parameters
                        .set(ParameterLocation::Partition, [partition]);
                }
            }
        }
        key
    })
}
