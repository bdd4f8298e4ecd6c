//! SHOW POOL_CACHE (show-commands 5.6).

use super::View;
use crate::state::Shared;

/// The query cache at one moment; sizes in bytes. Without a cache everything is 0.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub hits: u64,
    pub misses: u64,
    hash_entries: u64,
    used_hash_entries: u64,
    entries: u64,
    used: u64,
    free: u64,
    fragments: u64,
}

columns! { figures: Figures;
    num_cache_hits => figures.hits,
    num_selects => figures.misses,
    cache_hit_ratio => format!("{:.2}", figures.hit_ratio()),
    num_hash_entries => figures.hash_entries,
    used_hash_entries => figures.used_hash_entries,
    num_cache_entries => figures.entries,
    used_cache_entries_size => figures.used,
    free_cache_entries_size => figures.free,
    fragment_cache_entries_size => figures.fragments,
}

/// One row.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    vec![values(&Figures::of(view.shared))]
}

/// The same as numbers, each with its column.
pub(super) fn columns(shared: &Shared) -> Vec<(&'static str, f64)> {
    let values = values(&Figures::of(shared)).into_iter().map(|value| value.parse().unwrap_or_default());
    COLUMNS.iter().copied().zip(values).collect()
}

impl Figures {
    /// Read without a lock: the figures belong to about the same moment.
    pub fn of(shared: &Shared) -> Self {
        let Some(cache) = shared.query_cache() else { return Self::default() };
        let (counted, store) = (cache.counted(), cache.figures());
        Self {
            hits: counted.hits,
            misses: counted.misses,
            hash_entries: store.slots,
            used_hash_entries: store.entries,
            entries: store.entries,
            used: store.used,
            free: store.capacity.saturating_sub(store.used),
            fragments: store.unused,
        }
    }

    fn hit_ratio(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_columns() {
        assert_eq!(
            COLUMNS.join("|"),
            "num_cache_hits|num_selects|cache_hit_ratio|num_hash_entries|used_hash_entries|num_cache_entries|\
             used_cache_entries_size|free_cache_entries_size|fragment_cache_entries_size"
        );
        assert_eq!(values(&Figures::default()).join("|"), "0|0|0.00|0|0|0|0|0|0");
        let figures = Figures {
            hits: 2,
            misses: 1,
            hash_entries: 8,
            used_hash_entries: 3,
            entries: 4,
            used: 100,
            free: 200,
            fragments: 50,
        };
        assert_eq!(values(&figures).join("|"), "2|1|0.67|8|3|4|100|200|50");
    }
}
