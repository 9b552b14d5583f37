//! An API that decides twice: whether the *client* was allowed, and whether the *user* may.
//!
//! ```sh
//! cargo run --example delegated_access
//! ```
//!
//! Identity provider and APIs run inside this program and talk over HTTP, on loopback. A user calls a
//! web API with their token, and that API calls the drive on behalf of the user. There are two such
//! APIs: the printer was granted `Files.Read`, and the planner only `Files.List`.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

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
/// What users have in front of them.
const APP: &str = "app";
const ADELE: &str = "adele@contoso.onmicrosoft.com";
const MEGAN: &str = "megan@contoso.onmicrosoft.com";

#[tokio::main]
async fn main() -> Result<()> {
    let world = World::start().await?;
    for api in [&world.printer, &world.planner] {
        for owner in [ADELE, MEGAN] {
            let answer = world.ask_as(ADELE, api, owner).await?;
            report(&format!("adele by the {}", api.name), owner, &answer);
        }
    }
    for owner in [ADELE, MEGAN] {
        let answer = world.ask_as_an_application(owner).await?;
        report("the backup by itself", owner, &answer);
    }
    Ok(())
}

fn report(who: &str, owner: &str, (status, text): &(StatusCode, String)) {
    let (owner, _) = owner.split_once('@').unwrap_or((owner, ""));
    println!("{who:<22} {owner}'s file   {} {text}", status.as_u16());
}

/// The drive: its files, and who they belong to.
#[derive(Clone)]
struct Drive {
    validator: TokenValidator,
    /// The object ids of the users, by their names.
    owners: Arc<Vec<(String, String)>>,
}

/// Both questions are asked, each of whom it concerns, and the answer says which one failed.
async fn file(
    State(drive): State<Drive>,
    AcceptedToken(token): AcceptedToken,
    Path((name, file)): Path<(String, String)>,
) -> Response {
    let owner = drive.owners.iter().find(|(owner, _)| *owner == name);
    let client = token.require_scope("Files.Read");
    let user = token.authorize_user(|user| {
        owner.is_some_and(|(_, object_id)| user.object_id() == Some(object_id))
    });
    match (client, user) {
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

/// A web API that needs the drive for what it does for its users.
#[derive(Clone)]
struct MiddleTier {
    name: &'static str,
    validator: TokenValidator,
    client: ConfidentialClient,
    drive: String,
    url: String,
}

/// The drive's answer, got in the name of whoever called.
async fn pass_on(
    State(api): State<MiddleTier>,
    AcceptedToken(token): AcceptedToken,
    Path(path): Path<String>,
) -> std::result::Result<Response, Response> {
    token
        .require_scope("access_as_user")
        .map_err(IntoResponse::into_response)?;
    let assertion = UserAssertion::new(token.token());
    let answer = api.ask_drive(&assertion, &path).await;
    answer.map_err(|error| match error.downcast_ref::<Error>() {
        // The user has to consent, or to sign in with more: only the caller can see to that.
        Some(error) if error.needs_user_interaction() => {
            (StatusCode::UNAUTHORIZED, error.to_string()).into_response()
        }
        _ => (StatusCode::BAD_GATEWAY, "the drive cannot be asked").into_response(),
    })
}

impl MiddleTier {
    async fn ask_drive(&self, assertion: &UserAssertion, path: &str) -> Result<Response> {
        let scope = format!("{DRIVE}/.default");
        let provider = self.client.token_provider_on_behalf_of(assertion, scope)?;
        // What can fail is told apart from the drive's own answer.
        provider.token().await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let http = reqwest_middleware::ClientBuilder::new(http)
            .with(BearerAuth::new(provider, [&self.drive])?)
            .build();
        let answer = http.get(format!("{}/{path}", self.drive)).send().await?;
        Ok((answer.status(), answer.text().await?).into_response())
    }
}

impl FromRef<MiddleTier> for TokenValidator {
    fn from_ref(api: &MiddleTier) -> Self {
        api.validator.clone()
    }
}

/// Everybody in this story.
struct World {
    authority: LocalAuthority,
    printer: MiddleTier,
    planner: MiddleTier,
    drive: String,
    http: reqwest::Client,
}

impl World {
    async fn start() -> Result<Self> {
        let local = LocalAuthority::start().await?;
        let users = [User::new(ADELE), User::new(MEGAN)];
        let owners = [ADELE, MEGAN].into_iter().map(str::to_owned);
        let owners = owners.zip(users.iter().map(User::object_id)).collect();
        for user in users {
            local.register_user(TENANT, user);
        }
        let published = ["Files.List", "Files.Read"];
        local.register(
            TENANT,
            Application::new("drive").publishes(DRIVE, published),
        );
        let backup = Application::new("backup").secret("s3cret");
        local.register(TENANT, backup.role(DRIVE, "Files.Read.All"));
        local.register(TENANT, Application::new(APP));

        let drive = Drive {
            validator: validator(&local, DRIVE)?,
            owners: Arc::new(owners),
        };
        let router = Router::new().route("/drives/{name}/files/{file}", get(file));
        let drive = serve(router.with_state(drive)).await?;
        Ok(Self {
            printer: middle_tier(&local, "printer", "Files.Read", &drive).await?,
            planner: middle_tier(&local, "planner", "Files.List", &drive).await?,
            authority: local,
            drive,
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// A user's app asks a web API for a file, which asks the drive.
    async fn ask_as(
        &self,
        user: &str,
        api: &MiddleTier,
        owner: &str,
    ) -> Result<(StatusCode, String)> {
        let scope = format!("api://{}/access_as_user", api.name);
        self.authority.consent(TENANT, APP, user, &scope);
        let token = self.authority.user_token(TENANT, APP, user, &scope)?;
        let url = format!("{}/drives/{owner}/files/notes", api.url);
        let answer = self.http.get(url).bearer_auth(token).send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    /// A daemon asks the drive, with a token of its own that no user has a part in.
    async fn ask_as_an_application(&self, owner: &str) -> Result<(StatusCode, String)> {
        let client = ConfidentialClient::builder("backup")
            .authority(self.authority.authority(TENANT))
            .client_secret("s3cret")
            .build()?;
        let token = client.acquire_token_for_client(format!("{DRIVE}/.default"));
        let token = token.await?;
        let url = format!("{}/drives/{owner}/files/notes", self.drive);
        let answer = self
            .http
            .get(url)
            .bearer_auth(token.secret())
            .send()
            .await?;
        Ok((answer.status(), answer.text().await?))
    }
}

async fn middle_tier(
    local: &LocalAuthority,
    name: &'static str,
    granted: &str,
    drive: &str,
) -> Result<MiddleTier> {
    let own = format!("api://{name}");
    let application = Application::new(name).secret("s3cret");
    let application = application.publishes(&own, ["access_as_user"]);
    local.register(TENANT, application.delegated(DRIVE, granted));
    local.admin_consent(TENANT, name, format!("{DRIVE}/{granted}"));
    let mut api = MiddleTier {
        name,
        validator: validator(local, &own)?,
        client: ConfidentialClient::builder(name)
            .authority(local.authority(TENANT))
            .client_secret("s3cret")
            .build()?,
        drive: drive.to_owned(),
        url: String::new(),
    };
    let router = Router::new().route("/{*path}", get(pass_on));
    api.url = serve(router.with_state(api.clone())).await?;
    Ok(api)
}

fn validator(local: &LocalAuthority, audience: &str) -> Result<TokenValidator> {
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience(audience)
        .single_tenant();
    Ok(validator.build()?)
}

/// Where it is served, until the program ends.
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
    async fn the_drive_asks_both_questions() {
        let world = World::start().await.unwrap();
        let client = "the client was not granted the scope 'Files.Read'";
        let user = "the user may not do this, whatever the client was granted";
        let neither = format!("{client}; {user}");
        for (api, owner, status, text) in [
            (&world.printer, ADELE, 200, "what is in notes"),
            (&world.printer, MEGAN, 403, user),
            (&world.planner, ADELE, 403, client),
            (&world.planner, MEGAN, 403, neither.as_str()),
        ] {
            let answer = world.ask_as(ADELE, api, owner).await.unwrap();
            assert_eq!(
                (answer.0.as_u16(), answer.1.as_str()),
                (status, text),
                "{owner}"
            );
        }
        // Each user is told of their own.
        let answer = world.ask_as(MEGAN, &world.printer, MEGAN).await.unwrap();
        assert_eq!(answer.0, 200);
        let answer = world.ask_as(MEGAN, &world.printer, ADELE).await.unwrap();
        assert_eq!(answer.1, user);
    }

    #[tokio::test]
    async fn an_applications_token_never_passes_for_a_users() {
        let world = World::start().await.unwrap();
        for owner in [ADELE, MEGAN] {
            let (status, text) = world.ask_as_an_application(owner).await.unwrap();
            assert_eq!(status, 403);
            assert!(text.contains("requires a user token"), "{text}");
        }
    }
}
