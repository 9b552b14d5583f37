//! The Azure CLI and the Azure Developer CLI as sources of tokens.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use serde_json::Value;

use super::command::{CommandFailure, ToolCommand, find_program};
use super::{Link, LinkFailure, LinkFuture, LinkRequest};
use crate::error::{Error, Failure};
use crate::managed_identity::{HostEnvironment, IdentityToken, time};
use crate::response::json_object;
use crate::secret::Secret;
use crate::time::{Now, TimeSource, format_limit, format_time};

mod message;

/// The Azure CLI, `az`, as a source of tokens on a developer's machine.
///
/// The token belongs to the account of `az login`. Each token request runs
/// `az account get-access-token`. The client caches the token.
///
/// The value is a description. Creating one does no I/O.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "AzureCliCredential")]
pub struct AzureCli(ToolSettings);

/// The Azure Developer CLI, `azd`, as a source of tokens on a developer's machine.
///
/// The token belongs to the account of `azd auth login`. Each token request runs
/// `azd auth token`. The client caches the token.
///
/// The value is a description. Creating one does no I/O.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "AzureDeveloperCliCredential")]
pub struct AzureDeveloperCli(ToolSettings);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ToolSettings {
    tenant: Option<String>,
    time_limit: Duration,
}

impl Default for ToolSettings {
    fn default() -> Self {
        Self {
            tenant: None,
            time_limit: TIME_LIMIT,
        }
    }
}

macro_rules! description {
    ($name:ident, $tool:expr) => {
        impl $name {
            /// Describes the program with the account's default tenant.
            pub fn new() -> Self {
                Self(ToolSettings::default())
            }

            /// Sets the tenant, by its GUID or one of its domains.
            ///
            /// The default is the tenant of the account.
            #[must_use]
            pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
                self.0.tenant = Some(tenant.into());
                self
            }

            /// Sets the longest time that the program may run. The default is 13 seconds.
            ///
            /// The client kills the program at the limit.
            #[must_use]
            pub fn time_limit(mut self, limit: Duration) -> Self {
                self.0.time_limit = limit;
                self
            }

            /// Checks the settings and returns the link of a chain.
            pub(crate) fn into_link(
                self,
                environment: HostEnvironment,
                clock: TimeSource,
            ) -> Result<DeveloperToolLink, Error> {
                DeveloperToolLink::new($tool, self.0, environment, clock)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

description!(AzureCli, Tool::AzureCli);
description!(AzureDeveloperCli, Tool::AzureDeveloperCli);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    AzureCli,
    AzureDeveloperCli,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::AzureCli => "Azure CLI",
            Self::AzureDeveloperCli => "Azure Developer CLI",
        }
    }

    /// Returns the name that people type.
    fn program(self) -> &'static str {
        match self {
            Self::AzureCli => "az",
            Self::AzureDeveloperCli => "azd",
        }
    }

    /// Returns the names of the program's file.
    fn file_names(self) -> &'static [&'static str] {
        match (self, cfg!(windows)) {
            (Self::AzureCli, false) => &["az"],
            (Self::AzureCli, true) => &["az.cmd", "az.exe"],
            (Self::AzureDeveloperCli, false) => &["azd"],
            (Self::AzureDeveloperCli, true) => &["azd.exe", "azd.cmd"],
        }
    }

    fn login(self) -> &'static str {
        match self {
            Self::AzureCli => "az login",
            Self::AzureDeveloperCli => "azd auth login",
        }
    }

    fn tenant_option(self) -> &'static str {
        match self {
            Self::AzureCli => "--tenant",
            Self::AzureDeveloperCli => "--tenant-id",
        }
    }

    /// Returns the page with the instructions of installation.
    fn installation(self) -> &'static str {
        match self {
            Self::AzureCli => "https://aka.ms/azure-cli",
            Self::AzureDeveloperCli => "https://aka.ms/azure-dev",
        }
    }

    /// Returns the arguments. The values are checked, so none of them is read as an option.
    fn arguments(self, scopes: &[&str], tenant: Option<&str>) -> Vec<String> {
        let command = match self {
            Self::AzureCli => ["account", "get-access-token"],
            Self::AzureDeveloperCli => ["auth", "token"],
        };
        let mut arguments = [command[0], command[1], "--output", "json"].to_vec();
        match self {
            Self::AzureCli => {
                arguments.push("--scope");
                arguments.extend(scopes);
            }
            Self::AzureDeveloperCli => {
                for scope in scopes {
                    arguments.extend(["--scope", scope]);
                }
                arguments.push("--no-prompt");
            }
        }
        if let Some(tenant) = tenant {
            arguments.extend([self.tenant_option(), tenant]);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// A link that runs a command-line program.
pub(crate) struct DeveloperToolLink {
    tool: Tool,
    settings: ToolSettings,
    environment: HostEnvironment,
    clock: TimeSource,
}

impl DeveloperToolLink {
    fn new(
        tool: Tool,
        settings: ToolSettings,
        environment: HostEnvironment,
        clock: TimeSource,
    ) -> Result<Self, Error> {
        if settings.time_limit.is_zero() {
            return Err(Error::config(format!(
                "time_limit of the {} must be greater than zero",
                tool.name()
            )));
        }
        if let Some(tenant) = &settings.tenant {
            check_argument("tenant", tenant, TENANT_CHARACTERS)?;
        }
        Ok(Self {
            tool,
            settings,
            environment,
            clock,
        })
    }

    async fn token(&self, request: &LinkRequest<'_>) -> Result<IdentityToken, LinkFailure> {
        let tool = self.tool;
        let scopes: Vec<&str> = request.scopes.split_ascii_whitespace().collect();
        if scopes.is_empty() {
            return Err(
                Error::config(format!("a token of the {} needs a scope", tool.name())).into(),
            );
        }
        for scope in &scopes {
            check_argument("scope", scope, SCOPE_CHARACTERS)?;
        }
        let tenant = request.tenant.or(self.settings.tenant.as_deref());
        if let Some(tenant) = tenant {
            check_argument("tenant", tenant, TENANT_CHARACTERS)?;
        }
        if let Some(claims) = request.claims {
            return Err(self.claims_error(claims, &scopes, tenant, request).into());
        }
        let search_path = self.environment.value("PATH").unwrap_or_default();
        let command = self.command(search_path, &scopes, tenant).await?;
        let requested_at = self.clock.now();
        let output = match command.run().await {
            Ok(output) => output,
            Err(CommandFailure::TimedOut) => {
                return Err(LinkFailure::Unavailable(format!(
                    "'{}' did not end within {}; run the command in a terminal to see why, or set a longer time_limit",
                    tool.program(),
                    format_limit(self.settings.time_limit)
                )));
            }
            Err(CommandFailure::NotStarted(error)) => {
                return Err(LinkFailure::Unavailable(format!(
                    "'{}' cannot be started: {error}",
                    tool.program()
                )));
            }
        };
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = message::explain(tool, output.status.code(), &stderr, tenant);
            return Err(LinkFailure::Unavailable(reason));
        }
        parse(tool, &output.stdout, requested_at, self.clock.wall())
            .map_err(LinkFailure::Unavailable)
    }

    async fn command(
        &self,
        search_path: OsString,
        scopes: &[&str],
        tenant: Option<&str>,
    ) -> Result<ToolCommand, LinkFailure> {
        let tool = self.tool;
        let folders = search_path.clone();
        let found = tokio::task::spawn_blocking(move || find_program(&folders, tool.file_names()));
        // A runtime that stops tells nothing.
        let Some(program) = found.await.ok().flatten() else {
            return Err(LinkFailure::Unavailable(message::not_installed(tool)));
        };
        Ok(ToolCommand {
            program,
            arguments: tool.arguments(scopes, tenant),
            search_path,
            folder: self.safe_folder()?,
            limit: self.settings.time_limit,
        })
    }

    /// Returns a working directory in which nobody can leave a program.
    fn safe_folder(&self) -> Result<PathBuf, LinkFailure> {
        if !cfg!(windows) {
            return Ok(PathBuf::from("/"));
        }
        let folder = self.environment.value("SystemRoot").map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute()).ok_or_else(|| {
            LinkFailure::Unavailable("the variable SystemRoot is not set to a folder".to_owned())
        })
    }

    /// Returns the error for claims, which need the user.
    fn claims_error(
        &self,
        claims: &str,
        scopes: &[&str],
        tenant: Option<&str>,
        request: &LinkRequest<'_>,
    ) -> Error {
        let tool = self.tool;
        let mut command = tool.login().to_owned();
        if let Some(tenant) = tenant {
            command.push_str(&format!(" {} {tenant}", tool.tenant_option()));
        }
        for scope in scopes {
            command.push_str(&format!(" --scope {scope}"));
        }
        let challenge = BASE64_STANDARD.encode(claims);
        let message = format!(
            "an API requires claims that the {} has not got; run '{command} --claims-challenge {challenge}'",
            tool.name()
        );
        let failure = Failure::new(message).correlation_id(request.correlation_id);
        Error::InteractionRequired(failure.claims(Some(claims.into())).into())
    }
}

impl Link for DeveloperToolLink {
    fn name(&self) -> &str {
        self.tool.name()
    }

    fn time_limit(&self) -> Duration {
        self.settings.time_limit
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(async { Ok(self.token(request).await?.into()) })
    }
}

/// Parses the output of a program that succeeded. The error shows no part of the output.
fn parse(
    tool: Tool,
    output: &[u8],
    requested_at: Now,
    received: SystemTime,
) -> Result<IdentityToken, String> {
    let unreadable = |why: &str| format!("the output of '{}' {why}", tool.program());
    // serde's message is dropped, because serde quotes the input, which has the token.
    let body = json_object(output).ok_or_else(|| unreadable("is not a JSON object"))?;
    let (token_member, expiry_members): (_, &[&str]) = match tool {
        // `expires_on` is newer than `expiresOn`, which is local time without a zone.
        Tool::AzureCli => ("accessToken", &["expires_on", "expiresOn"]),
        Tool::AzureDeveloperCli => ("token", &["expiresOn"]),
    };
    let token = body.get(token_member).and_then(Value::as_str);
    let Some(token) = token.filter(|token| !token.trim().is_empty()) else {
        return Err(unreadable(&format!("has no '{token_member}'")));
    };
    if HeaderValue::from_str(token).is_err() {
        return Err(unreadable(&format!(
            "has a '{token_member}' that cannot be sent in a header"
        )));
    }
    let expiry = expiry_members
        .iter()
        .find_map(|name| time(body.get(*name)?));
    let Some(expires_on) = expiry else {
        return Err(unreadable("has no expiry that can be read"));
    };
    let expires_in = expires_on.duration_since(received).unwrap_or_default();
    if expires_in.is_zero() {
        return Err(format!(
            "'{}' returned a token that expired at {}; run '{}', or correct the clock of this machine",
            tool.program(),
            format_time(expires_on),
            tool.login()
        ));
    }
    Ok(IdentityToken {
        secret: Secret::from(token),
        expires_in,
        refresh_in: None,
        requested_at,
    })
}

/// Checks a value before the value gets on a command line.
fn check_argument(name: &str, value: &str, others: &str) -> Result<(), Error> {
    let is_accepted = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    let reason = match value.chars().find(|c| !is_accepted(*c)) {
        _ if value.is_empty() => "it is empty".to_owned(),
        Some(c) => format!("it contains the character {c:?}"),
        // The program would read an option.
        None if value.starts_with('-') => "it begins with '-'".to_owned(),
        None => return Ok(()),
    };
    Err(Error::config(format!(
        "the {name} {value:?} cannot be passed to a developer's command-line program: {reason}; the accepted characters are letters, digits and '{others}'"
    )))
}

const SCOPE_CHARACTERS: &str = "-_.:/";
const TENANT_CHARACTERS: &str = "-.";
/// The Azure CLI needs some seconds for its start.
const TIME_LIMIT: Duration = Duration::from_secs(13);

#[cfg(test)]
mod tests;
