//! A hit of a client with an option that a hit should not cost more for.

use confidential_client::cache::SharedCacheOptions;
use confidential_client::testing::LocalSharedCache;
use confidential_client::{CacheOptions, ConfidentialClientBuilder};

use crate::held::{REQUEST, TOKEN};
use crate::rounds::Rounds;
use crate::setup::{self, Result};
use crate::table::{Table, verdict};

/// Returns a builder with the in-memory identity provider and a shared cache.
///
/// Without encryption, because the start of aws-lc's random numbers takes millions of instructions
/// more or less from run to run. A hit does not encrypt.
pub(crate) fn shared() -> ConfidentialClientBuilder {
    let options = SharedCacheOptions::without_encryption("the name key of the bench");
    setup::builder().shared_cache(LocalSharedCache::new(), options)
}

/// Returns a builder with the in-memory identity provider, for a client that counts its hits.
pub(crate) fn counted() -> ConfidentialClientBuilder {
    let options = CacheOptions::default()
        .max_entries(200_000)
        .count_hits(true);
    setup::builder().cache(options)
}

/// Prints the hits `with` an option beside the same hits without an option.
pub(crate) fn report(
    option: &str,
    goal: Option<f64>,
    with: &Rounds,
    without: &Rounds,
) -> Result<()> {
    println!("With {option}, beside the same without.\n");
    let mut table = Table::new(["hit", "ns", "ratio", "goal", "verdict"]);
    for name in [TOKEN, REQUEST] {
        let ratio = with.ns(name)? / without.ns(name)?;
        table.row([
            name.to_owned(),
            format!("{:.1}", with.ns(name)?),
            format!("{ratio:.3}"),
            goal.map_or_else(|| "none".to_owned(), |goal| format!("at most {goal}")),
            goal.map_or_else(String::new, |goal| verdict(ratio <= goal)),
        ]);
    }
    table.print();
    Ok(())
}
