use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use url::{Host, Origin, Url};

use super::flow::UserChoice;
use super::response::AuthorizationResponse;
use crate::testing::aadsts::error::AadstsError;

/// An HTML page and the accepted destinations of its form.
pub(crate) struct Page {
    pub(crate) html: String,
    form_action: String,
}

impl Page {
    /// Builds the sign-in page, with a button for each user.
    pub(crate) fn users(pending: &str, redirect_uri: &str, users: &[UserChoice]) -> Self {
        let mut form = form("/sign-in/user", pending);
        for user in users {
            let id = user.id;
            let name = escaped(&user.display_name);
            let principal_name = escaped(&user.principal_name);
            form.push_str(&format!(
                "<button name=\"user\" value=\"{id}\">{name}<br><small>{principal_name}</small></button>\n"
            ));
        }
        if users.is_empty() {
            form.push_str("<p>No user is registered.</p>\n");
        }
        form.push_str("</form>\n");
        Self::new("Sign in", &form, redirect_uri)
    }

    /// Builds the consent page, with a line for each scope.
    pub(crate) fn consent(
        pending: &str,
        redirect_uri: &str,
        client_id: &str,
        user: &str,
        scopes: &[String],
    ) -> Self {
        let (client_id, user) = (escaped(client_id), escaped(user));
        let mut body =
            format!("<p>{user}</p>\n<p>The application <b>{client_id}</b> wants to:</p>\n<ul>\n");
        for scope in scopes {
            let line = match scope.as_str() {
                "openid" => "Sign you in (openid)".to_owned(),
                "profile" => "View your basic profile (profile)".to_owned(),
                "email" => "View your email address (email)".to_owned(),
                "offline_access" => {
                    "Maintain access to data you have given it access to (offline_access)"
                        .to_owned()
                }
                scope => format!("Use <code>{}</code> in your name", escaped(scope)),
            };
            body.push_str(&format!("<li>{line}</li>\n"));
        }
        body.push_str("</ul>\n");
        body.push_str(&form("/sign-in/consent", pending));
        body.push_str("<button name=\"answer\" value=\"accept\">Accept</button>\n");
        body.push_str("<button name=\"answer\" value=\"cancel\">Cancel</button>\n</form>\n");
        Self::new("Permissions requested", &body, redirect_uri)
    }

    /// Builds the page for `response_mode=form_post`. The page has no script, so the user sends the
    /// form.
    pub(crate) fn form_post(response: &AuthorizationResponse) -> Self {
        let action = escaped(&response.redirect_uri);
        let mut form = format!("<form method=\"post\" action=\"{action}\">\n");
        for (name, value) in &response.fields {
            form.push_str(&hidden(name, value));
        }
        form.push_str("<button>Continue</button>\n</form>\n");
        Self::new("Signed in", &form, &response.redirect_uri)
    }

    /// Builds the page of a sign-out whose browser stays here.
    pub(crate) fn signed_out() -> Self {
        Self::new("Signed out", "<p>You may close this window.</p>\n", "")
    }

    pub(crate) fn error(error: &AadstsError) -> Self {
        let text = escaped(&error.text);
        let body = format!("<p>AADSTS{}: {text}</p>\n", error.code);
        Self::new("Sorry, there is trouble signing you in", &body, "")
    }

    fn new(title: &str, body: &str, redirect_uri: &str) -> Self {
        Self {
            html: format!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}<p><small>This is a LocalAuthority, an identity provider for tests. It has no passwords.</small></p>\n</body>\n</html>\n"
            ),
            form_action: form_action(redirect_uri),
        }
    }

    /// Returns the `Content-Security-Policy`, which allows only the style and the form of the page.
    pub(crate) fn policy(&self) -> String {
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; form-action {}; base-uri 'none'; frame-ancestors 'none'",
            self.form_action
        )
    }
}

/// Returns the `form-action` of the policy.
///
/// Browsers also check the redirect that follows a form. The policy must include the redirect URI.
fn form_action(redirect_uri: &str) -> String {
    match Url::parse(redirect_uri).map(|url| (url.origin(), url)) {
        // A policy cannot contain an IPv6 address (CSP level 3 section 2.3.1).
        Ok((Origin::Tuple(scheme, Host::Ipv6(_), _), _)) => format!("'self' {scheme}:"),
        Ok((Origin::Tuple(..), url)) => format!("'self' {}", url.origin().ascii_serialization()),
        // The custom scheme of a mobile application.
        Ok((Origin::Opaque(_), url)) => format!("'self' {}:", url.scheme()),
        Err(_) => "'self'".to_owned(),
    }
}

fn form(action: &str, pending: &str) -> String {
    let hidden = hidden("request", pending);
    format!("<form method=\"post\" action=\"{action}\">\n{hidden}")
}

fn hidden(name: &str, value: &str) -> String {
    let value = escaped(value);
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n")
}

/// Escapes text for an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "body{font-family:sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem}button{display:block;width:100%;margin:.5rem 0;padding:.6rem;text-align:left;font:inherit}";
