use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use confidential_client::credential::CertificateFile;
use confidential_client::testing::self_signed_certificate;
use confidential_client::{Certificate, ConfidentialClient};
use tokio::time::sleep;

use crate::Result;
use crate::authority::Authority;
use crate::findings::Findings;

/// A certificate file that is replaced again and again, with the registration of each certificate.
pub struct Rotation {
    folder: PathBuf,
    authority: Arc<Authority>,
    findings: Arc<Findings>,
    pub rotations: AtomicU64,
}

impl Rotation {
    /// Creates a folder with a registered certificate.
    pub fn new(authority: Arc<Authority>, findings: Arc<Findings>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let rotation = Self {
            folder,
            authority,
            findings,
            rotations: AtomicU64::new(0),
        };
        let pem = self_signed_certificate("soak")?;
        rotation.authority.register(&pem)?;
        rotation.replace(&pem)?;
        Ok(rotation)
    }

    pub fn file(&self) -> CertificateFile {
        CertificateFile::new(self.folder.join(NAME))
    }

    /// Replaces the certificate until the future is dropped.
    pub async fn run(&self, client: ConfidentialClient) -> Result<()> {
        for number in 0.. {
            let make = || self_signed_certificate("soak");
            let pem = tokio::task::spawn_blocking(make).await??;
            match number % 3 {
                // The recommended order.
                0 => {
                    self.authority.register(&pem)?;
                    self.replace(&pem)?;
                }
                // The file is replaced before the certificate is registered.
                1 => {
                    while !self.authority.has_answered_to_the_newest() {
                        sleep(LOOK).await;
                    }
                    sleep(LANDED).await;
                    self.replace(&pem)?;
                    sleep(LATE).await;
                    self.authority.register(&pem)?;
                }
                // A slow write in place.
                _ => {
                    self.authority.register(&pem)?;
                    fs::write(self.folder.join(NAME), &pem[..pem.len() / 2])?;
                    sleep(HALF_WRITTEN).await;
                    self.replace(&pem)?;
                }
            }
            sleep(RETIRED_AFTER).await;
            // While the new certificate is not registered, a long request could not fall back on
            // an accepted one.
            if number % 3 != 0 {
                self.authority.retire_old_certificates();
            }
            self.rotations.fetch_add(1, Ordering::Relaxed);
            sleep(RETIRED_AFTER).await;
            let used = client.certificate().map(|used| used.thumbprint_sha256());
            let new = Certificate::from_pem(&pem)?.thumbprint_sha256();
            self.findings
                .expect(used == Some(new), "an old certificate is in use", || {
                    format!("after rotation {number}")
                });
        }
        Ok(())
    }

    fn replace(&self, pem: &str) -> Result<()> {
        let beside = self.folder.join("new.pem");
        fs::write(&beside, pem)?;
        Ok(fs::rename(beside, self.folder.join(NAME))?)
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        // A leftover folder is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const NAME: &str = "soak.pem";
const LOOK: Duration = Duration::from_millis(100);
const LANDED: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(2);
const HALF_WRITTEN: Duration = Duration::from_millis(300);
const RETIRED_AFTER: Duration = Duration::from_secs(5);
