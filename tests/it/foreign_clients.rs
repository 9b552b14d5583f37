//! Clients by other authors at a `LocalAuthority` and at an API with a `TokenValidator`: npm's
//! oauth4webapi and jose, and Authlib of PyPI. They decide what is right, by scripts in
//! `tests/interop`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use axum::Json;
use axum::Router;
use axum::routing::any;
use confidential_client::adapter::AcceptedToken;
use confidential_client::resource::{CertificateSource, DpopPolicy, TokenValidator};
use confidential_client::testing::{
    Application, LocalAuthority, ProviderRules, User, self_signed_certificate,
};
use confidential_client::{Authority, Certificate};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{SECRET, TENANT, log_capture};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const ORDERS: &str = "api://orders";
const PARCELS: &str = "api://parcels";
const BACK: &str = "https://app.example/signed-in";

/// The servers, and the folder of the files that a script needs.
struct World {
    local: LocalAuthority,
    folder: PathBuf,
    api: String,
}

impl World {
    async fn start() -> Self {
        log_capture::start();
        let local = LocalAuthority::builder()
            .mutual_tls()
            .rules(ProviderRules::openid())
            .start()
            .await
            .unwrap();
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.pem"), local.ca_pem().unwrap()).unwrap();
        let certificate = |name: &str| {
            let pem = self_signed_certificate(name).unwrap();
            fs::write(folder.join(format!("{name}.pem")), &pem).unwrap();
            Certificate::from_pem(pem).unwrap()
        };
        let (key, tls) = (certificate("key"), certificate("tls"));
        certificate("stranger");
        let web = Application::new("web")
            .secret(SECRET)
            .certificate(&key)
            .redirect_uri(BACK)
            .role(ORDERS, "Orders.Read")
            .role(PARCELS, "Parcels.Read")
            .delegated(ORDERS, "read");
        let dpop = Application::new("dpop").certificate(&key);
        let tls = Application::new("tls").self_signed_tls_client_auth(&tls);
        let gateway = Application::new("gateway")
            .secret(SECRET)
            .publishes("api://gateway", ["call"])
            .exchange(ORDERS, ["read"]);
        let parcels = Application::new("parcels")
            .secret(SECRET)
            .publishes(PARCELS, ["read"])
            .opaque_access_tokens();
        for application in [
            web,
            dpop.role(ORDERS, "Orders.Read").dpop_bound_access_tokens(),
            tls.role(ORDERS, "Orders.Read"),
            gateway,
            parcels,
            Application::new("orders").publishes(ORDERS, ["read"]),
        ] {
            local.register(TENANT, application);
        }
        local.register_user(TENANT, User::new(ADELE));
        local.consent(TENANT, "web", ADELE, "api://gateway/call");
        local.require_dpop_nonce();
        let api = api(&local).await;
        Self { local, folder, api }
    }

    /// Writes what a script needs to know into a file, and returns its path.
    fn description(&self) -> PathBuf {
        let users_token = self
            .local
            .user_token(TENANT, "web", ADELE, "api://gateway/call");
        let description = json!({
            "issuer": self.local.issuer(TENANT).unwrap(),
            "folder": self.folder,
            "secret": SECRET,
            "redirect_uri": BACK,
            "user": ADELE,
            "users_token": users_token.unwrap(),
            "orders": ORDERS,
            "parcels": PARCELS,
            "api": self.api,
        });
        let path = self.folder.join("description.json");
        fs::write(&path, description.to_string()).unwrap();
        path
    }

    /// Runs a script, which ends with an error at the first surprise.
    async fn judge(&self, program: &str, script: &str) {
        let mut judge = Command::new(program);
        let judge = judge.arg(script).arg(self.description());
        let output = judge.stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{stdout}{stderr}");
        assert!(stdout.ends_with("passed, 0 failed\n"), "{stdout}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An API for bound tokens, whose proxy puts the certificate of the connection into a header.
async fn api(local: &LocalAuthority) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap();
    let validator = TokenValidator::builder(Authority::oidc(local.issuer(TENANT).unwrap()))
        .audience(ORDERS)
        .single_tenant()
        .dpop(DpopPolicy::new(&*base).require_nonce())
        .certificate_bound(CertificateSource::url_encoded_pem("x-client-cert"))
        .reqwest(reqwest::Client::builder().tls_certs_merge([ca]))
        .build()
        .unwrap();
    let routes = Router::new()
        .route("/orders", any(called))
        .with_state(validator);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

async fn called(AcceptedToken(token): AcceptedToken) -> Json<Value> {
    Json(json!({ "client_id": token.client_id(), "cnf": token.json("cnf") }))
}

#[tokio::test]
#[ignore = "needs node with oauth4webapi; .ci/run installs and runs it"]
async fn oauth4webapi_and_jose_agree() {
    let script = std::env::var("OAUTH4WEBAPI").expect("the path of local_authority.mjs");
    World::start().await.judge("node", &script).await;
}

#[tokio::test]
#[ignore = "needs Python with Authlib; .ci/run installs and runs it"]
async fn authlib_agrees() {
    let python = std::env::var("AUTHLIB").expect("the path of a Python with Authlib");
    let world = World::start().await;
    world
        .judge(&python, "tests/interop/foreign_clients.py")
        .await;
}
