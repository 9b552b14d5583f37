use serde_json::{Map, Value};

/// Returns the client's id under every name that providers use.
pub(super) fn client_ids(claims: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = CLIENT_IDS.into_iter();
    names.filter_map(|name| claims.get(name)?.as_str())
}

/// Returns the strings of a claim that is a string or a list.
pub(super) fn claim_texts(claim: Option<&Value>) -> impl Iterator<Item = &str> + Clone {
    let (text, list) = match claim {
        Some(Value::String(text)) => (Some(text.as_str()), None),
        Some(Value::Array(list)) => (None, Some(list)),
        _ => (None, None),
    };
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    text.into_iter().chain(list)
}

/// The names that providers use for the client's id.
pub(super) const CLIENT_IDS: [&str; 4] = ["azp", "appid", "client_id", "cid"];
