use http::header::HeaderName;

use super::host_kind::{HostKind, IdKind};
use super::rejection::HostRejection;
use crate::testing::recorded_request::RecordedRequest;

/// The checked parameters of a token request.
#[derive(Debug)]
pub(crate) struct TokenQuery {
    pub(crate) resource: String,
    /// The identity of the request, with the name of the parameter.
    pub(crate) id: Option<(&'static str, IdKind, String)>,
    pub(crate) capabilities: Vec<String>,
    /// The SHA-256 of a token that an API rejected, in hexadecimal digits.
    pub(crate) rejected_token: Option<String>,
}

impl TokenQuery {
    /// Checks the headers and the parameters of a request, as the endpoint of `kind` does.
    pub(crate) fn check(
        kind: HostKind,
        request: &RecordedRequest,
        secret: &str,
    ) -> Result<Self, HostRejection> {
        check_headers(kind, request, secret)?;
        let parameters = match kind {
            HostKind::CloudShell => request.form(),
            _ => request.query(),
        };
        if let Some(name) = first_repeated(parameters) {
            let text = format!("The parameter '{name}' is sent twice.");
            return Err(HostRejection::Parameter(text));
        }
        let value = |name: &str| {
            let mut found = parameters.iter().filter(|(known, _)| known == name);
            let value = found.next().map(|(_, value)| value.clone());
            value.filter(|value| !value.is_empty())
        };
        let versions = kind.api_versions();
        let version = value(API_VERSION);
        if !versions.is_empty() && version.as_deref().is_none_or(|it| !versions.contains(&it)) {
            return Err(HostRejection::ApiVersion(version, versions));
        }
        check_names(kind, parameters)?;
        let ids = kind.id_parameters().iter();
        let mut ids = ids.filter_map(|(name, id)| Some((*name, *id, value(name)?)));
        let id = ids.next();
        if let (Some((one, ..)), Some((other, ..))) = (&id, ids.next()) {
            let text = format!("The parameters '{one}' and '{other}' exclude one another.");
            return Err(HostRejection::Parameter(text));
        }
        let capabilities = value("xms_cc").unwrap_or_default();
        Ok(Self {
            resource: value(RESOURCE).ok_or(HostRejection::NoResource)?,
            id,
            capabilities: capabilities
                .split(',')
                .filter(|it| !it.is_empty())
                .map(ToOwned::to_owned)
                .collect(),
            rejected_token: value("token_sha256_to_refresh"),
        })
    }
}

fn check_headers(
    kind: HostKind,
    request: &RecordedRequest,
    secret: &str,
) -> Result<(), HostRejection> {
    match kind.secret_header() {
        None if request.header(METADATA.as_str()) != Some("true") => {
            Err(HostRejection::NoHeader("Metadata"))
        }
        Some(name) if request.header(name).is_none() => Err(HostRejection::NoHeader(name)),
        Some(name) if request.header(name) != Some(secret) => Err(HostRejection::WrongSecret),
        // A forwarded request may come from another machine.
        None if request.headers().contains_key(FORWARDED_FOR) => Err(HostRejection::Parameter(
            "The request has the header 'X-Forwarded-For'.".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Rejects a parameter that belongs to another kind of host. Azure's endpoints ignore some.
fn check_names(kind: HostKind, parameters: &[(String, String)]) -> Result<(), HostRejection> {
    let ids = kind.id_parameters().iter().map(|(name, _)| *name);
    let mut known: Vec<&str> = vec![RESOURCE];
    known.extend(ids);
    known.extend(kind.other_parameters());
    if !kind.api_versions().is_empty() {
        known.push(API_VERSION);
    }
    let mut names = parameters.iter().map(|(name, _)| name.as_str());
    match names.find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let known = known.join("', '");
            Err(HostRejection::Parameter(format!(
                "The endpoint has no parameter '{name}'. The parameters are '{known}'."
            )))
        }
    }
}

fn first_repeated(parameters: &[(String, String)]) -> Option<&str> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in parameters {
        if seen.contains(&name.as_str()) {
            return Some(name);
        }
        seen.push(name);
    }
    None
}

const API_VERSION: &str = "api-version";
const RESOURCE: &str = "resource";
const METADATA: HeaderName = HeaderName::from_static("metadata");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
