//! The advice for each AADSTS code, sorted by code.
//!
//! A sentence says what is wrong, and after a semicolon what to do. `{secret}`, `{certificate}` and
//! `{assertion}` become the credential with its source, such as a file with its path. The codes
//! are from Microsoft's reference of error codes, from Microsoft's libraries and from responses
//! that users published.

/// The advice for one code.
pub(super) struct Help {
    pub(super) code: u64,
    pub(super) text: &'static str,
    /// The advice for an application whose assertions somebody else signs.
    pub(super) assertion: Option<&'static str>,
}

const fn help(code: u64, text: &'static str) -> Help {
    let assertion = None;
    Help {
        code,
        text,
        assertion,
    }
}

const fn by_credential(code: u64, text: &'static str, assertion: &'static str) -> Help {
    let assertion = Some(assertion);
    Help {
        code,
        text,
        assertion,
    }
}

/// For an assertion of somebody else, refused although the clocks agree.
pub(super) const STALE_ASSERTION: &str = "the {assertion} has expired or is not valid yet, although this machine's clock agrees with the identity provider's; supply a new assertion, and check that its signer renews it in time";
/// For an assertion of this client, refused although the clocks agree.
pub(super) const LATE_ASSERTION: &str = "the assertion is outside its time range, although this machine's clock agrees with the identity provider's; check whether the clock jumped, or whether a proxy delayed or repeated the request";

/// For the token by which an application acts as a user, in the place of a user assertion.
pub(super) const USER_CREDENTIAL: &str = "the user federated identity credential (T2) is not accepted; it must be the agent identity's own token for 'api://AzureADTokenExchange/.default', issued in the same tenant";
/// For the token by which an application acts as a user, after its expiry.
pub(super) const EXPIRED_USER_CREDENTIAL: &str = "the user federated identity credential (T2) has expired; pass a TokenProvider, which acquires another token for each token request";

pub(super) const HELP: &[Help] = &[
    help(16000, USER_NOT_IN_TENANT),
    help(16003, USER_NOT_IN_TENANT),
    help(28000, ONE_RESOURCE),
    help(28002, SCOPE),
    help(28003, NO_SCOPE),
    help(40008, FEDERATED_PROVIDER),
    help(40009, FEDERATED_PROVIDER),
    help(40010, FEDERATED_PROVIDER),
    help(40015, FEDERATED_PROVIDER),
    help(
        50000,
        "Microsoft Entra ID could not issue the token; try again later, and give Microsoft's support the correlation id if the error stays",
    ),
    help(
        50001,
        "the resource is disabled or does not exist; check the scope's application ID URI, character by character",
    ),
    help(50002, TENANT_RESTRICTION),
    help(
        50003,
        "the application has no signing key or certificate; have the owner of the application configure one",
    ),
    help(50005, DEVICE),
    help(
        50006,
        "the signature of the {assertion} is not valid; sign with the key that is registered with the application",
    ),
    help(50008, FEDERATED_PROVIDER),
    help(
        50010,
        "the application has no application ID URI that fits the request; set the URI in the app registration of the API",
    ),
    help(50011, REDIRECT_URI),
    by_credential(
        50012,
        "the assertion of the {certificate} is not accepted; check that the certificate is registered with the application and valid, and that the authority is the tenant's",
        "the {assertion} is not accepted; check its signature, its audience, and the federated credential or certificate that is registered for it",
    ),
    help(50013, USER_ASSERTION),
    help(50014, USER_NOT_IN_TENANT),
    help(
        50017,
        "the chain of the {certificate} could not be verified; have the tenant's administrator check the trusted authorities and their revocation lists",
    ),
    help(50020, USER_NOT_IN_TENANT),
    by_credential(
        50027,
        "the assertion is not a valid JWT for this application; check the client id, and that nothing between here and the identity provider changes the request",
        "the {assertion} is not a valid JWT for this application; check that the whole token is sent, and its iss, sub, aud and times",
    ),
    help(
        50029,
        "the domain name of the tenant contains characters that are not allowed; check the tenant's id or domain",
    ),
    help(
        50032,
        "the RSA key is too weak; use a certificate with an RSA key of 2048 bits or more",
    ),
    help(50033, TEMPORARY),
    help(50034, USER_NOT_IN_TENANT),
    help(50042, ASK_ADMINISTRATOR),
    help(50043, ASK_ADMINISTRATOR),
    help(
        50048,
        "the sub of the {assertion} differs from its iss; set both to the client id, or register a federated credential for the issuer",
    ),
    help(
        50049,
        "the host of the authority is no known instance of Microsoft Entra ID; check the authority's cloud and host",
    ),
    help(
        50053,
        "the user is locked, or the sign-in came from an address with malicious activity; have the tenant's administrator look at the sign-in logs",
    ),
    help(50055, USER_PASSWORD),
    help(50056, USER_PASSWORD),
    help(
        50057,
        "the user's account is disabled; have the tenant's administrator enable the account",
    ),
    help(50058, SIGN_IN),
    help(50059, NO_TENANT),
    help(50072, MORE_FACTORS),
    help(50074, MORE_FACTORS),
    help(50076, MORE_FACTORS),
    help(50078, MORE_FACTORS),
    help(50079, MORE_FACTORS),
    help(50085, SIGN_IN),
    help(50087, TEMPORARY),
    help(
        50088,
        "too many telephone calls for multi-factor authentication were made; let the user try again in a few minutes",
    ),
    help(50089, SIGN_IN),
    help(50097, DEVICE),
    help(50105, NOT_ASSIGNED),
    help(50107, NO_TENANT),
    help(
        50120,
        "the header of the {assertion} is not valid; check that the whole JWT is sent, with 'typ' JWT and the algorithm of its key",
    ),
    help(50125, USER_PASSWORD),
    help(50126, USER_PASSWORD),
    help(50128, NO_TENANT),
    help(50129, DEVICE),
    help(50131, CONDITIONAL_ACCESS),
    help(50132, SIGN_IN),
    help(50133, SIGN_IN),
    help(50135, USER_PASSWORD),
    help(50139, SIGN_IN),
    help(50140, SIGN_IN),
    help(50143, SIGN_IN),
    help(50144, USER_PASSWORD),
    help(
        50146,
        "the application needs an app-specific signing key, which is missing or has expired; have the owner of the application configure one",
    ),
    help(50147, VERIFIER),
    help(50155, DEVICE),
    help(50158, MORE_FACTORS),
    help(50161, MORE_FACTORS),
    help(50166, ISSUER_UNREACHABLE),
    help(50173, GRANT_USED_UP),
    help(50177, MORE_FACTORS),
    help(50178, CONDITIONAL_ACCESS),
    help(50187, DEVICE),
    help(
        50194,
        "the application is registered for one tenant; use that tenant's authority, or make the application multi-tenant",
    ),
    help(
        50196,
        "the same request was sent too often; share one client, so that tokens are cached, and look for a loop that ignores errors",
    ),
    help(50197, SIGN_IN),
    help(50199, SIGN_IN),
    help(
        51000,
        "a feature that the request needs is not enabled for the application; ask Microsoft to enable the feature, or send the request without it",
    ),
    help(51004, USER_NOT_IN_TENANT),
    help(53000, DEVICE),
    help(53001, DEVICE),
    help(53002, CONDITIONAL_ACCESS),
    help(53003, CONDITIONAL_ACCESS),
    help(53004, MORE_FACTORS),
    help(53010, MORE_FACTORS),
    help(53011, RISK),
    help(54000, CONDITIONAL_ACCESS),
    help(54005, GRANT_USED_UP),
    help(65001, CONSENT),
    help(
        65002,
        "the client id belongs to an application of Microsoft; register an application of your own and use its client id",
    ),
    help(
        65004,
        "the user declined to consent; let the user sign in again and consent to the application",
    ),
    help(65005, PERMISSIONS),
    help(
        67003,
        "the caller is no service identity that may act for others; use an application that the API accepts as a caller",
    ),
    help(70000, GRANT),
    help(70001, DISABLED),
    by_credential(
        70002,
        "the credential of the application is not accepted; check that the secret or certificate belongs to this client id and has not expired",
        "the {assertion} is not accepted as the credential of the application; compare its iss, sub and aud with the registered federated credentials",
    ),
    help(
        70003,
        "the grant type is not supported for this application; check the flow that the program uses and the authority",
    ),
    help(70004, REDIRECT_URI),
    help(
        70005,
        "the response type is not enabled for the application; enable the flow in the app registration under Authentication",
    ),
    help(
        70007,
        "the response mode is not supported; use the mode 'query' or 'form_post'",
    ),
    help(70008, GRANT_USED_UP),
    help(70011, SCOPE),
    help(70012, TEMPORARY),
    help(70021, NO_FEDERATED_CREDENTIAL),
    help(
        70043,
        "the sign-in is older than a Conditional Access policy allows; let the user sign in again",
    ),
    help(
        76021,
        "the application requires signed requests; have its owner turn the requirement off for this client",
    ),
    help(90002, NO_SUCH_TENANT),
    help(90004, MALFORMED),
    help(90006, TEMPORARY),
    help(90008, PERMISSIONS),
    help(
        90009,
        "the application requests a token for itself by a URI; use '{client id}/.default' with the GUID as the scope",
    ),
    help(
        90010,
        "the endpoint does not support this grant; use the tenant's own authority, not 'common' or 'consumers'",
    ),
    help(90012, TEMPORARY),
    help(90013, MALFORMED),
    help(90014, MISSING_FIELD),
    help(
        90015,
        "the request is too long; send fewer scopes and parameters",
    ),
    help(
        90016,
        "the token lacks a claim that the request needs; send an access token of the v2.0 endpoint for this API",
    ),
    help(90019, NO_TENANT),
    help(90023, MALFORMED),
    help(90024, TEMPORARY),
    help(
        90027,
        "the tenant of personal accounts accepts no request of this version; use the authority's v2.0 endpoint",
    ),
    help(90033, TEMPORARY),
    help(
        90036,
        "a directory service of Microsoft failed; give Microsoft's support the correlation id",
    ),
    help(90038, OTHER_CLOUD),
    help(90043, OTHER_CLOUD),
    help(90051, OTHER_CLOUD),
    help(
        90055,
        "the tenant sends too many requests; wait, share one client so that tokens are cached, and send fewer token requests",
    ),
    help(
        90056,
        "the request is not a valid redemption of an authorization code; start the sign-in again, and check the registered endpoints",
    ),
    help(90061, ISSUER_UNREACHABLE),
    help(90072, USER_NOT_IN_TENANT),
    help(90090, TEMPORARY),
    help(90091, TEMPORARY),
    help(
        90092,
        "a directory service of Microsoft failed; give Microsoft's support the correlation id",
    ),
    help(
        90093,
        "the directory denied the request; have the tenant's administrator check the permissions of the application",
    ),
    help(90094, ADMIN_CONSENT),
    help(90095, ADMIN_CONSENT),
    help(
        90099,
        "the application is not authorized in this tenant; have the tenant's administrator consent to the application",
    ),
    help(90100, MALFORMED),
    help(
        90102,
        "a parameter must be an absolute URI; check the redirect URI and the resource",
    ),
    help(90117, MALFORMED),
    help(
        90121,
        "the request arrived empty; look for a proxy that removes the body of the request",
    ),
    help(
        90123,
        "the issuer of the user's claims denied the request; ask the administrator of that identity provider",
    ),
    help(90124, TENANT_AUTHORITY),
    help(90130, TENANT_AUTHORITY),
    help(
        100007,
        "the regional endpoint does not serve this application; use the authority without a region",
    ),
    help(
        135010,
        "the key of the {assertion} was not found; register the certificate with the application",
    ),
    help(135011, DEVICE),
    help(160021, SIGN_IN),
    help(165900, MALFORMED),
    help(
        220501,
        "the revocation list of the {certificate} could not be downloaded; have the certificate's authority publish the list",
    ),
    help(
        240002,
        "an ID token was sent as the user assertion; send the access token that the API was called with",
    ),
    help(
        500011,
        "the resource is not known in this tenant; check the scope's application ID URI, and that the resource's service principal exists in the tenant",
    ),
    help(
        500014,
        "the service principal of the resource is disabled in this tenant; have the tenant's administrator enable the enterprise application of the resource",
    ),
    help(500021, TENANT_RESTRICTION),
    help(500022, TENANT_RESTRICTION),
    help(500112, REDIRECT_URI),
    help(500113, NO_REDIRECT_URI),
    help(500131, USER_ASSERTION),
    help(500133, EXPIRED_USER_ASSERTION),
    help(
        500181,
        "the certificate of the TLS connection differs from the certificate that the token is bound to; use one certificate for both, and renew the token after a rotation",
    ),
    help(
        500207,
        "the account or the authority does not fit the resource; use the v2.0 endpoint of the tenant's own authority",
    ),
    help(500208, USER_NOT_IN_TENANT),
    help(
        500212,
        "the policy of the user's tenant forbids access to this tenant; have that tenant's administrator allow it in the cross-tenant access settings",
    ),
    help(
        500213,
        "the policy of this tenant forbids access to users of the other tenant; have this tenant's administrator allow it in the cross-tenant access settings",
    ),
    help(501051, NOT_ASSIGNED),
    help(
        501461,
        "the claims mapping of the API does not fit its application ID URI; use a URI of a verified domain or the client id, or configure a signing key for the API",
    ),
    help(501481, VERIFIER),
    help(501491, VERIFIER),
    help(501621, TEMPORARY),
    help(501661, ISSUER_UNREACHABLE),
    help(530032, CONDITIONAL_ACCESS),
    help(530034, RISK),
    help(530035, CONDITIONAL_ACCESS),
    help(
        650052,
        "the tenant has no subscription of the service that the application needs; have the tenant's administrator enable the service",
    ),
    help(
        650053,
        "the resource does not publish the requested scope; check the scope's name in the app registration of the API",
    ),
    help(
        650054,
        "the application asks for permissions of a resource that was removed; remove these permissions from the app registration",
    ),
    help(650056, PERMISSIONS),
    help(650057, PERMISSIONS),
    help(700003, DEVICE),
    help(
        700005,
        "the authorization code was issued for another tenant; redeem the code at the authority where the user signed in",
    ),
    help(700011, NOT_IN_TENANT),
    help(700016, NOT_IN_TENANT),
    help(700020, SIGN_IN),
    help(700022, ONE_RESOURCE),
    help(700023, SCOPE),
    help(
        700024,
        "the assertion is outside its time range; check this machine's clock (NTP) and time zone",
    ),
    help(
        700025,
        "the application is registered as a public client, which has no credential; turn 'Allow public client flows' off, and register the redirect URI for the platform Web",
    ),
    by_credential(
        700027,
        "the {certificate} is not registered with the application, or a different key signed the assertion; upload the certificate to the app registration and compare thumbprints",
        "the {assertion} is signed with a key that is not registered with the application; upload the signer's certificate to the app registration, or register a federated credential for its issuer",
    ),
    help(
        700030,
        "the subject of the {certificate} is not authorized for the application; have the application's owner add the name or register the certificate itself",
    ),
    help(
        700051,
        "the response type is not enabled for the application; enable the flow in the app registration under Authentication",
    ),
    help(
        700054,
        "ID tokens of the implicit flow are not enabled for the application; use the authorization code flow, or enable ID tokens under Authentication",
    ),
    help(700082, GRANT_USED_UP),
    help(
        700084,
        "the refresh token belongs to a single-page app and has expired; let the user sign in again at the single-page app",
    ),
    help(700211, NO_FEDERATED_CREDENTIAL),
    help(700212, OTHER_AUDIENCE),
    help(700213, NO_FEDERATED_CREDENTIAL),
    help(700222, ENTRA_ISSUED),
    help(700223, FEDERATION_DISABLED),
    help(700226, ENTRA_ISSUED),
    help(
        700227,
        "the {assertion} has an audience that federated credentials do not allow; request the assertion for 'api://AzureADTokenExchange'",
    ),
    help(
        700229,
        "the {assertion} is a user's token, and a federated credential accepts only an application's; request the assertion by client credentials or from a managed identity",
    ),
    help(700231, FEDERATION_DISABLED),
    help(
        700236,
        "the {assertion} was issued by another tenant of Microsoft Entra ID; use a managed identity of the application's own tenant",
    ),
    help(700238, FEDERATION_DISABLED),
    help(900023, NO_SUCH_TENANT),
    help(900144, MISSING_FIELD),
    help(900382, OTHER_CLOUD),
    by_credential(
        900384,
        "the signature of a token in the request is not valid; send tokens unchanged, and those of this cloud only",
        "the signature of the {assertion} or of another token in the request is not valid; send tokens unchanged, and those of this cloud only",
    ),
    help(900432, OTHER_CLOUD),
    help(
        900561,
        "the token endpoint accepts only POST; look for a redirect or a proxy that turns the request into a GET",
    ),
    help(
        900612,
        "Microsoft Entra ID could not read the keys of the {assertion}'s issuer; check the issuer's jwks_uri, and that the document is valid JSON with RSA keys",
    ),
    help(900971, NO_REDIRECT_URI),
    help(
        901002,
        "the parameter 'resource' is not supported by the v2.0 endpoint; remove the parameter, and request '{application ID URI}/.default' as the scope",
    ),
    help(
        1000031,
        "the application cannot be accessed at this time; have the tenant's administrator look at the enterprise application",
    ),
    help(1000104, OTHER_CLOUD),
    help(
        1000502,
        "the {certificate} is outside its validity; register a new one with the application and deploy it",
    ),
    help(1002012, SCOPE),
    help(
        1002016,
        "the application uses TLS 1.0 or 1.1, which is switched off; look for an old proxy between here and the identity provider",
    ),
    help(
        5002727,
        "the 'typ' in the header of the {assertion} is not accepted; set the type to JWT",
    ),
    help(
        5002730,
        "the key or the algorithm of the {assertion} is not supported; sign with RS256 or PS256 and an RSA key of 2048 bits or more",
    ),
    help(7000112, DISABLED),
    help(
        7000113,
        "the application may not call on behalf of users; have the application's owner allow the flow in the app registration",
    ),
    help(
        7000114,
        "a token of an application was sent as the user assertion; use acquire_token_for_client for callers that are applications",
    ),
    help(7000214, REVOKED_CERTIFICATE),
    help(
        7000215,
        "the client {secret} is wrong; use the secret's value, which the portal shows once at creation, and not its secret ID",
    ),
    help(7000216, NO_CREDENTIAL),
    help(7000218, NO_CREDENTIAL),
    help(
        7000222,
        "the client {secret} has expired; create a new secret in the app registration and deploy its value",
    ),
    help(
        7000229,
        "the application has no service principal in this tenant; have the tenant's administrator consent to the application, or create the enterprise application",
    ),
    help(
        7000272,
        "the issuer of the {assertion} does not publish the key that signed it; check the issuer's jwks_uri, and wait after a new issuer or key, because Microsoft Entra ID caches the keys",
    ),
    by_credential(
        7000274,
        "the signature of the assertion does not match the registered {certificate}; sign with the certificate's own private key",
        "the signature of the {assertion} does not match the registered certificate; sign with the certificate's own private key",
    ),
    help(7000277, REVOKED_CERTIFICATE),
    help(7002121, NO_FEDERATED_CREDENTIAL),
    help(7002137, NO_FEDERATED_CREDENTIAL),
    help(7002138, NO_FEDERATED_CREDENTIAL),
    help(
        7002381,
        "the tenant's policy demands a claim that the {assertion} lacks, such as GitHub's enterprise; have the tenant's administrator change the policy, or run the job where the claim is set",
    ),
    help(9001023, TENANT_AUTHORITY),
    help(
        9002313,
        "the request is malformed, or the code or refresh token is cut; pass codes and tokens unchanged, and let the user sign in again",
    ),
    help(
        9002332,
        "the application is for work accounts only; use the tenant's own authority, not 'consumers'",
    ),
    help(9002341, CONSENT),
];

// Sentences that several codes share, by name.

const ADMIN_CONSENT: &str = "the tenant's administrator must consent; send the administrator to the page of admin_consent_url(..), or grant the permissions in the app registration";
const ASK_ADMINISTRATOR: &str = "the application is not set up correctly in this tenant; have the tenant's administrator give the correlation id to Microsoft's support";
const CONDITIONAL_ACCESS: &str = "a Conditional Access policy blocks this application; ask the tenant's administrator to look up the correlation id in the sign-in logs";
const CONSENT: &str = "the requested permissions have no consent; have an administrator grant them in the app registration, or send the user to authorization_request_url(..) to consent";
const DEVICE: &str = "a policy demands a device that the tenant manages; let the user sign in on such a device, or have the tenant's administrator change the policy";
const DISABLED: &str = "the application is disabled; have its owner or the tenant's administrator enable the enterprise application";
const ENTRA_ISSUED: &str = "the {assertion} was issued by Microsoft Entra ID to an application or a user; use the token of a managed identity or of an issuer outside Microsoft Entra ID";
pub(super) const EXPIRED_USER_ASSERTION: &str = "the user assertion has expired; return 401 to the caller, so that the caller sends a new token";
const FEDERATED_PROVIDER: &str = "the identity provider that is federated with the user's tenant failed; ask the administrator of that identity provider";
const FEDERATION_DISABLED: &str = "a policy of the tenant forbids federated credentials of this issuer; have the tenant's administrator allow the issuer, or use a certificate";
const GRANT: &str = "the code or refresh token is not valid for this application; redeem it with the client id that it was issued to, or let the user sign in again";
const GRANT_USED_UP: &str = "the authorization code or refresh token is used up, expired or revoked; let the user sign in again";
const ISSUER_UNREACHABLE: &str = "Microsoft Entra ID could not reach the issuer of the {assertion}; make the issuer's openid-configuration and keys public on the internet, and try again later";
const MALFORMED: &str = "the request is not well formed; check the extra parameters, and look for a proxy that changes the request";
const MISSING_FIELD: &str = "a required field is missing in the request; look for a proxy that changes the body, and use the v2.0 endpoint of the authority";
const MORE_FACTORS: &str = "the user must sign in again with more than one factor; add claims_challenge() to the sign-in request";
const NO_CREDENTIAL: &str =
    "the request carried no credential; give the client a secret or a certificate";
const NO_FEDERATED_CREDENTIAL: &str = "no federated credential of the application matches the {assertion}; compare its issuer, subject and audience with the assertion's iss, sub and aud, character by character";
const OTHER_AUDIENCE: &str = "no federated credential of the application has the audience of the {assertion}; compare both, and if it is api://AKSIdentityBinding, set AZURE_KUBERNETES_TOKEN_PROXY, because only the cluster's proxy accepts that audience";
const NO_REDIRECT_URI: &str = "the application has no redirect URI; register the redirect URI of the sign-in for the platform Web";
const NO_SCOPE: &str = "the request has no scope; add a scope that the API publishes";
const NO_SUCH_TENANT: &str = "there is no such tenant in this cloud; check the tenant's id or domain and the authority's cloud";
const NO_TENANT: &str =
    "the request names no tenant; set the tenant's id or domain on the client or on the request";
const NOT_ASSIGNED: &str = "the application or user is not assigned to the resource, which requires an assignment; have the tenant's administrator assign it to a role of the resource's enterprise application";
const NOT_IN_TENANT: &str = "the application is not in this tenant; check the client id and the tenant, or have the tenant's administrator consent to the application";
const ONE_RESOURCE: &str = "the scopes belong to several resources; make one request per resource";
const OTHER_CLOUD: &str = "the tenant, the user or the resource belongs to another cloud; use the authority of that cloud with an application that is registered there";
const PERMISSIONS: &str = "the application lacks a permission for the resource; add the permission in the app registration, and have the tenant's administrator consent";
const REDIRECT_URI: &str = "the redirect URI differs from the registered ones; register this one, or send a registered one, character for character";
const REVOKED_CERTIFICATE: &str =
    "the {certificate} is revoked; register a new one with the application and deploy it";
const RISK: &str = "the user is blocked because of a risk; have the administrator of the user's tenant look at the risky sign-ins";
const SCOPE: &str =
    "the scope is not valid for an application; request '{application ID URI}/.default'";
const SIGN_IN: &str =
    "the user's session is not valid any more or needs a confirmation; let the user sign in again";
const TEMPORARY: &str =
    "a service of Microsoft Entra ID is temporarily unavailable; try again later";
const TENANT_AUTHORITY: &str = "the application or resource cannot be used by 'common' or 'consumers'; use the tenant's own authority";
const TENANT_RESTRICTION: &str = "a tenant restriction on the network denies access to this tenant; have the network's administrator allow the tenant in the proxy's header Restrict-Access-To-Tenants";
pub(super) const USER_ASSERTION: &str = "the user assertion was not issued for this application; the calling client must request a scope of this API";
const USER_NOT_IN_TENANT: &str =
    "the user's account is not in this tenant; check the tenant, or invite the user as a guest";
const USER_PASSWORD: &str =
    "the user's password is wrong, expired or must be changed; let the user sign in again";
const VERIFIER: &str = "the code verifier does not match the sign-in; redeem the code with the flow that began this user's sign-in, and keep one flow per sign-in";
