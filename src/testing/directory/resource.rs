/// Returns whether two names identify one resource.
///
/// A trailing slash is ignored. Clients request `//.default` where an application ID URI ends in a
/// slash.
pub(crate) fn is_same_resource(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The name of the scope that stands for every granted permission of a resource.
pub(crate) const DEFAULT_SCOPE: &str = ".default";

/// The resource of scopes without a resource name.
pub(crate) const GRAPH: &str = "https://graph.microsoft.com";
