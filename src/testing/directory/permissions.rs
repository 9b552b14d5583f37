use super::application::Application;
use super::resource::DEFAULT_SCOPE;
use super::scopes::RequestedScopes;
use super::tenant::Directory;
use super::user::User;

/// Returns all scopes of a resource that are granted to a client for a user.
///
/// An application needs no consent to its own scopes.
///
/// # Errors
///
/// Returns the missing scopes if a requested scope is not granted.
pub(crate) fn granted_scopes(
    directory: &Directory,
    client: &Application,
    user: &User,
    requested: &RequestedScopes,
) -> Result<Vec<String>, Vec<String>> {
    let has_default = requested.names.iter().any(|name| name == DEFAULT_SCOPE);
    let names = requested.names.iter();
    let named: Vec<_> = names
        .filter(|name| *name != DEFAULT_SCOPE)
        .cloned()
        .collect();
    if client.is_resource(&requested.resource) {
        let published = client.published_scopes().filter(|_| has_default);
        return Ok(sorted(
            published.map(ToOwned::to_owned).chain(named).collect(),
        ));
    }
    let declared = || declared_scopes(directory, client, &requested.resource);
    let mut granted = Vec::new();
    for consent in &directory.consents {
        let is_for_resource = || directory.is_one_resource(&consent.resource, &requested.resource);
        match consent.applies_to(client, user) && is_for_resource() {
            true if consent.scope == DEFAULT_SCOPE => granted.extend(declared()),
            true => granted.push(consent.scope.clone()),
            false => {}
        }
    }
    // `/.default` stands for the granted scopes. If no scope is granted, it stands for the
    // declared scopes.
    let mut missing = named;
    if has_default && granted.is_empty() {
        missing.extend(declared());
        if missing.is_empty() {
            missing.push(DEFAULT_SCOPE.to_owned());
        }
    }
    missing.retain(|scope| !granted.contains(scope));
    match missing.is_empty() {
        true => Ok(sorted(granted)),
        false => Err(sorted(missing)),
    }
}

/// Returns all requested scopes of a resource that need consent, granted or not.
pub(crate) fn scopes_needing_consent(
    directory: &Directory,
    client: &Application,
    requested: &RequestedScopes,
) -> Vec<String> {
    if client.is_resource(&requested.resource) {
        return Vec::new();
    }
    let mut scopes = Vec::new();
    for name in &requested.names {
        match name.as_str() {
            DEFAULT_SCOPE => {
                scopes.extend(declared_scopes(directory, client, &requested.resource));
            }
            name => scopes.push(name.to_owned()),
        }
    }
    sorted(scopes)
}

/// Returns whether a user has consented to any scope of a client.
pub(crate) fn has_consented(directory: &Directory, client: &Application, user: &User) -> bool {
    let mut consents = directory.consents.iter();
    consents.any(|consent| consent.applies_to(client, user))
}

/// Returns the scopes of a resource that the client's registration declares.
fn declared_scopes(directory: &Directory, client: &Application, resource: &str) -> Vec<String> {
    let declared = client.declared_permissions();
    let of_resource = declared.filter(|(known, _)| directory.is_one_resource(known, resource));
    of_resource.map(|(_, scope)| scope.to_owned()).collect()
}

fn sorted(mut scopes: Vec<String>) -> Vec<String> {
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}
