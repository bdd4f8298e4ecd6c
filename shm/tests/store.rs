//! The store against a model, under load, and with writers killed in the middle of everything.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use pgpool_shm::{Store, StoreSize, Stored};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, Instant};

fn store(bytes: usize, entries: usize, largest: usize) -> Store {
    Store::create(StoreSize { bytes, entries, largest }).expect("store")
}

fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = b"before".to_vec();
    let found = store.get(key, &mut value);
    assert!(value.starts_with(b"before"));
    let value = value.split_off(6);
    assert!(found || value.is_empty());
    found.then_some(value)
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    Get(u8),
    Remove(u8),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<u8>(), 0_usize..5000).prop_map(|(key, length)| Step::Put(key, length)),
        8 => any::<u8>().prop_map(Step::Get),
        2 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 1..400)
}

/// Keys that are beginnings of each other, and one of more than a block.
fn key(number: u8) -> Vec<u8> {
    vec![b'k'; usize::from(number) * 3]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Evictions may lose an entry; nothing else may, and what is found is what was stored last.
    #[test]
    fn it_answers_like_a_map_that_may_forget(steps in steps(), roomy in any::<bool>()) {
        let store = if roomy { store(8 << 20, 4096, 8192) } else { store(40_000, 40, 4000) };
        let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
        for (round, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(number, length) => {
                    let value = vec![round as u8; length];
                    let pieces = value.split_at(length / 3);
                    match store.put(&key(number), &[pieces.0, pieces.1]) {
                        Stored::Yes => {
                            let found = get(&store, &key(number));
                            prop_assert_eq!(found.as_ref(), Some(&value));
                            model.insert(number, value);
                        }
                        Stored::TooLong => prop_assert!(!roomy && key(number).len() + length > 4000),
                        Stored::Busy => prop_assert!(false, "nobody else is there"),
                    }
                }
                Step::Get(number) => match get(&store, &key(number)) {
                    Some(value) => prop_assert_eq!(model.get(&number), Some(&value)),
                    None => prop_assert!(!roomy || !model.contains_key(&number)),
                },
                Step::Remove(number) => {
                    let removed = store.remove(&key(number));
                    prop_assert!(!roomy || removed == model.contains_key(&number));
                    model.remove(&number);
                    prop_assert_eq!(get(&store, &key(number)), None);
                }
                Step::Clear => {
                    store.clear();
                    model.clear();
                    prop_assert_eq!(store.figures().used, 0);
                }
            }
            prop_assert_eq!(store.check(), Ok(()));
        }
        let figures = store.figures();
        prop_assert!(figures.entries <= model.len() as u64 && figures.used <= figures.capacity);
        if roomy {
            prop_assert_eq!((figures.entries, figures.evictions), (model.len() as u64, 0));
        }
    }
}

#[test]
fn what_is_read_stays_and_what_is_not_goes() {
    let store = store(512 * 1024, 4096, 1024);
    assert_eq!(store.put(b"hot", &[b"read all the time"]), Stored::Yes);
    for number in 0..10_000_u32 {
        assert_eq!(store.put(&number.to_le_bytes(), &[&[0; 700]]), Stored::Yes);
        assert!(get(&store, b"hot").is_some(), "evicted at {number}");
    }
    assert!(store.figures().evictions > 9000);
    assert_eq!(get(&store, &0_u32.to_le_bytes()), None);
}

#[test]
fn a_full_store_admits_only_what_is_asked_for_again() {
    for store in [store(512 * 1024, 4096, 1024), store(512 * 1024, 64, 1024)] {
        let key = |number: u32| number.to_le_bytes();
        let admitted = |numbers: std::ops::Range<u32>| numbers.filter(|number| store.admits(&key(*number))).count();
        assert_eq!(admitted(0..1000), 1000, "there is room");
        for number in 0..10_000 {
            assert_eq!(store.put(&key(number), &[&[0; 700]]), Stored::Yes);
        }
        assert!(admitted(20_000..21_000) < 50, "nobody has asked for them before");
        // Each bucket remembers some.
        assert!((20_980..21_000).filter(|number| !store.admits(&key(*number))).count() < 10);
        assert!(store.admits(&key(9999)), "it has its place");
        store.clear();
        assert_eq!(admitted(30_000..30_010), 10, "there is room again");
    }
}

#[test]
fn tens_of_gigabytes_cost_nothing_until_they_are_used() {
    let before = resident();
    let store = store(64 << 30, 1 << 20, 1 << 20);
    assert_eq!(store.put(b"key", &[b"value"]), Stored::Yes);
    assert_eq!(get(&store, b"key").as_deref(), Some(&b"value"[..]));
    // Other tests of this program run beside.
    assert!(resident() - before < 256 << 20);
}

/// Bytes of this process that are in memory.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).expect("pages") * 4096
}

/// A value that tells by itself whether it is whole and belongs to `key`.
fn sealed(key: u64, round: u64) -> Vec<u8> {
    let words = 4 + (key * 7 + round * 13) % 900;
    let mut value = Vec::new();
    let mut sum = key;
    for index in 0..words {
        let word = round.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index);
        sum = sum.rotate_left(5) ^ word;
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

fn assert_whole(key: u64, value: &[u8]) {
    let mut words = value.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("a word")));
    let seal = words.next_back().expect("a seal");
    assert_eq!(words.fold(key, |sum, word| sum.rotate_left(5) ^ word), seal, "entry {key} is not whole");
}

/// Runs `work` for ever in a child, until the returned process is killed.
fn child(mut work: impl FnMut(u64)) -> Pid {
    // SAFETY: the child only uses shared memory and is killed; it never returns into the test.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let mut round = u64::from(std::process::id()) << 32;
            loop {
                round += 1;
                work(round);
            }
        }
    }
}

#[test]
fn writers_killed_anywhere_under_load_lose_nothing_but_their_own() {
    const KEYS: u64 = 300;
    // Small, so that each write evicts; one shard, so that each kill may meet the lock held.
    let store = store(256 * 1024, 400, 8192);
    let writer = || {
        child(|round| {
            let key = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
            if round.is_multiple_of(50) {
                store.remove(&key.to_le_bytes());
            } else {
                store.put(&key.to_le_bytes(), &[&sealed(key, round)]);
            }
        })
    };
    let mut writers = vec![writer(), writer()];
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut kills, mut found) = (0, 0);
    while Instant::now() < deadline && kills < 300 {
        for key in 0..KEYS {
            if let Some(value) = get(&store, &key.to_le_bytes()) {
                assert_whole(key, &value);
                found += 1;
            }
        }
        let victim = writers.remove(0);
        kill(victim, Signal::SIGKILL).expect("kill");
        waitpid(victim, None).expect("wait");
        kills += 1;
        writers.push(writer());
    }
    for writer in writers {
        kill(writer, Signal::SIGKILL).expect("kill");
        waitpid(writer, None).expect("wait");
    }
    assert_eq!(store.check(), Ok(()));
    assert!(kills > 20 && found > 1000, "{kills} kills, {found} entries read");
    assert!(store.figures().evictions > 100);
    for key in 0..KEYS {
        assert_eq!(store.put(&key.to_le_bytes(), &[&sealed(key, 1)]), Stored::Yes);
        assert_eq!(get(&store, &key.to_le_bytes()), Some(sealed(key, 1)));
    }
    assert_eq!(store.check(), Ok(()));
}
