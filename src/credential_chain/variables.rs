//! The variables of the links whose credential is an application's.

use crate::managed_identity::HostEnvironment;

/// Returns why the environment describes no application with a secret or a certificate.
///
/// `None` if the environment describes one. The variables are checked later.
pub(crate) fn missing_for_environment(environment: &HostEnvironment) -> Option<String> {
    let has_credential = environment.is_set(SECRET) || environment.is_set(CERTIFICATE);
    let credential = (!has_credential).then(|| format!("{SECRET} or {CERTIFICATE}"));
    missing(environment, credential)
}

/// Returns why the environment describes no workload identity. `None` if it describes one.
pub(crate) fn missing_for_workload_identity(environment: &HostEnvironment) -> Option<String> {
    let token_file = (!environment.is_set(TOKEN_FILE)).then(|| TOKEN_FILE.to_owned());
    missing(environment, token_file)
}

/// Returns the environment without the variables of other credentials than a secret or certificate.
pub(crate) fn variables_for_environment(environment: &HostEnvironment) -> HostEnvironment {
    without(environment, &[TOKEN_FILE, IDENTITY])
}

/// Returns the environment without the variables of other credentials than the token file.
pub(crate) fn variables_for_workload_identity(environment: &HostEnvironment) -> HostEnvironment {
    let others = [SECRET, CERTIFICATE, PASSWORD, SEND_CHAIN, IDENTITY];
    without(environment, &others)
}

fn without<const N: usize>(
    environment: &HostEnvironment,
    names: &[&'static str; N],
) -> HostEnvironment {
    let (environment, names) = (environment.clone(), *names);
    HostEnvironment::from_fn(move |name| match names.contains(&name) {
        true => None,
        false => environment.value(name),
    })
}

fn missing(environment: &HostEnvironment, credential: Option<String>) -> Option<String> {
    let ids = [TENANT, CLIENT_ID].into_iter();
    let ids = ids.filter(|name| !environment.is_set(name));
    let names: Vec<String> = ids.map(str::to_owned).chain(credential).collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(format!("{name} is not set")),
        names => Some(format!("{} are not set", names.join(", "))),
    }
}

const TENANT: &str = "AZURE_TENANT_ID";
pub(super) const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const PASSWORD: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";
const SEND_CHAIN: &str = "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN";
const IDENTITY: &str = "AZURE_MANAGED_IDENTITY_CLIENT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_variables_are_named() {
        let none = "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH are not set";
        let no_file = "AZURE_FEDERATED_TOKEN_FILE is not set";
        let no_secret = "AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH is not set";
        let all = "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE are not set";
        for (set, environment, workload) in [
            (&[][..], Some(none), Some(all)),
            (&[TENANT, CLIENT_ID, SECRET], None, Some(no_file)),
            (&[TENANT, CLIENT_ID, CERTIFICATE], None, Some(no_file)),
            (&[TENANT, CLIENT_ID, TOKEN_FILE], Some(no_secret), None),
            (
                &[CLIENT_ID, SECRET, TOKEN_FILE],
                Some("AZURE_TENANT_ID is not set"),
                Some("AZURE_TENANT_ID is not set"),
            ),
        ] {
            let host = HostEnvironment::from_variables(set.iter().map(|name| (*name, "x")));
            assert_eq!(missing_for_environment(&host).as_deref(), environment);
            assert_eq!(missing_for_workload_identity(&host).as_deref(), workload);
        }
        let empty =
            HostEnvironment::from_variables([(TENANT, "x"), (CLIENT_ID, "x"), (SECRET, " ")]);
        assert_eq!(missing_for_environment(&empty).as_deref(), Some(no_secret));
    }
}
