//! The services around the app. An identity provider has the users, and the drive has the files.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use confidential_client::adapter::AcceptedToken;
use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::resource::{TokenRejection, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, User};
use confidential_client::{Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder};
use tokio::net::{TcpListener, TcpStream};

use crate::{App, Result, Sessions, router};

pub(crate) const ADELE: &str = "Adele Vance";
pub(crate) const MEGAN: &str = "Megan Bowen";
pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
pub(crate) const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const DRIVE: &str = "api://drive";
const LOCAL_AUTHORITY: &str = "127.0.0.1:8400";

/// The drive, an API with one file for each user. A real drive is a separate program.
#[derive(Clone)]
struct Drive {
    validator: TokenValidator,
    /// The file of each user, by the user's object id. `None` is a drive on which each user has
    /// the same file.
    files: Option<Arc<HashMap<String, String>>>,
}

impl Drive {
    fn new(authority: Authority, files: Option<HashMap<String, String>>) -> Result<Self> {
        let validator = TokenValidator::builder(authority)
            .audience(DRIVE)
            // The application of the drive in the example `local_authority`.
            .audience("66666666-7777-8888-9999-000000000000")
            .single_tenant();
        Ok(Self {
            validator: validator.build()?,
            files: files.map(Arc::new),
        })
    }

    /// Serves the drive on loopback and returns its URL.
    async fn serve(self) -> Result<String> {
        let (listener, url) = listen().await?;
        let router = Router::new().route("/file", get(get_file)).with_state(self);
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(url)
    }
}

async fn get_file(
    State(drive): State<Drive>,
    AcceptedToken(token): AcceptedToken,
) -> Result<Response, TokenRejection> {
    token.require_scope("Files.Read")?;
    let Some(files) = &drive.files else {
        return Ok("the notes of all users".into_response());
    };
    let file = token.object_id().and_then(|user| files.get(user));
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
        let drive = Drive::new(local.authority(TENANT), Some(files))?;
        let drive_url = drive.serve().await?;

        let (listener, url) = listen().await?;
        let application = Application::new(CLIENT_ID)
            .secret("s3cret")
            .redirect_uri(format!("{url}/signed-in"));
        local.register(TENANT, application);
        let client = client(local.authority(TENANT)).build()?;
        let app = App::new(client, Sessions::default(), url, &drive_url)?;
        app.serve(listener);
        Ok(Self { app, local })
    }
}

/// Starts the drive and the app with an identity provider that runs in another program, and with
/// sessions and tokens in Redis.
pub(crate) async fn start_with_redis(redis_url: &str) -> Result<App> {
    if TcpStream::connect(LOCAL_AUTHORITY).await.is_err() {
        return Err(
            "start the identity provider: cargo run --example local_authority -- 8400".into(),
        );
    }
    let cloud = Cloud::Custom(format!("http://{LOCAL_AUTHORITY}"));
    let authority = Authority::entra(cloud, TENANT);
    let drive_url = Drive::new(authority.clone(), None)?.serve().await?;
    let listener = TcpListener::bind("127.0.0.1:5000").await?;
    let (client, sessions) = in_redis(client(authority), redis_url)?;
    let app = App::new(
        client.build()?,
        sessions,
        "http://localhost:5000".to_owned(),
        &drive_url,
    )?;
    app.serve(listener);
    Ok(app)
}

pub(crate) fn client(authority: Authority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .client_secret("s3cret")
}

/// Keeps the tokens and the sessions in Redis.
pub(crate) fn in_redis(
    client: ConfidentialClientBuilder,
    redis_url: &str,
) -> Result<(ConfidentialClientBuilder, Sessions)> {
    let redis = redis::Client::open(redis_url)?;
    // A real app reads both keys from its vault. `openssl rand -base64 32` creates such a key.
    let key = EncryptionKey::from_base64("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")?;
    let options = SharedCacheOptions::encrypted("the name key of the example", [key]);
    let client = client.shared_cache(RedisCache::new(redis.clone()), options);
    Ok((client, Sessions::in_redis(redis)))
}

impl App {
    pub(crate) fn new(
        client: ConfidentialClient,
        sessions: Sessions,
        url: String,
        drive_url: &str,
    ) -> Result<Self> {
        Ok(Self {
            client,
            sessions,
            http: reqwest::Client::builder().no_proxy().build()?,
            file_url: format!("{drive_url}/file"),
            url,
        })
    }

    pub(crate) fn serve(&self, listener: TcpListener) {
        tokio::spawn(axum::serve(listener, router(self.clone())).into_future());
    }
}

/// Binds a free port on loopback and returns the URL.
pub(crate) async fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}
