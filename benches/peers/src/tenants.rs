//! The first tokens of many tenants, over a few open connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::TokenCredential;
use confidential_client::{ConfidentialClient, TokenRequest};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::runtime::{Builder, Runtime};

use crate::authority::Authority;
use crate::cpu::cpu_time;
use crate::{Result, SECRET, clients};

pub fn report() -> Result<()> {
    let http1 = Authority::start(&["serve"])?;
    let http2 = Authority::start(&["serve-http2"])?;
    let over_http2 =
        clients::ours(&http2.base_url).reqwest(reqwest::Client::builder().http2_prior_knowledge());
    let ours = clients::ours(&http1.base_url)
        .client_secret(SECRET)
        .build()?;
    let mut rows = [
        Row::new("`warm_up`, HTTP/1.1", Library::Ours(ours)),
        Row::new(
            "`warm_up`, HTTP/2",
            Library::Ours(over_http2.client_secret(SECRET).build()?),
        ),
        Row::new("`oauth2`", Library::OAuth2(clients::oauth2_http()?)),
        Row::new(
            "`azure_identity`",
            Library::Azure(clients::azure_options(&http1.base_url)),
        ),
    ];
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.round(&runtime, &http1.base_url)?;
        }
    }
    println!(
        "The first tokens of {TENANTS} tenants, {CONCURRENT} at a time, on a multi-thread runtime of"
    );
    println!("two threads; best of {ROUNDS} rounds. The authority shares the two cores.\n");
    println!("| | tokens a second | CPU a token, µs |");
    println!("| --- | ---: | ---: |");
    let tenants = f64::from(TENANTS);
    for row in &rows {
        println!(
            "| {} | {:.0} | {:.1} |",
            row.name,
            tenants / row.wall.as_secs_f64(),
            row.cpu.as_secs_f64() * 1e6 / tenants
        );
    }
    println!();
    Ok(())
}

struct Row {
    name: &'static str,
    library: Library,
    wall: Duration,
    cpu: Duration,
}

#[derive(Clone)]
enum Library {
    Ours(ConfidentialClient),
    OAuth2(oauth2::reqwest::Client),
    Azure(azure_core::http::ClientOptions),
}

impl Row {
    fn new(name: &'static str, library: Library) -> Self {
        Self {
            name,
            library,
            wall: Duration::MAX,
            cpu: Duration::MAX,
        }
    }

    fn round(&mut self, runtime: &Runtime, base_url: &str) -> Result<()> {
        let tenants = (0..TENANTS).map(|number| format!("t{number}.example.org"));
        match self.library.clone() {
            Library::Ours(client) => {
                client.cache().clear();
                let requests: Vec<TokenRequest> = tenants
                    .map(|tenant| TokenRequest::new(SCOPE).tenant(tenant))
                    .collect();
                self.measure(runtime, async move {
                    let mut warm_up = client.warm_up(requests).max_concurrent(CONCURRENT);
                    while let Some((_, token)) = warm_up.next().await {
                        token?;
                    }
                    Ok(())
                })
            }
            Library::OAuth2(http) => {
                let mut tokens = Vec::new();
                for tenant in tenants {
                    let client = clients::OAuth2::for_tenant(base_url, &tenant, http.clone())?;
                    tokens.push(oauth2_token(client));
                }
                self.measure(runtime, all(tokens))
            }
            Library::Azure(options) => {
                let mut tokens = Vec::new();
                for tenant in tenants {
                    let credential = clients::azure_identity_for(&tenant, options.clone())?;
                    tokens.push(azure_token(credential));
                }
                self.measure(runtime, all(tokens))
            }
        }
    }

    fn measure(
        &mut self,
        runtime: &Runtime,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let (wall, cpu) = (Instant::now(), cpu_time());
        runtime.block_on(runtime.spawn(work))??;
        self.wall = self.wall.min(wall.elapsed());
        self.cpu = self.cpu.min(cpu_time() - cpu);
        Ok(())
    }
}

type Token = BoxFuture<'static, Result<()>>;

fn oauth2_token(client: clients::OAuth2) -> Token {
    Box::pin(async move {
        drop(client.acquire(SCOPE.to_owned()).await?);
        Ok(())
    })
}

fn azure_token(credential: Arc<dyn TokenCredential>) -> Token {
    Box::pin(async move {
        drop(credential.get_token(&[SCOPE], None).await?);
        Ok(())
    })
}

async fn all(tokens: Vec<Token>) -> Result<()> {
    let mut tokens = stream::iter(tokens).buffer_unordered(CONCURRENT);
    while let Some(token) = tokens.next().await {
        token?;
    }
    Ok(())
}

const SCOPE: &str = "https://graph.microsoft.com/.default";
const TENANTS: u32 = 10_000;
const CONCURRENT: usize = 32;
const ROUNDS: u32 = 5;
