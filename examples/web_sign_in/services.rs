//! The services around the app. An identity provider has the users, and the drive has the files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use confidential_client::ConfidentialClient;
use confidential_client::adapter::AcceptedToken;
use confidential_client::resource::{TokenRejection, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, User};
use tokio::net::TcpListener;

use crate::{App, Result, Sessions, router};

pub(crate) const ADELE: &str = "Adele Vance";
pub(crate) const MEGAN: &str = "Megan Bowen";
pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const DRIVE: &str = "api://drive";

/// The drive, an API with one file for each user. A real drive is a separate program.
#[derive(Clone)]
struct Drive {
    validator: TokenValidator,
    /// The file of each user, by the user's object id.
    files: Arc<HashMap<String, String>>,
}

async fn get_file(
    State(drive): State<Drive>,
    AcceptedToken(token): AcceptedToken,
) -> Result<Response, TokenRejection> {
    token.require_scope("Files.Read")?;
    let file = token.object_id().and_then(|user| drive.files.get(user));
    Ok(match file {
        Some(text) => text.clone().into_response(),
        None => (StatusCode::NOT_FOUND, "you have no file").into_response(),
    })
}

impl FromRef<Drive> for TokenValidator {
    fn from_ref(drive: &Drive) -> Self {
        drive.validator.clone()
    }
}

/// The identity provider, the drive and the app, each on a separate port.
pub(crate) struct Services {
    pub(crate) app: App,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the identity provider stops on drop")
    )]
    pub(crate) local: LocalAuthority,
}

impl Services {
    pub(crate) async fn start() -> Result<Self> {
        let local = LocalAuthority::start().await?;
        let drive = Application::new("drive").publishes(DRIVE, ["Files.Read", "Files.Write"]);
        local.register(TENANT, drive);
        let mut files = HashMap::new();
        for name in [ADELE, MEGAN] {
            let mailbox = name.replace(' ', ".").to_lowercase();
            let user = User::new(format!("{mailbox}@{TENANT}")).name(name);
            files.insert(user.object_id(), format!("{name}'s notes: <b>1 < 2</b>"));
            local.register_user(TENANT, user);
        }
        let drive = Drive {
            validator: TokenValidator::builder(local.authority(TENANT))
                .audience(DRIVE)
                .single_tenant()
                .build()?,
            files: Arc::new(files),
        };
        let drive = Router::new()
            .route("/file", get(get_file))
            .with_state(drive);
        let (listener, drive_url) = listen().await?;
        tokio::spawn(axum::serve(listener, drive).into_future());

        let (listener, url) = listen().await?;
        let application = Application::new(CLIENT_ID)
            .secret("s3cret")
            .redirect_uri(format!("{url}/signed-in"));
        local.register(TENANT, application);
        let app = App {
            client: ConfidentialClient::builder(CLIENT_ID)
                .authority(local.authority(TENANT))
                .client_secret("s3cret")
                .build()?,
            sessions: Sessions::default(),
            http: reqwest::Client::builder().no_proxy().build()?,
            file_url: format!("{drive_url}/file"),
            url,
        };
        tokio::spawn(axum::serve(listener, router(app.clone())).into_future());
        Ok(Self { app, local })
    }
}

/// Binds a free port on loopback and returns the URL.
async fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}
