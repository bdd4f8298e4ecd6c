//! The query cache: which answers may be kept, under which key, and until when they count (query-cache 2-6).
//!
//! # Why an answer from the cache is never older than what its client knows
//!
//! Every table has a *generation* in shared memory ([`QueryCache`](crate::state::QueryCache)). An answer is kept with the
//! *stamp* of its tables, the sum of their generations, and counts as long as the stamp is the same.
//!
//! 1. The stamp is taken before the SELECT is sent, so before its snapshot.
//! 2. The generations of written tables move when the server has confirmed the commit, and before the client hears of it.
//! 3. Let anybody know of a write, and look for an answer afterwards. By 2 the generation has moved. If the answer's stamp
//!    holds all the same, it was taken after that by 1; so the snapshot was taken after the commit, and shows the write.
//!
//! "A read begins before a write commits and is stored after it" is the case in which the stamp was taken before 2: it does
//! not hold, and the answer is never given. It does not matter when it was stored.
//!
//! What is not known to be harmless counts as a write of everything it could reach ([`Written`]): of the database for
//! functions, procedures and triggers, of all databases for definitions and privileges. A process that is killed between
//! commit and 2 has told nobody of the commit; its parent moves all generations.
//!
//! # Why nobody sees what is not his
//!
//! The key holds all that decides an answer: database, both user names, and the values of *all* settings, as the server
//! tells them for this session ([`identities`]), the protocol, the text, parameters and formats. Nothing is cut, and parts
//! are set apart by their lengths. A session that may have changed a setting asks anew before it uses the cache again.
//! What a standby answers is kept if it has the same to tell of the session.
//!
//! With `memqcache_method = memcached` answers and generations are in [`memcached`], which has more to say about this.
//!
//! This room decides and asks no PostgreSQL server: sessions do, and shared memory belongs to `state`.

mod answers;
mod eligible;
mod entry;
mod key;
pub mod memcached;
mod written;

pub use answers::Answers;
pub use eligible::{Obstacle, is_forced, may_be_cached, obstacle};
pub use entry::{Answer, Entry, Expiry, answer_of_batch, answer_of_query};
pub use key::{Identities, Identity, TEXT_AT, extended_key, identities, identity_query, simple_key};
pub use memcached::Memcached;
pub use written::{Background, Effects, Written, effects};

#[cfg(test)]
pub(crate) use eligible::tests;

use crate::config::{MemqcacheMethod, RegexList, Settings};
use crate::state::{AnswerStore, QueryCache, StoreSize};

/// Where answers are kept; `None`: the cache is off.
pub fn store(settings: &Settings) -> Option<AnswerStore> {
    let size = |value: i64| usize::try_from(value).unwrap_or(0);
    let largest = settings.memqcache_maxcache.min(settings.memqcache_cache_block_size);
    let store = match settings.memqcache_method {
        MemqcacheMethod::Memcached => AnswerStore::Elsewhere,
        MemqcacheMethod::Shmem => AnswerStore::Here(StoreSize {
            bytes: size(settings.memqcache_total_size),
            entries: size(settings.memqcache_max_num_cache.into()),
            largest: size(largest.into()),
        }),
    };
    settings.memory_cache_enabled.then_some(store)
}

/// What this pgpool does when it becomes the leader of the watchdog (`clear_memqcache_on_escalation`): no answer kept while
/// another one had the clients is given. Does no I/O.
pub fn clear_on_escalation(settings: &Settings, cache: &QueryCache) {
    if settings.clear_memqcache_on_escalation {
        cache.clear();
    }
}

/// A process has taken new `settings` in the place of `former` ones. If they say otherwise what is kept, or what is
/// forgotten, no answer counts that it has kept or left by the former ones. Does no I/O.
pub fn take_over(former: &Settings, settings: &Settings, cache: &QueryCache) {
    let rules = |settings: &Settings| {
        (
            settings.memqcache_auto_cache_invalidation,
            [
                &settings.cache_safe_memqcache_table_list,
                &settings.cache_unsafe_memqcache_table_list,
                &settings.read_only_function_list,
                &settings.write_function_list,
            ]
            .map(RegexList::clone),
        )
    };
    if rules(former) != rules(settings) {
        cache.forget();
    }
}

#[cfg(test)]
mod store_tests {
    use super::*;
    use crate::state::{Limits, Shared, TableSet};

    #[test]
    fn answers_of_other_rules_do_not_count() {
        for method in ["shmem", "memcached"] {
            let mut former = Settings::default();
            former.assign("memory_cache_enabled", "on").expect("switch");
            former.assign("memqcache_method", method).expect("method");
            let limits = Limits { workers: 1, query_cache: store(&former), ..Limits::default() };
            let shared = Shared::create(limits).expect("memory");
            let cache = shared.query_cache().expect("a cache");
            let stamp = || cache.stamp("d", &TableSet::of("d", [1]));
            for (name, value, counts) in [
                ("memqcache_expire", "7", true),
                ("memqcache_auto_cache_invalidation", "off", false),
                ("cache_safe_memqcache_table_list", "t", false),
                ("cache_unsafe_memqcache_table_list", "t", false),
                ("read_only_function_list", "f", false),
                ("write_function_list", "f", false),
            ] {
                let (before, mut settings) = (stamp(), former.clone());
                settings.assign(name, value).expect("value");
                take_over(&former, &settings, cache);
                assert_eq!(stamp() == before, counts, "{name}");
                assert_eq!(cache.remote().owes_for_the_dead(), method != "shmem" && name != "memqcache_expire");
            }
        }
    }

    #[test]
    fn an_escalation_empties_the_cache_if_that_is_wanted() {
        let mut settings = Settings::default();
        assert_eq!(store(&settings), None);
        settings.assign("memory_cache_enabled", "on").expect("switch");
        for method in ["shmem", "memcached"] {
            settings.assign("memqcache_method", method).expect("method");
            let shared = Shared::create(Limits { workers: 1, query_cache: store(&settings), ..Limits::default() });
            let shared = shared.expect("memory");
            let cache = shared.query_cache().expect("a cache");
            let stamp = || cache.stamp("d", &TableSet::of("d", [1]));
            let before = stamp();
            settings.assign("clear_memqcache_on_escalation", "off").expect("switch");
            clear_on_escalation(&settings, cache);
            assert_eq!(stamp(), before);
            settings.assign("clear_memqcache_on_escalation", "on").expect("switch");
            clear_on_escalation(&settings, cache);
            assert_ne!(stamp(), before);
            assert_eq!(
                (cache.store().is_some(), cache.remote().owes_for_the_dead()),
                (method == "shmem", method != "shmem")
            );
        }
    }
}
