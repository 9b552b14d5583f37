//! An API that checks both the *client's* scope and the *user's* right to a file.
//!
//! ```sh
//! cargo run --example delegated_access
//! ```
//!
//! A user's app calls a web API with the user's token. The web API calls the drive on behalf of the
//! user. There are two web APIs. The printer has the scope `Files.Read`, and the planner only
//! `Files.List`. The identity provider and the APIs run inside this program and communicate over
//! HTTP, on loopback.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use confidential_client::adapter::{AcceptedToken, BearerAuth};
use confidential_client::delegated::UserAssertion;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, LocalAuthority, User};
use confidential_client::{ConfidentialClient, Error};
use reqwest::StatusCode;
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const DRIVE: &str = "api://drive";
/// The client id of the users' app.
const APP: &str = "app";
const ADELE: &str = "adele@contoso.onmicrosoft.com";
const MEGAN: &str = "megan@contoso.onmicrosoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    let services = Services::start().await?;
    for api in [&services.printer, &services.planner] {
        for owner in [ADELE, MEGAN] {
            let response = services.call_as_user(ADELE, api, owner).await?;
            print_response(&format!("adele by the {}", api.name), owner, &response);
        }
    }
    for owner in [ADELE, MEGAN] {
        let response = services.call_as_application(owner).await?;
        print_response("the backup by itself", owner, &response);
    }
    Ok(())
}

fn print_response(caller: &str, owner: &str, (status, text): &(StatusCode, String)) {
    let (owner, _) = owner.split_once('@').unwrap_or((owner, ""));
    println!("{caller:<22} {owner}'s file   {} {text}", status.as_u16());
}

/// The drive, an API with files of users.
#[derive(Clone)]
struct Drive {
    validator: TokenValidator,
    /// The name and the object id of each user.
    owners: Arc<Vec<(String, String)>>,
}

/// Checks the client and the user. The 403 response names each check that failed.
async fn get_file(
    State(drive): State<Drive>,
    AcceptedToken(token): AcceptedToken,
    Path((name, file)): Path<(String, String)>,
) -> Response {
    let owner = drive.owners.iter().find(|(owner, _)| *owner == name);
    let client_check = token.require_scope("Files.Read");
    let user_check = token.authorize_user(|user| {
        owner.is_some_and(|(_, object_id)| user.object_id() == Some(object_id))
    });
    match (client_check, user_check) {
        (Ok(()), Ok(())) => format!("what is in {file}").into_response(),
        (Ok(()), Err(user)) => user.into_response(),
        (Err(client), Ok(())) => client.into_response(),
        (Err(client), Err(user)) => {
            let text = format!("{client}; {user}");
            let (parts, _) = client.into_response().into_parts();
            (parts.status, parts.headers, text).into_response()
        }
    }
}

impl FromRef<Drive> for TokenValidator {
    fn from_ref(drive: &Drive) -> Self {
        drive.validator.clone()
    }
}

/// A web API that calls the drive on behalf of users.
#[derive(Clone)]
struct MiddleTier {
    name: &'static str,
    validator: TokenValidator,
    client: ConfidentialClient,
    drive_url: String,
    url: String,
}

/// Forwards the request to the drive on behalf of the user.
async fn forward(
    State(api): State<MiddleTier>,
    AcceptedToken(token): AcceptedToken,
    Path(path): Path<String>,
) -> std::result::Result<Response, Response> {
    token
        .require_scope("access_as_user")
        .map_err(IntoResponse::into_response)?;
    let assertion = UserAssertion::new(token.token());
    let response = api.call_drive(&assertion, &path).await;
    response.map_err(|error| match error.downcast_ref::<Error>() {
        // Only the caller can let the user consent or sign in again.
        Some(error) if error.needs_user_interaction() => match token.challenge_from(error) {
            Some(challenge) => challenge.into_response(),
            None => (StatusCode::FORBIDDEN, "consent is missing").into_response(),
        },
        _ => (StatusCode::BAD_GATEWAY, "the drive cannot be reached").into_response(),
    })
}

impl MiddleTier {
    async fn call_drive(&self, assertion: &UserAssertion, path: &str) -> Result<Response> {
        let scope = format!("{DRIVE}/.default");
        let provider = self.client.token_provider_on_behalf_of(assertion, scope)?;
        // Returns the client's error as it is. The middleware below would wrap the error.
        provider.token().await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let http = reqwest_middleware::ClientBuilder::new(http)
            .with(BearerAuth::new(provider, [&self.drive_url])?)
            .build();
        let url = format!("{}/{path}", self.drive_url);
        let response = http.get(url).send().await?;
        Ok((response.status(), response.text().await?).into_response())
    }
}

impl FromRef<MiddleTier> for TokenValidator {
    fn from_ref(api: &MiddleTier) -> Self {
        api.validator.clone()
    }
}

/// The identity provider, the drive and the two web APIs.
struct Services {
    local: LocalAuthority,
    printer: MiddleTier,
    planner: MiddleTier,
    drive_url: String,
    http: reqwest::Client,
}

impl Services {
    async fn start() -> Result<Self> {
        let local = LocalAuthority::start().await?;
        let mut owners = Vec::new();
        for name in [ADELE, MEGAN] {
            let user = User::new(name);
            owners.push((name.to_owned(), user.object_id()));
            local.register_user(TENANT, user);
        }
        let drive = Application::new("drive");
        local.register(TENANT, drive.publishes(DRIVE, ["Files.List", "Files.Read"]));
        let backup = Application::new("backup").secret("s3cret");
        local.register(TENANT, backup.role(DRIVE, "Files.Read.All"));
        local.register(TENANT, Application::new(APP));

        let drive = Drive {
            validator: validator(&local, DRIVE)?,
            owners: Arc::new(owners),
        };
        let router = Router::new().route("/drives/{name}/files/{file}", get(get_file));
        let drive_url = serve(router.with_state(drive)).await?;
        Ok(Self {
            printer: start_middle_tier(&local, "printer", "Files.Read", &drive_url).await?,
            planner: start_middle_tier(&local, "planner", "Files.List", &drive_url).await?,
            local,
            drive_url,
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// Calls a web API with a user's token, as the user's app does.
    async fn call_as_user(
        &self,
        user: &str,
        api: &MiddleTier,
        owner: &str,
    ) -> Result<(StatusCode, String)> {
        let scope = format!("api://{}/access_as_user", api.name);
        self.local.consent(TENANT, APP, user, &scope);
        let token = self.local.user_token(TENANT, APP, user, &scope)?;
        self.get_notes(&api.url, owner, &token).await
    }

    /// Calls the drive with an application's token, as a daemon without a user does.
    async fn call_as_application(&self, owner: &str) -> Result<(StatusCode, String)> {
        let client = ConfidentialClient::builder("backup")
            .authority(self.local.authority(TENANT))
            .client_secret("s3cret")
            .build()?;
        let scope = format!("{DRIVE}/.default");
        let token = client.acquire_token_for_client(scope).await?;
        self.get_notes(&self.drive_url, owner, token.secret()).await
    }

    async fn get_notes(
        &self,
        base_url: &str,
        owner: &str,
        token: &str,
    ) -> Result<(StatusCode, String)> {
        let url = format!("{base_url}/drives/{owner}/files/notes");
        let response = self.http.get(url).bearer_auth(token).send().await?;
        Ok((response.status(), response.text().await?))
    }
}

/// Registers and serves a web API that has one scope of the drive.
async fn start_middle_tier(
    local: &LocalAuthority,
    name: &'static str,
    drive_scope: &str,
    drive_url: &str,
) -> Result<MiddleTier> {
    let audience = format!("api://{name}");
    let application = Application::new(name)
        .secret("s3cret")
        .publishes(&audience, ["access_as_user"])
        .delegated(DRIVE, drive_scope);
    local.register(TENANT, application);
    local.admin_consent(TENANT, name, format!("{DRIVE}/{drive_scope}"));
    let mut api = MiddleTier {
        name,
        validator: validator(local, &audience)?,
        client: ConfidentialClient::builder(name)
            .authority(local.authority(TENANT))
            .client_secret("s3cret")
            .build()?,
        drive_url: drive_url.to_owned(),
        url: String::new(),
    };
    let router = Router::new().route("/{*path}", get(forward));
    api.url = serve(router.with_state(api.clone())).await?;
    Ok(api)
}

fn validator(local: &LocalAuthority, audience: &str) -> Result<TokenValidator> {
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience(audience)
        .single_tenant();
    Ok(validator.build()?)
}

/// Serves the router on loopback until the program ends, and returns the URL.
async fn serve(router: Router) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_drive_checks_the_client_and_the_user() {
        let services = Services::start().await.unwrap();
        let client = "the client was not granted the scope 'Files.Read'";
        let user = "the user may not do this, whatever the client was granted";
        let both = format!("{client}; {user}");
        for (api, owner, status, text) in [
            (&services.printer, ADELE, 200, "what is in notes"),
            (&services.printer, MEGAN, 403, user),
            (&services.planner, ADELE, 403, client),
            (&services.planner, MEGAN, 403, both.as_str()),
        ] {
            let response = services.call_as_user(ADELE, api, owner).await.unwrap();
            assert_eq!(
                (response.0.as_u16(), response.1.as_str()),
                (status, text),
                "{owner}"
            );
        }
        // Each user can read only the user's own file.
        let response = services
            .call_as_user(MEGAN, &services.printer, MEGAN)
            .await
            .unwrap();
        assert_eq!(response.0, 200);
        let response = services
            .call_as_user(MEGAN, &services.printer, ADELE)
            .await
            .unwrap();
        assert_eq!(response.1, user);
    }

    #[tokio::test]
    async fn an_application_token_is_never_accepted_as_a_user_token() {
        let services = Services::start().await.unwrap();
        for owner in [ADELE, MEGAN] {
            let (status, text) = services.call_as_application(owner).await.unwrap();
            assert_eq!(status, 403);
            assert!(text.contains("requires a user token"), "{text}");
        }
    }
}
