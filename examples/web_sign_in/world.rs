//! What is around the app: its users' identity provider, and the API that has their files.

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

use crate::{App, Result, Sessions, pages};

pub(crate) const ADELE: &str = "Adele Vance";
pub(crate) const MEGAN: &str = "Megan Bowen";
pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const DRIVE: &str = "api://drive";

/// The drive, in earnest a program of its own: the files of its users, by their object ids.
#[derive(Clone)]
struct Drive {
    validator: TokenValidator,
    files: Arc<HashMap<String, String>>,
}

async fn content(
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

/// Identity provider, users, drive and app, each on a port of its own.
pub(crate) struct World {
    pub(crate) app: App,
    #[cfg_attr(not(test), expect(dead_code, reason = "it ends when it is dropped"))]
    pub(crate) authority: LocalAuthority,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let local = LocalAuthority::start().await?;
        let drive = Application::new("drive").publishes(DRIVE, ["Files.Read", "Files.Write"]);
        local.register(TENANT, drive);
        let mut files = HashMap::new();
        for name in [ADELE, MEGAN] {
            let address = name.replace(' ', ".").to_lowercase();
            let user = User::new(format!("{address}@{TENANT}")).name(name);
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
        let drive = Router::new().route("/file", get(content)).with_state(drive);
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
            drive: format!("{drive_url}/file"),
            url,
        };
        tokio::spawn(axum::serve(listener, pages(app.clone())).into_future());
        Ok(Self {
            app,
            authority: local,
        })
    }
}

async fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}
