use serde_json::{Map, Value, json};
use url::Url;
use url::form_urlencoded::byte_serialize;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::tenant::{Directory, is_multi_tenant};
use crate::testing::provider_rules::ProviderRules;
use crate::testing::token::proof::proof_algorithm_names;

/// Builds the metadata of a tenant, or of one application in the tenant ([OpenID Connect Discovery
/// 1.0 section 3]).
///
/// [OpenID Connect Discovery 1.0 section 3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
pub(crate) fn openid_configuration(
    tenant: &str,
    application: Option<&str>,
    directories: &[Directory],
    base: &str,
    rules: &ProviderRules,
    mutual_tls_base: Option<&str>,
) -> Result<Value, AadstsError> {
    let keys = match application {
        Some(application) => {
            let encoded: String = byte_serialize(application.as_bytes()).collect();
            format!("{base}/{tenant}/discovery/v2.0/keys?appid={encoded}")
        }
        None => format!("{base}/{tenant}/discovery/v2.0/keys"),
    };
    let mut directories = directories.iter();
    let issuer = match directories.find(|directory| directory.is(tenant)) {
        Some(directory) => directory.issuer(base),
        // The client replaces `{tenantid}` with the tenant of the user.
        None if is_multi_tenant(tenant) => format!("{base}/{{tenantid}}/v2.0"),
        // The token endpoint responds with `invalid_request` instead.
        None => return Err(AadstsError::tenant_not_found("invalid_tenant", tenant)),
    };
    let mut metadata = json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": [
            "client_secret_post", "private_key_jwt", "client_secret_basic"
        ],
        "dpop_signing_alg_values_supported": proof_algorithm_names(),
        "jwks_uri": keys,
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
        "end_session_endpoint": format!("{base}/{tenant}/oauth2/v2.0/logout"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": [rules.token_algorithm().name()],
        "scopes_supported": rules.scopes(),
        "claims_supported": [
            "aud", "iss", "iat", "nbf", "exp", "sub", "tid", "oid", "name", "nonce",
            "preferred_username", "ver"
        ],
        "tenant_region_scope": "EU",
    });
    if let (true, Some(members)) = (rules.is_openid(), metadata.as_object_mut()) {
        let algorithms = rules.assertion_algorithms().iter();
        let algorithms: Vec<_> = algorithms.map(|(_, algorithm)| algorithm.name()).collect();
        let methods: &[&str] = match rules.is_fapi2() {
            true => &["private_key_jwt"],
            false => &[
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
        };
        for (name, value) in [
            ("token_endpoint_auth_methods_supported", json!(methods)),
            (
                "token_endpoint_auth_signing_alg_values_supported",
                json!(algorithms),
            ),
            (
                "pushed_authorization_request_endpoint",
                json!(format!("{base}/{tenant}/oauth2/v2.0/par")),
            ),
            (
                "introspection_endpoint",
                json!(format!("{base}/{tenant}/oauth2/v2.0/introspect")),
            ),
            (
                "grant_types_supported",
                json!([
                    "authorization_code",
                    "client_credentials",
                    "refresh_token",
                    "urn:ietf:params:oauth:grant-type:jwt-bearer",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ]),
            ),
            (
                "require_pushed_authorization_requests",
                json!(rules.requires_pushed()),
            ),
            (
                "authorization_response_iss_parameter_supported",
                json!(true),
            ),
            ("code_challenge_methods_supported", json!(["S256"])),
        ] {
            members.insert(name.to_owned(), value);
        }
    }
    if let (Some(base), Some(members)) = (mutual_tls_base, metadata.as_object_mut()) {
        add_mutual_tls(members, tenant, base);
    }
    Ok(metadata)
}

/// Adds the members about client certificates ([RFC 8705 section 5]).
///
/// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
fn add_mutual_tls(members: &mut Map<String, Value>, tenant: &str, base: &str) {
    if let Some(Value::Array(methods)) = members.get_mut("token_endpoint_auth_methods_supported") {
        methods.extend([
            json!("tls_client_auth"),
            json!("self_signed_tls_client_auth"),
        ]);
    }
    let mut aliases = Map::new();
    for (name, path) in [
        ("token_endpoint", "token"),
        ("pushed_authorization_request_endpoint", "par"),
        ("introspection_endpoint", "introspect"),
    ] {
        if members.contains_key(name) {
            let alias = format!("{base}/{tenant}/oauth2/v2.0/{path}");
            aliases.insert(name.to_owned(), alias.into());
        }
    }
    for (name, value) in [
        ("tls_client_certificate_bound_access_tokens", json!(true)),
        ("mtls_endpoint_aliases", aliases.into()),
    ] {
        members.insert(name.to_owned(), value);
    }
}

/// Builds the response of instance discovery, which lists the host names of each cloud.
///
/// The response contains this authority and the worldwide cloud.
pub(crate) fn instance(authorization_endpoint: &str, base: &str) -> Result<Value, AadstsError> {
    let unknown = |_| AadstsError::unknown_instance();
    let requested = Url::parse(authorization_endpoint).map_err(unknown)?;
    let authority = Url::parse(base).map_err(unknown)?;
    let host = requested.host_str().unwrap_or_default();
    let is_authority = requested.origin() == authority.origin();
    if !is_authority && !WORLDWIDE.contains(&host) {
        return Err(AadstsError::unknown_instance());
    }
    let authority_host = authority.host_str().unwrap_or_default();
    let tenant = requested.path_segments().and_then(|mut path| path.next());
    Ok(json!({
        "tenant_discovery_endpoint": format!(
            "{base}/{}/v2.0/.well-known/openid-configuration",
            tenant.unwrap_or("common")
        ),
        "api-version": "1.1",
        "metadata": [
            {
                "preferred_network": authority_host,
                "preferred_cache": authority_host,
                "aliases": [authority_host],
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
