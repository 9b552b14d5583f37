use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::checks::time;
use super::error::JwtError;

/// The claims of a JWT ([RFC 7519 section 4]), with every string in one text.
///
/// Parsing checks the whole JSON text. The number of allocations does not depend on the number of
/// claims that are numbers, strings or lists of strings, as almost all claims are.
///
/// [RFC 7519 section 4]: https://www.rfc-editor.org/rfc/rfc7519#section-4
#[derive(Clone)]
pub(crate) struct ClaimsSet {
    /// The names of the claims and the strings in the claims, without separators.
    text: String,
    /// The claims in the order of the token. A name can occur several times.
    members: Vec<Member>,
    /// The strings in the claims that are lists.
    items: Vec<Range<usize>>,
}

#[derive(Clone)]
struct Member {
    name: Range<usize>,
    value: MemberValue,
}

/// The value of a claim. The ranges are ranges of the text and of the items.
#[derive(Clone)]
enum MemberValue {
    String(Range<usize>),
    List {
        strings: Range<usize>,
        has_other_items: bool,
    },
    Other(Value),
}

/// A claim that is not `null`.
#[derive(Clone, Copy)]
pub(crate) struct ClaimValue<'a> {
    set: &'a ClaimsSet,
    value: &'a MemberValue,
}

impl ClaimsSet {
    /// Parses the text of a JSON object.
    pub(crate) fn parse(json: &str) -> serde_json::Result<Self> {
        let set = Self {
            text: String::with_capacity(json.len()),
            members: Vec::with_capacity(USUAL_CLAIMS),
            items: Vec::new(),
        };
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let set = deserializer.deserialize_map(SetVisitor(set))?;
        deserializer.end()?;
        Ok(set)
    }

    /// Returns a claim by name, or `None` for an absent claim and for `null`.
    ///
    /// The last claim of a name decides ([RFC 7519 section 4]).
    ///
    /// [RFC 7519 section 4]: https://www.rfc-editor.org/rfc/rfc7519#section-4
    pub(crate) fn get(&self, name: &str) -> Option<ClaimValue<'_>> {
        let mut from_last = self.members.iter().rev();
        let member = from_last
            .find(|member| member.name.len() == name.len() && self.slice(&member.name) == name)?;
        match &member.value {
            MemberValue::Other(Value::Null) => None,
            value => Some(ClaimValue { set: self, value }),
        }
    }

    /// Returns whether the text names a claim more than once.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        let names = self.members.iter().map(|member| self.slice(&member.name));
        names.filter(|known| *known == name).nth(1).is_some()
    }

    /// Returns a claim by name, if the claim is a string.
    pub(crate) fn string(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Returns a claim whose value is a NumericDate ([RFC 7519 section 2]), or `None` if the claim
    /// is absent.
    ///
    /// [RFC 7519 section 2]: https://www.rfc-editor.org/rfc/rfc7519#section-2
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<SystemTime>, JwtError> {
        match self.get(name) {
            None => Ok(None),
            Some(claim) => claim.as_time().map(Some).ok_or(JwtError::Claim(name)),
        }
    }

    /// Returns the strings of a claim that is a string or a list.
    pub(crate) fn strings(&self, name: &str) -> impl Iterator<Item = &str> + Clone {
        let claim = self.get(name);
        claim.into_iter().flat_map(ClaimValue::strings)
    }

    fn slice(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Appends a string to the text.
    fn push(&mut self, string: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(string);
        start..self.text.len()
    }
}

impl<'a> ClaimValue<'a> {
    /// Returns the claim if it is a string.
    pub(crate) fn as_str(self) -> Option<&'a str> {
        match self.value {
            MemberValue::String(range) => Some(self.set.slice(range)),
            _ => None,
        }
    }

    /// Returns the claim if it is a boolean.
    pub(crate) fn as_bool(self) -> Option<bool> {
        match self.value {
            MemberValue::Other(value) => value.as_bool(),
            _ => None,
        }
    }

    /// Returns the claim if it is a number.
    pub(crate) fn as_f64(self) -> Option<f64> {
        match self.value {
            MemberValue::Other(value) => value.as_f64(),
            _ => None,
        }
    }

    fn as_time(self) -> Option<SystemTime> {
        match self.value {
            MemberValue::Other(value) => time(value),
            _ => None,
        }
    }

    /// Returns the strings of a claim that is a string or a list.
    pub(crate) fn strings(self) -> impl Iterator<Item = &'a str> + Clone {
        let set = self.set;
        let ranges = match self.value {
            MemberValue::String(range) => std::slice::from_ref(range),
            MemberValue::List { strings, .. } => set.items.get(strings.clone()).unwrap_or_default(),
            MemberValue::Other(_) => &[],
        };
        ranges.iter().map(|range| set.slice(range))
    }

    /// Returns whether the claim is a string, or a list that has strings only.
    pub(super) fn has_only_strings(self) -> bool {
        match self.value {
            MemberValue::String(_) => true,
            MemberValue::List {
                has_other_items, ..
            } => !has_other_items,
            MemberValue::Other(_) => false,
        }
    }

    /// Returns a member of a claim that is an object.
    pub(crate) fn member(self, name: &str) -> Option<&'a Value> {
        match self.value {
            MemberValue::Other(value) => value.get(name),
            _ => None,
        }
    }

    /// Returns the names of the members of a claim that is an object.
    pub(crate) fn member_names(self) -> impl Iterator<Item = &'a str> {
        let object = match self.value {
            MemberValue::Other(value) => value.as_object(),
            _ => None,
        };
        object
            .into_iter()
            .flat_map(|object| object.keys().map(String::as_str))
    }
}

/// Reads the claims into the set.
struct SetVisitor(ClaimsSet);

impl<'de> Visitor<'de> for SetVisitor {
    type Value = ClaimsSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClaimsSet, A::Error> {
        let Self(mut set) = self;
        while let Some(name) = map.next_key_seed(NameSeed(&mut set))? {
            let value = map.next_value_seed(ValueSeed(&mut set))?;
            set.members.push(Member { name, value });
        }
        Ok(set)
    }
}

/// Reads the name of a claim.
struct NameSeed<'s>(&'s mut ClaimsSet);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = Range<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed<'_> {
    type Value = Range<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a claim")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.push(name))
    }
}

/// Reads the value of a claim, or of an item in a list.
struct ValueSeed<'s>(&'s mut ClaimsSet);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = MemberValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<MemberValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = MemberValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<MemberValue, E> {
        Ok(MemberValue::Other(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<MemberValue, E> {
        Ok(MemberValue::Other(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<MemberValue, E> {
        Ok(MemberValue::Other(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<MemberValue, E> {
        Ok(MemberValue::Other(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<MemberValue, E> {
        Ok(MemberValue::Other(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<MemberValue, E> {
        Ok(MemberValue::String(self.0.push(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MemberValue, A::Error> {
        let Self(set) = self;
        let start = set.items.len();
        let mut has_other_items = false;
        while let Some(item) = list.next_element_seed(ValueSeed(set))? {
            match item {
                MemberValue::String(range) => set.items.push(range),
                // The items of an inner list are not items of the claim.
                MemberValue::List { strings, .. } => {
                    set.items.truncate(strings.start);
                    has_other_items = true;
                }
                MemberValue::Other(_) => has_other_items = true,
            }
        }
        Ok(MemberValue::List {
            strings: start..set.items.len(),
            has_other_items,
        })
    }

    /// An object, or a number where serde_json has the feature `arbitrary_precision`.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MemberValue, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map)).map(MemberValue::Other)
    }
}

/// The number of claims to allocate for. Entra's tokens have 20 to 30.
const USUAL_CLAIMS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// Asserts that the claims are those that serde_json's map has.
    fn check(json: &str) -> Option<ClaimsSet> {
        let set = ClaimsSet::parse(json).ok();
        let map: Option<Map<String, Value>> = serde_json::from_str(json).ok();
        let Some(map) = map else {
            assert!(set.is_none(), "{json}");
            return None;
        };
        let set = set.unwrap_or_else(|| panic!("{json}"));
        for (name, value) in &map {
            let claim = set.get(name);
            assert_eq!(claim.is_none(), value.is_null(), "{json} {name}");
            let Some(claim) = claim else { continue };
            assert_eq!(claim.as_str(), value.as_str(), "{json} {name}");
            assert_eq!(claim.as_f64(), value.as_f64(), "{json} {name}");
            assert_eq!(claim.as_time(), time(value), "{json} {name}");
            let list = match value {
                Value::String(_) => std::slice::from_ref(value),
                Value::Array(list) => list,
                _ => &[],
            };
            let strings: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            assert_eq!(
                claim.strings().collect::<Vec<_>>(),
                strings,
                "{json} {name}"
            );
            let has_only_strings =
                (value.is_array() || value.is_string()) && list.iter().all(Value::is_string);
            assert_eq!(claim.has_only_strings(), has_only_strings, "{json} {name}");
            let names: Vec<&str> = value
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
                .map(String::as_str)
                .collect();
            assert_eq!(
                claim.member_names().collect::<Vec<_>>(),
                names,
                "{json} {name}"
            );
        }
        Some(set)
    }

    #[test]
    fn a_text_that_is_not_one_json_object_is_rejected() {
        let nested =
            |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let objects =
            |depth: usize| format!(r#"{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
        for (json, is_accepted) in [
            ("{}", true),
            (" { } ", true),
            (r#"{"a":1}"#, true),
            (r#"{"a":[1,"b",{"c":[null]},[[],["d"]],true]}"#, true),
            (&*nested(126), true),
            (&*nested(127), false),
            (&*objects(127), true),
            (&*objects(128), false),
            ("", false),
            ("null", false),
            ("[]", false),
            (r#""{}""#, false),
            ("{} {}", false),
            ("{},", false),
            (r#"{"a":1,}"#, false),
            (r#"{"a":1"#, false),
            (r#"{"a"}"#, false),
            (r#"{a:1}"#, false),
            (r#"{1:1}"#, false),
            (r#"{"a":1e400}"#, false),
            (r#"{"a":{"b":[1e400]}}"#, false),
            (r#"{"a":01}"#, false),
            (r#"{"a":NaN}"#, false),
            (r#"{"a":"\ud800"}"#, false),
            (r#"{"\ud800":1}"#, false),
            (r#"{"a":{"\ud800":1}}"#, false),
            ("{\"a\":\"\n\"}", false),
            (r#"{"a":{"b":tru}}"#, false),
        ] {
            assert_eq!(check(json).is_some(), is_accepted, "{json}");
        }
    }

    #[test]
    fn the_last_claim_of_a_name_decides() {
        let set = check(r#"{"a":"x","b":"x","a":null,"c":["x"],"b":"y","c":7,"\u0064":"x"}"#);
        let set = set.unwrap();
        assert!(set.get("a").is_none());
        assert_eq!(set.string("b"), Some("y"));
        assert_eq!(set.get("c").and_then(ClaimValue::as_f64), Some(7.0));
        assert_eq!(set.string("d"), Some("x"));
        assert!(set.get("").is_none() && set.get("x").is_none());
    }

    proptest! {
        #[test]
        fn the_claims_are_those_of_a_map(
            members in prop::collection::vec(("[abé\\PC]{0,2}", value()), 0..12),
            cut in 0..400_usize,
        ) {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{value}", json!(name)))
                .collect();
            let json = format!("{{{}}}", members.join(","));
            check(&json);
            // A text that is cut off.
            check(json.get(..cut).unwrap_or_default());
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            "[\\x00-\\x7f]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ab]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
