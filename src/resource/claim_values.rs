use crate::jwt::ClaimsSet;

/// Returns the client's id under every name that providers use.
pub(super) fn client_ids(claims: &ClaimsSet) -> impl Iterator<Item = &str> {
    CLIENT_IDS
        .into_iter()
        .filter_map(|name| claims.string(name))
}

/// The names that providers use for the client's id.
pub(super) const CLIENT_IDS: [&str; 4] = ["azp", "appid", "client_id", "cid"];
