use crate::testing::directory::application::Application;
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;

/// What a user, or an administrator for all of them, lets a client do at a resource.
pub(crate) struct Consent {
    client_id: String,
    /// By principal name or object id; an administrator's is for everyone.
    user: Option<String>,
    resource: String,
    scope: String,
}

impl Consent {
    /// One for each scope of each resource, and one to the sign-in itself, whose scopes have no
    /// resource.
    pub(crate) fn to(client_id: &str, user: Option<&str>, scopes: &ScopeParameter) -> Vec<Self> {
        let mut consents = vec![Self {
            client_id: client_id.to_owned(),
            user: user.map(ToOwned::to_owned),
            resource: client_id.to_owned(),
            scope: "openid".to_owned(),
        }];
        for RequestedScopes {
            resource, names, ..
        } in &scopes.resources
        {
            consents.extend(names.iter().map(|scope| Self {
                client_id: client_id.to_owned(),
                user: user.map(ToOwned::to_owned),
                resource: resource.clone(),
                scope: scope.clone(),
            }));
        }
        consents
    }

    fn is_of(&self, client: &Application, user: &User) -> bool {
        let is_users = self.user.as_deref().is_none_or(|name| user.is(name));
        is_users && client.client_id().eq_ignore_ascii_case(&self.client_id)
    }
}

/// All that a client was granted for a user at a resource, if what it asks for is among it; else
/// what is missing. An application that asks for itself needs no consent.
pub(crate) fn granted(
    directory: &Directory,
    client: &Application,
    user: &User,
    asked: &RequestedScopes,
) -> Result<Vec<String>, Vec<String>> {
    let default = asked.names.iter().any(|name| name == DEFAULT);
    let named = asked.names.iter().filter(|name| *name != DEFAULT).cloned();
    let named: Vec<_> = named.collect();
    if client.is_resource(&asked.resource) {
        let published = client.published().filter(|_| default);
        return Ok(sorted(
            published.map(ToOwned::to_owned).chain(named).collect(),
        ));
    }
    let declared = || declared(directory, client, &asked.resource);
    let mut granted = Vec::new();
    for consent in &directory.consents {
        let is_here = || directory.is_one_resource(&consent.resource, &asked.resource);
        match consent.is_of(client, user) && is_here() {
            true if consent.scope == DEFAULT => granted.extend(declared()),
            true => granted.push(consent.scope.clone()),
            false => {}
        }
    }
    // `/.default` is what was granted before, and where nothing was, what is declared.
    let mut missing = named;
    if default && granted.is_empty() {
        missing.extend(declared());
        if missing.is_empty() {
            missing.push(DEFAULT.to_owned());
        }
    }
    missing.retain(|scope| !granted.contains(scope));
    match missing.is_empty() {
        true => Ok(sorted(granted)),
        false => Err(sorted(missing)),
    }
}

/// All that is asked for at a resource, granted or not.
pub(crate) fn needed(
    directory: &Directory,
    client: &Application,
    asked: &RequestedScopes,
) -> Vec<String> {
    let mut needed = Vec::new();
    for name in &asked.names {
        match client.is_resource(&asked.resource) {
            true => {}
            false if name == DEFAULT => needed.extend(declared(directory, client, &asked.resource)),
            false => needed.push(name.clone()),
        }
    }
    sorted(needed)
}

/// Whether a user has consented to anything of the client's.
pub(crate) fn is_known(directory: &Directory, client: &Application, user: &User) -> bool {
    let mut consents = directory.consents.iter();
    consents.any(|consent| consent.is_of(client, user))
}

/// What the client's registration declares for a resource.
fn declared(directory: &Directory, client: &Application, resource: &str) -> Vec<String> {
    let declared = client.declared();
    let here = declared.filter(|(of, _)| directory.is_one_resource(of, resource));
    here.map(|(_, scope)| scope.to_owned()).collect()
}

fn sorted(mut scopes: Vec<String>) -> Vec<String> {
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

pub(crate) const DEFAULT: &str = ".default";
