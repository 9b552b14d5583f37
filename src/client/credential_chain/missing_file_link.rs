//! A workload identity whose token file does not exist yet.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::application_link::{ApplicationLink, ApplicationSettings};
use crate::credential_chain::{Link, LinkFailure, LinkFuture, LinkRequest, LinkToken};
use crate::error::Error;
use crate::retry::RetryPolicy;

/// A link that is passed over until the token file exists.
///
/// Another container of the pod may write the file after the start of the program.
pub(super) struct MissingFileLink {
    settings: Arc<ApplicationSettings>,
    link: OnceLock<ApplicationLink>,
}

impl MissingFileLink {
    pub(super) fn new(settings: ApplicationSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            link: OnceLock::new(),
        }
    }

    async fn token(&self, request: &LinkRequest<'_>) -> Result<LinkToken, LinkFailure> {
        if let Some(link) = self.link.get() {
            return link.fetch(request).await;
        }
        let settings = Arc::clone(&self.settings);
        let looking = spawn_blocking(move || match settings.missing_token_file() {
            Some(reason) => Err(LinkFailure::Unavailable(reason)),
            None => Ok(settings.link()?),
        });
        let looked = looking.await;
        let link = looked.map_err(|_| Error::credential("the tokio runtime stopped"))??;
        self.link.get_or_init(|| link).fetch(request).await
    }
}

impl Link for MissingFileLink {
    fn name(&self) -> &str {
        self.settings.name
    }

    fn time_limit(&self) -> Duration {
        RetryPolicy::default().total_timeout()
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(self.token(request))
    }
}
