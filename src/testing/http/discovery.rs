use serde_json::{Value, json};
use url::Url;

use crate::testing::aadsts::AadstsError;
use crate::testing::authorize::request::is_any_tenant;
use crate::testing::directory::tenant::Directory;

/// The metadata of a tenant ([OpenID Connect Discovery 1.0 section 3]).
///
/// [OpenID Connect Discovery 1.0 section 3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
pub(crate) fn openid_configuration(
    tenant: &str,
    directories: &[Directory],
    base: &str,
) -> Result<Value, AadstsError> {
    let mut directories = directories.iter();
    let issuer = match directories.find(|directory| directory.is(tenant)) {
        Some(directory) => directory.issuer(base),
        // A client puts its user's tenant there.
        None if is_any_tenant(tenant) => format!("{base}/{{tenantid}}/v2.0"),
        // The token endpoint says `invalid_request` for the same.
        None => return Err(AadstsError::tenant_not_found("invalid_tenant", tenant)),
    };
    Ok(json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": [
            "client_secret_post", "private_key_jwt", "client_secret_basic"
        ],
        "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": [
            "aud", "iss", "iat", "nbf", "exp", "sub", "tid", "oid", "name", "nonce",
            "preferred_username", "ver"
        ],
        "tenant_region_scope": "EU",
    }))
}

/// Instance discovery: which hosts are one cloud. This authority knows itself and the worldwide
/// cloud.
pub(crate) fn instance(authorization_endpoint: &str, base: &str) -> Result<Value, AadstsError> {
    let asked = Url::parse(authorization_endpoint).map_err(|_| AadstsError::unknown_instance())?;
    let own = Url::parse(base).map_err(|_| AadstsError::unknown_instance())?;
    let host = asked.host_str().unwrap_or_default();
    let is_own = asked.origin() == own.origin();
    if !is_own && !WORLDWIDE.contains(&host) {
        return Err(AadstsError::unknown_instance());
    }
    let own_host = own.host_str().unwrap_or_default();
    let tenant = asked.path_segments().and_then(|mut path| path.next());
    Ok(json!({
        "tenant_discovery_endpoint": format!(
            "{base}/{}/v2.0/.well-known/openid-configuration",
            tenant.unwrap_or("common")
        ),
        "api-version": "1.1",
        "metadata": [
            {
                "preferred_network": own_host,
                "preferred_cache": own_host,
                "aliases": [own_host],
            },
            {
                "preferred_network": "login.microsoftonline.com",
                "preferred_cache": "login.windows.net",
                "aliases": WORLDWIDE,
            },
        ],
    }))
}

const WORLDWIDE: [&str; 4] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
];
