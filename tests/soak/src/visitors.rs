use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use confidential_client::{Authority, Cloud, ConfidentialClient, TokenRequest};
use tokio::time::{sleep, timeout};

use crate::Result;
use crate::authority::{VISITOR, VISITORS_SECRET};
use crate::callers::Shared;
use crate::key::{Key, Token};
use crate::random::Random;

/// Creates short-lived clients that are dropped with requests in flight.
pub async fn run(shared: Arc<Shared>, mut random: Random) -> Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        let cloud = Cloud::Custom(shared.authority.base().to_owned());
        let client = ConfidentialClient::builder(VISITOR)
            .authority(Authority::entra(cloud, "visitor.example"))
            .client_secret(VISITORS_SECRET)
            .build()?;
        let keys: Vec<Key> = (0..KEYS).map(|_| Key::draw(&mut random)).collect();
        let request = |key: &Key| TokenRequest::new(key.scope()).tenant(key.tenant());
        let mut warm_up = client.warm_up(keys.iter().map(request));
        let patience = random.millis(1..30);
        while let Ok(Some((request, result))) = timeout(patience, warm_up.next()).await {
            let token = result.ok().and_then(|token| Token::parse(token.secret()));
            let is_its_own = token.is_none_or(|token| {
                keys.contains(&token.key) && request.tenant_id() == Some(&token.key.tenant())
            });
            let what = "a visitor's token of another tenant or scope";
            shared
                .findings
                .expect(is_its_own, what, || format!("{request:?}"));
        }
        drop((client, warm_up));
        sleep(PAUSE).await;
    }
    Ok(())
}

const KEYS: usize = 8;
const PAUSE: Duration = Duration::from_millis(500);
