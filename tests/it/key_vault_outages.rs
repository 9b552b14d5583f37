//! Outages of a Key Vault, while the last certificate is valid.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::KeyClient;
use confidential_client::adapter::{AzureCredential, KeyVaultCertificate};
use confidential_client::credential::CredentialSource;
use confidential_client::testing::ManualClock;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::key_vault::vault::Fault;
use crate::key_vault::{APP, LIST, Setup, is, version};
use crate::key_vault_errors::{InMemory, over};
use crate::support::Provider;

const LOOKUP_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Longer than a lookup may take.
const LONGER_THAN_A_LOOKUP: Duration = Duration::from_secs(10);
/// Seconds of latency of a vault that hangs.
const FOR_EVER: u64 = 100_000;

/// A source over a vault in memory, whose first version is loaded and due for a lookup.
struct DueSource {
    vault: Arc<InMemory>,
    clock: ManualClock,
    source: KeyVaultCertificate,
    _provider: Provider,
}

impl DueSource {
    async fn new() -> Self {
        let (provider, clock) = (Provider::open(), ManualClock::new());
        let credential = || Arc::new(AzureCredential::new(provider.client()));
        let url = "https://contoso.vault.azure.net";
        let vault = Arc::new(InMemory::default());
        let options = CertificateClientOptions {
            client_options: over(Arc::clone(&vault) as _),
            ..CertificateClientOptions::default()
        };
        let certificates = CertificateClient::new(url, credential(), Some(options)).unwrap();
        let keys = KeyClient::new(url, credential(), None).unwrap();
        let source = KeyVaultCertificate::non_exportable(certificates, keys, APP).unwrap();
        let source = source.clock(clock.clone());
        source.credential().await.unwrap();
        clock.advance(LOOKUP_INTERVAL);
        Self {
            vault,
            clock,
            source,
            _provider: provider,
        }
    }

    fn set_latency(&self, seconds: u64) {
        self.vault.latency.store(seconds, Ordering::Relaxed);
    }

    fn rotate(&self) {
        self.vault.is_rotated.store(true, Ordering::Relaxed);
    }

    /// Returns the version that a caller gets, and the caller's seconds by the paused clock.
    async fn get(&self) -> (u64, u64) {
        let start = Instant::now();
        let certificate = self.source.credential().await.unwrap();
        let is_second = is(&certificate, &version(1, 0));
        (1 + u64::from(is_second), start.elapsed().as_secs())
    }
}

/// Property 2: the outage of the vault slows no program whose certificate is valid.
#[tokio::test(start_paused = true)]
async fn a_hanging_vault_delays_callers_with_a_valid_certificate_once() {
    let due = DueSource::new().await;
    due.set_latency(FOR_EVER);
    let callers = (0..16).map(|_| due.get());
    assert_eq!(join_all(callers).await, [(1, 2); 16]);
    assert_eq!(due.get().await, (1, 0), "later callers of the same lookup");
    for _ in 0..3 {
        sleep(LONGER_THAN_A_LOOKUP).await;
        due.clock.advance(LOOKUP_INTERVAL);
        assert_eq!(due.get().await, (1, 0), "a lookup after one that hung");
    }
    // The vault answers again.
    sleep(LONGER_THAN_A_LOOKUP).await;
    due.set_latency(0);
    due.rotate();
    due.clock.advance(LOOKUP_INTERVAL);
    assert_eq!(due.get().await, (1, 0));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(due.get().await, (2, 0));
    // Callers wait for a vault that is fast again.
    due.set_latency(1);
    due.clock.advance(LOOKUP_INTERVAL);
    assert_eq!(due.get().await, (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_of_a_slow_vault_is_used() {
    let due = DueSource::new().await;
    due.set_latency(3);
    due.rotate();
    assert_eq!(due.get().await, (1, 2));
    sleep(LONGER_THAN_A_LOOKUP).await;
    assert_eq!(due.get().await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_does_not_end_the_lookup_of_a_newer_version() {
    let due = DueSource::new().await;
    due.set_latency(1);
    due.rotate();
    let half_a_second = Duration::from_millis(500);
    timeout(half_a_second, due.get()).await.unwrap_err();
    sleep(LONGER_THAN_A_LOOKUP).await;
    assert_eq!(due.get().await, (2, 0));
}

/// The rejected certificate is no use, and there may be a newer one.
#[tokio::test(start_paused = true)]
async fn a_rejected_certificate_waits_five_seconds_for_a_newer_one() {
    for (latency, seconds) in [(2, 4), (FOR_EVER, 5)] {
        let due = DueSource::new().await;
        due.set_latency(latency);
        due.rotate();
        let start = Instant::now();
        let certificate = due.source.credential_after_rejection().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), seconds);
        let expected = usize::from(latency != FOR_EVER);
        assert!(is(&certificate, &version(expected, 0)));
    }
}

/// A rejection is a reason for a lookup, and not for one that the vault asked not to get.
#[tokio::test]
async fn a_rejected_certificate_does_not_shorten_the_pause_that_the_vault_asks_for() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let source = setup.exportable();
    source.credential().await.unwrap();
    setup.clock.advance(LOOKUP_INTERVAL);
    let throttled = Fault::Answer(429, String::new(), Some(120));
    setup.vault.fault(LIST, throttled);
    source.credential().await.unwrap();
    assert_eq!(setup.lists(), 2);
    for (advance, lists) in [(119, 0), (1, 1)] {
        setup.clock.advance(Duration::from_secs(advance));
        source.credential_after_rejection().await.unwrap();
        assert_eq!(setup.lists(), lists);
    }
}
