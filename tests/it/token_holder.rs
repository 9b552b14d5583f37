//! The holder of a token: a user, an application, or unknown. One row for each kind of evidence.
//! See failures.md O1.

use std::fs;

use confidential_client::Authority;
use confidential_client::resource::{Claims, Holder, TokenValidator, TokenValidatorBuilder};
use serde_json::{Value, json};

use crate::support::issuer::{
    API, Issuer, RSA, application_claims, header, user_claims, with, without,
};

/// Validates a token with these claims, issued by the authority of the validator.
async fn validated(validator: TokenValidatorBuilder, claims: &Value) -> Claims {
    let typed = with(header(), "typ", "at+jwt");
    let token = RSA.sign(&typed, claims);
    validator.build().unwrap().validate(&token).await.unwrap()
}

fn entra() -> TokenValidatorBuilder {
    let builder = Issuer::new().builder("72f988bf-86f1-41af-91ab-2d7cd011db47");
    builder.single_tenant()
}

fn at(authority: Authority) -> TokenValidatorBuilder {
    TokenValidator::builder(authority)
        .audience(API)
        .single_tenant()
        .transport(Issuer::new().transport())
}

fn openid() -> TokenValidatorBuilder {
    at(Authority::oidc("https://id.example"))
}

fn claims_of(issuer: &str, more: Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({ "iss": issuer, "aud": API, "exp": now + 60 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// Asserts the holder, and that the permissions of the other kinds of holder are denied.
fn assert_holder(name: &str, token: &Claims, holder: Holder) {
    assert_eq!(token.holder(), holder, "{name}");
    assert_eq!(token.is_user(), holder == Holder::User, "{name}");
    assert_eq!(
        token.is_application(),
        holder == Holder::Application,
        "{name}"
    );
    if holder != Holder::Application {
        let denied = token.require_application_role("Admin");
        assert_eq!(denied.unwrap_err().status(), 403, "{name}");
    }
    if holder != Holder::User {
        let denied = token.require_scope("Files.Read").unwrap_err();
        assert_eq!(denied.status(), 403, "{name}");
        token.require_user_role("Admin").unwrap_err();
        token.authorize_user(|_| true).unwrap_err();
    }
    if holder == Holder::Unknown {
        token.require_any(&["Files.Read"], &["Admin"]).unwrap_err();
    }
}

#[tokio::test]
async fn a_users_token_of_entra_does_not_pass_for_an_applications() {
    let admin = || with(user_claims(), "roles", json!(["Admin"]));
    let own = |claims: Value| with(claims, "sub", "adele");
    let secret = |claims: Value| with(claims, "azpacr", "1");
    for (name, claims, holder) in [
        ("a user with an application's role", admin(), Holder::User),
        ("without sub", without(admin(), "sub"), Holder::User),
        (
            "whose sub is a number",
            with(admin(), "sub", 7),
            Holder::User,
        ),
        (
            "whose sub is null",
            with(admin(), "sub", Value::Null),
            Holder::User,
        ),
        ("whose sub equals oid", own(admin()), Holder::User),
        (
            "whose sub equals oid, of a client with a secret",
            secret(own(admin())),
            Holder::User,
        ),
        (
            "whose sub is the client",
            with(admin(), "sub", "client"),
            Holder::User,
        ),
        (
            "of a client that names itself",
            with(admin(), "client_id", "pairwise"),
            Holder::User,
        ),
        (
            "without sub and scopes",
            without(without(admin(), "sub"), "scp"),
            Holder::Unknown,
        ),
        (
            "without scopes",
            secret(without(admin(), "scp")),
            Holder::Unknown,
        ),
        (
            "with empty scopes",
            secret(own(with(admin(), "scp", ""))),
            Holder::Unknown,
        ),
        (
            "with blank scopes",
            secret(own(with(admin(), "scp", " "))),
            Holder::Unknown,
        ),
        (
            "with no scope in a list",
            secret(own(with(admin(), "scp", json!([])))),
            Holder::Unknown,
        ),
        (
            "with scopes of another type",
            secret(own(with(admin(), "scp", 1))),
            Holder::Unknown,
        ),
        (
            "without sub and oid",
            without(without(secret(without(admin(), "scp")), "sub"), "oid"),
            Holder::Unknown,
        ),
        (
            "with an empty sub and oid",
            with(with(secret(without(admin(), "scp")), "sub", ""), "oid", ""),
            Holder::Unknown,
        ),
        (
            "by idtyp, with nothing else",
            with(without(admin(), "scp"), "idtyp", "user"),
            Holder::User,
        ),
        (
            "by idtyp, as an application looks",
            with(secret(own(without(admin(), "scp"))), "idtyp", "user"),
            Holder::User,
        ),
        (
            "of a new kind",
            with(secret(own(without(admin(), "scp"))), "idtyp", "agent"),
            Holder::Unknown,
        ),
        (
            "of kind App",
            with(secret(own(without(admin(), "scp"))), "idtyp", "App"),
            Holder::Unknown,
        ),
        (
            "of kinds",
            with(
                secret(own(without(admin(), "scp"))),
                "idtyp",
                json!(["app"]),
            ),
            Holder::Unknown,
        ),
    ] {
        assert_holder(name, &validated(entra(), &claims).await, holder);
    }
}

#[tokio::test]
async fn an_application_of_entra_is_known_by_its_own_object_and_its_authentication() {
    let v1 = |method: &str| {
        let claims = without(without(application_claims(), "azp"), "azpacr");
        with(with(claims, "appid", "client"), "appidacr", method)
    };
    let of = |method: Value| with(application_claims(), "azpacr", method);
    for (name, claims, holder) in [
        ("a secret", of(json!("1")), Holder::Application),
        ("a certificate", of(json!("2")), Holder::Application),
        ("a secret, version 1", v1("1"), Holder::Application),
        ("a certificate, version 1", v1("2"), Holder::Application),
        (
            "without roles",
            without(application_claims(), "roles"),
            Holder::Application,
        ),
        (
            "scopes that are null",
            with(application_claims(), "scp", Value::Null),
            Holder::Application,
        ),
        (
            "idtyp that is null",
            with(application_claims(), "idtyp", Value::Null),
            Holder::Application,
        ),
        (
            "by idtyp alone",
            with(
                without(without(application_claims(), "oid"), "azpacr"),
                "idtyp",
                "app",
            ),
            Holder::Application,
        ),
        ("a public client", of(json!("0")), Holder::Unknown),
        ("a public client, version 1", v1("0"), Holder::Unknown),
        (
            "no authentication",
            without(application_claims(), "azpacr"),
            Holder::Unknown,
        ),
        (
            "authentication that is a number",
            of(json!(1)),
            Holder::Unknown,
        ),
        (
            "another subject",
            with(application_claims(), "sub", "other"),
            Holder::Unknown,
        ),
        (
            "a subject that is the client",
            with(without(application_claims(), "oid"), "sub", "client"),
            Holder::Unknown,
        ),
        (
            "a device",
            with(application_claims(), "idtyp", "device"),
            Holder::Unknown,
        ),
    ] {
        assert_holder(name, &validated(entra(), &claims).await, holder);
    }
}

#[tokio::test]
async fn a_token_of_an_openid_provider_without_evidence_passes_for_neither() {
    let claims = |more| claims_of("https://id.example", more);
    let scope = "Files.Read openid";
    for (name, more, holder) in [
        (
            "RFC 9068, an application",
            json!({ "sub": "daemon", "client_id": "daemon", "scope": scope, "roles": ["Admin"] }),
            Holder::Application,
        ),
        (
            "Okta, an application",
            json!({ "sub": "daemon", "cid": "daemon", "scp": ["Files.Read"] }),
            Holder::Application,
        ),
        (
            "Okta, a user",
            json!({ "sub": "adele@example.org", "uid": "00u1", "cid": "web", "scp": ["Files.Read"] }),
            Holder::User,
        ),
        (
            "RFC 9068, a user who signed in",
            json!({ "sub": "adele", "client_id": "web", "scope": scope, "auth_time": 1_800_000_000 }),
            Holder::User,
        ),
        (
            "a user who gave a password",
            json!({ "sub": "adele", "client_id": "web", "scope": scope, "amr": ["pwd"] }),
            Holder::User,
        ),
        (
            "a user, says the subject alone",
            json!({ "sub": "adele", "client_id": "web", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "Keycloak 25, a user without sub",
            json!({ "azp": "web", "scope": scope, "typ": "Bearer", "roles": ["Admin"], "preferred_username": "adele" }),
            Holder::Unknown,
        ),
        (
            "Keycloak 25, a user who signed in, without sub",
            json!({ "azp": "web", "scope": scope, "auth_time": 1_800_000_000, "roles": ["Admin"] }),
            Holder::Unknown,
        ),
        (
            "Keycloak, an application",
            json!({ "sub": "5a0e", "azp": "daemon", "client_id": "daemon", "scope": "profile email", "acr": "1", "preferred_username": "service-account-daemon", "clientHost": "10.0.0.1" }),
            Holder::Unknown,
        ),
        (
            "Auth0, an application",
            json!({ "sub": "daemon@clients", "azp": "daemon", "scope": scope, "gty": "client-credentials" }),
            Holder::Unknown,
        ),
        (
            "Auth0, an application by RFC 9068",
            json!({ "sub": "daemon@clients", "client_id": "daemon", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "a user who claims a grant",
            json!({ "sub": "adele", "azp": "web", "scope": scope, "gty": "client-credentials", "auth_time": 1_800_000_000 }),
            Holder::User,
        ),
        (
            "a user whose name is the client's, who signed in",
            json!({ "sub": "web", "client_id": "web", "scope": scope, "auth_time": 1_800_000_000 }),
            Holder::Unknown,
        ),
        (
            "two clients",
            json!({ "sub": "daemon", "azp": "daemon", "client_id": "web", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "no client",
            json!({ "sub": "daemon", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "no client and no subject",
            json!({ "scope": scope, "roles": ["Admin"] }),
            Holder::Unknown,
        ),
        (
            "an empty subject and client",
            json!({ "sub": "", "client_id": "", "scope": scope, "amr": ["pwd"] }),
            Holder::Unknown,
        ),
        (
            "sub equal to oid",
            json!({ "sub": "adele", "oid": "adele", "azp": "web", "azpacr": "1", "roles": ["Admin"], "scope": scope }),
            Holder::Unknown,
        ),
        (
            "a sign-in time that is null",
            json!({ "sub": "adele", "client_id": "web", "scope": scope, "auth_time": null }),
            Holder::Unknown,
        ),
        (
            "an old Keycloak, an application, which never signed in",
            json!({ "sub": "5a0e", "azp": "daemon", "scope": scope, "auth_time": 0, "typ": "Bearer" }),
            Holder::Unknown,
        ),
        (
            "a sign-in time before all time",
            json!({ "sub": "adele", "client_id": "web", "scope": scope, "auth_time": -1.5 }),
            Holder::Unknown,
        ),
        (
            "a service with a uid of its own, not of Okta",
            json!({ "sub": "robot", "client_id": "daemon", "scope": scope, "uid": "robot", "realm": "services" }),
            Holder::Unknown,
        ),
        (
            "two clients, of which one is no text",
            json!({ "sub": "daemon", "azp": "daemon", "client_id": ["web"], "scope": scope }),
            Holder::Unknown,
        ),
        (
            "no method of authentication",
            json!({ "sub": "adele", "client_id": "web", "scope": scope, "amr": [] }),
            Holder::Unknown,
        ),
    ] {
        assert_holder(name, &validated(openid(), &claims(more)).await, holder);
    }
}

#[tokio::test]
async fn a_users_token_of_azure_ad_b2c_does_not_pass_for_an_applications() {
    let issuer = "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_in";
    let b2c = || {
        at(Authority::b2c(
            "contoso.b2clogin.com",
            "contoso.onmicrosoft.com",
            "B2C_1_in",
        ))
    };
    let user = json!({
        "sub": "adele", "oid": "adele", "azp": "web", "azpacr": "1", "tfp": "B2C_1_in",
        "scp": "Files.Read", "roles": ["Admin"],
    });
    let application =
        json!({ "sub": "daemon", "azp": "daemon", "tfp": "B2C_1_in", "roles": ["Admin"] });
    for (name, more, holder) in [
        ("a user", user.clone(), Holder::User),
        (
            "a user of an older setting",
            with(without(user.clone(), "tfp"), "acr", "b2c_1_in"),
            Holder::User,
        ),
        (
            "a user without a flow",
            without(user.clone(), "tfp"),
            Holder::Unknown,
        ),
        (
            "a user without scopes",
            without(user.clone(), "scp"),
            Holder::Unknown,
        ),
        ("a user without sub", without(user, "sub"), Holder::Unknown),
        ("an application", application.clone(), Holder::Application),
        (
            "an application with scopes",
            with(application.clone(), "scp", "Files.Read"),
            Holder::Unknown,
        ),
        (
            "an application without client",
            without(application, "azp"),
            Holder::Unknown,
        ),
    ] {
        assert_holder(
            name,
            &validated(b2c(), &claims_of(issuer, more)).await,
            holder,
        );
    }
}

#[tokio::test]
async fn a_users_token_of_ad_fs_does_not_pass_for_an_applications() {
    let ad_fs = || at(Authority::adfs("fs.contoso.com"));
    let user = json!({
        "appid": "web", "apptype": "Confidential", "scp": "Files.Read openid", "upn": "adele@contoso.com",
        "auth_time": "2026-11-28T07:30:55.566Z", "ver": "1.0", "roles": ["Admin"],
    });
    let unnamed = without(user.clone(), "upn");
    for (name, more, holder) in [
        ("a user without sub", user.clone(), Holder::User),
        (
            "a user of names",
            with(
                unnamed.clone(),
                "unique_name",
                json!(["Adele", "CONTOSO\\adele"]),
            ),
            Holder::User,
        ),
        (
            "a user of a public client",
            with(unnamed.clone(), "apptype", "Public"),
            Holder::User,
        ),
        ("without a name", unnamed.clone(), Holder::Unknown),
        (
            "with an empty name",
            with(unnamed.clone(), "upn", ""),
            Holder::Unknown,
        ),
        ("without scopes", without(user, "scp"), Holder::Unknown),
        (
            "an application",
            without(unnamed.clone(), "scp"),
            Holder::Unknown,
        ),
        (
            "an application that is its own subject",
            with(without(unnamed, "scp"), "sub", "web"),
            Holder::Unknown,
        ),
    ] {
        let claims = claims_of("https://fs.contoso.com/adfs", more);
        assert_holder(name, &validated(ad_fs(), &claims).await, holder);
    }
}

fn keycloak(token: &Claims) -> Holder {
    // Keycloak adds `client_id` for applications alone. A user may choose such a name.
    let client = token.string("client_id").unwrap_or_default();
    match token.string("preferred_username") {
        Some(name) if name == format!("service-account-{client}") => Holder::Application,
        _ => token.holder(),
    }
}

fn auth0(token: &Claims) -> Holder {
    let client = token.client_id().unwrap_or_default();
    match token.subject() {
        Some(subject) if subject == format!("{client}@clients") => Holder::Application,
        Some(_) => Holder::User,
        None => Holder::Unknown,
    }
}

fn oidc_provider(token: &Claims) -> Holder {
    match token.holder() {
        // Only if every application token of the provider has the client's id as `sub`.
        Holder::Unknown if token.subject().is_some() => Holder::User,
        holder => holder,
    }
}

fn ad_fs(token: &Claims) -> Holder {
    match token.client_id() {
        // The clients of this API that are daemons and sign no users in.
        Some("0a1b2c3d-0000-4000-8000-000000000001") => Holder::Application,
        _ => token.holder(),
    }
}

#[tokio::test]
async fn the_rules_of_the_docs_decide_as_the_table_says() {
    let scope = "Files.Read";
    let signed_in = 1_800_000_000;
    type Rule = fn(&Claims) -> Holder;
    for (name, rule, more, holder) in [
        (
            "Keycloak, an application",
            keycloak as Rule,
            json!({ "sub": "5a0e", "azp": "daemon", "client_id": "daemon", "scope": scope, "preferred_username": "service-account-daemon" }),
            Holder::Application,
        ),
        (
            "Keycloak, a user",
            keycloak,
            json!({ "sub": "adele", "azp": "web", "scope": scope, "auth_time": signed_in, "preferred_username": "adele" }),
            Holder::User,
        ),
        (
            "Keycloak, a user with an application's name",
            keycloak,
            json!({ "sub": "5a0e", "azp": "web", "scope": scope, "auth_time": signed_in, "preferred_username": "service-account-web" }),
            Holder::User,
        ),
        (
            "Auth0, a user of a database with such an id",
            auth0,
            json!({ "sub": "auth0|web@clients", "azp": "web", "scope": scope }),
            Holder::User,
        ),
        (
            "Keycloak, a user without sub",
            keycloak,
            json!({ "azp": "web", "scope": scope, "preferred_username": "adele" }),
            Holder::Unknown,
        ),
        (
            "Auth0, an application",
            auth0,
            json!({ "sub": "daemon@clients", "azp": "daemon", "scope": scope }),
            Holder::Application,
        ),
        (
            "Auth0, a user",
            auth0,
            json!({ "sub": "auth0|5a0e", "azp": "web", "scope": scope }),
            Holder::User,
        ),
        (
            "Auth0, nobody",
            auth0,
            json!({ "azp": "web", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "oidc-provider, an application",
            oidc_provider,
            json!({ "sub": "daemon", "client_id": "daemon", "scope": scope }),
            Holder::Application,
        ),
        (
            "oidc-provider, a user",
            oidc_provider,
            json!({ "sub": "adele", "client_id": "web", "scope": scope }),
            Holder::User,
        ),
        (
            "oidc-provider, nobody",
            oidc_provider,
            json!({ "client_id": "web", "scope": scope }),
            Holder::Unknown,
        ),
        (
            "AD FS, an application",
            ad_fs,
            json!({ "appid": "0a1b2c3d-0000-4000-8000-000000000001" }),
            Holder::Application,
        ),
        (
            "AD FS, another client",
            ad_fs,
            json!({ "appid": "web" }),
            Holder::Unknown,
        ),
    ] {
        let claims = claims_of("https://id.example", more);
        let token = validated(openid().holder(rule), &claims).await;
        assert_holder(name, &token, holder);
    }
    let here = fs::read_to_string("tests/it/token_holder.rs").unwrap();
    let docs = fs::read_to_string("src/resource/holder.rs").unwrap();
    let docs = docs.replace("/// ", "");
    for name in ["keycloak", "auth0", "oidc_provider", "ad_fs"] {
        let start = here.find(&format!("\nfn {name}(")).unwrap();
        let rule = &here[start..];
        let rule = &rule[..=rule.find("\n}").unwrap() + 1];
        assert!(docs.contains(rule), "{rule}");
    }
}

#[tokio::test]
async fn no_rule_of_a_provider_is_applied_by_default_and_a_rule_is_final() {
    let user = with(user_claims(), "roles", json!(["Admin"]));
    let token = validated(entra().holder(|_| Holder::Application), &user).await;
    assert_holder(
        "a user who is declared an application",
        &token,
        Holder::Application,
    );
    token.require_application_role("Admin").unwrap();

    // A rule can keep a clone of the claims, which keep the holder by evidence.
    let (sender, kept) = std::sync::mpsc::channel();
    let rule = move |token: &Claims| {
        sender.send(token.clone()).unwrap();
        Holder::Unknown
    };
    let token = validated(entra().holder(rule), &user).await;
    assert_holder("a user who is declared unknown", &token, Holder::Unknown);
    assert_eq!(kept.recv().unwrap().holder(), Holder::User);
}

/// docs/failures.md O1: the claims of an agent identity are no evidence for a holder.
#[tokio::test]
async fn a_token_of_an_agent_has_the_holder_of_its_other_claims() {
    let agent = |claims: Value| {
        let claims = with(claims, "xms_act_fct", "3 11");
        with(
            claims,
            "xms_par_app_azp",
            "11111111-2222-3333-4444-555555555555",
        )
    };
    let app = || with(agent(application_claims()), "xms_sub_fct", "11");
    let user = || with(agent(user_claims()), "xms_sub_fct", "1 13");
    for (name, claims, holder) in [
        ("the agent's own", app(), Holder::Application),
        (
            "the agent's own, by idtyp alone",
            with(without(app(), "azpacr"), "idtyp", "app"),
            Holder::Application,
        ),
        (
            "without evidence for an application",
            without(without(app(), "azpacr"), "idtyp"),
            Holder::Unknown,
        ),
        ("the agent's user", user(), Holder::User),
        ("of a person", agent(user_claims()), Holder::User),
        (
            "without evidence for a user",
            without(without(user(), "scp"), "idtyp"),
            Holder::Unknown,
        ),
        (
            "of another kind",
            with(user(), "idtyp", "agent"),
            Holder::Unknown,
        ),
    ] {
        let token = validated(entra(), &claims).await;
        assert_holder(name, &token, holder);
        assert_eq!(
            token.identity_type(),
            claims.get("idtyp").and_then(Value::as_str)
        );
    }
}

#[tokio::test]
async fn the_claims_of_an_agent_are_typed() {
    let none: &[u32] = &[];
    for (value, expected) in [
        (json!("11"), &[11][..]),
        (json!("1 9  13 "), &[1, 9, 13]),
        (json!(""), none),
        (json!("x 11 -13 +13 1.0 99999999999 13"), &[11, 13]),
        // Neither is the form of the claim.
        (json!(11), none),
        (json!(["11", "13"]), none),
        (json!({ "11": true }), none),
        (Value::Null, none),
    ] {
        let mut claims = user_claims();
        for name in ["xms_act_fct", "xms_sub_fct", "xms_idrel", "xms_tnt_fct"] {
            claims = with(claims, name, value.clone());
        }
        let claims = with(claims, "xms_par_app_azp", value.clone());
        let token = validated(entra(), &claims).await;
        for integers in [
            token.actor_facets().collect::<Vec<_>>(),
            token.subject_facets().collect(),
            token.identity_relations().collect(),
            token.tenant_facets().collect(),
        ] {
            assert_eq!(integers, expected, "{value}");
        }
        let parent = value.as_str().filter(|text| !text.is_empty());
        assert_eq!(token.parent_application_id(), parent, "{value}");
    }
    let token = validated(entra(), &with(user_claims(), "xms_act_fct", "11")).await;
    assert!(
        token
            .actor_facets()
            .any(|facet| facet == Claims::AGENT_IDENTITY_FACET)
    );
    assert!(
        token
            .subject_facets()
            .all(|facet| facet != Claims::AGENT_USER_FACET)
    );
    assert_eq!(token.parent_application_id(), None);
}
