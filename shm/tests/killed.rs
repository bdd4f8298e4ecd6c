//! Processes killed in the middle of everything: nobody waits, nothing is torn, no lock is lost.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use pgpool_shm::{Layout, Segment, SharedMutex, Versioned, shareable};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

shareable! {
    struct Shared {
        value: Versioned<u64, 200>,
        lock: SharedMutex<[AtomicU64; 2]>,
        progress: AtomicU64,
    }
}

fn segment() -> (Segment, pgpool_shm::Region<Shared>) {
    let mut layout = Layout::new();
    let region = layout.array::<Shared>(1);
    let segment = Segment::create(layout).expect("segment");
    pgpool_shm::prepare(&segment.slice(region)[0].lock);
    (segment, region)
}

/// Runs `work` for ever in a child, until the returned process is killed.
fn child(mut work: impl FnMut()) -> Pid {
    // SAFETY: the child only uses shared memory and is killed; it never returns into the test.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => loop {
            work();
        },
    }
}

fn wait_for_progress(shared: &Shared) {
    let before = shared.progress.load(Ordering::Relaxed);
    wait_until(|| shared.progress.load(Ordering::Relaxed) != before);
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "the child does not get on");
        std::thread::yield_now();
    }
}

fn end(pid: Pid) {
    kill(pid, Signal::SIGKILL).expect("kill");
    waitpid(pid, None).expect("wait");
}

#[test]
fn a_writer_killed_in_mid_write_leaves_a_whole_value() {
    let (segment, region) = segment();
    let shared = &segment.slice(region)[0];
    for _ in 0..200 {
        let mut round = shared.value.version();
        let pid = child(|| {
            round += 1;
            shared.value.write(&[round; 200]);
            shared.progress.fetch_add(1, Ordering::Relaxed);
        });
        wait_for_progress(shared);
        end(pid);
        let started = Instant::now();
        let seen = shared.value.read();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(seen.len() == 200 && seen.iter().all(|element| *element == seen[0]));
    }
}

#[test]
fn a_lock_whose_holder_was_killed_goes_to_the_next_one() {
    let (segment, region) = segment();
    let shared = &segment.slice(region)[0];
    let mut abandoned = 0;
    for _ in 0..200 {
        let pid = child(|| {
            let guard = shared.lock.lock();
            guard[0].fetch_add(1, Ordering::Relaxed);
            shared.progress.fetch_add(1, Ordering::Relaxed);
            guard[1].fetch_add(1, Ordering::Relaxed);
        });
        wait_for_progress(shared);
        end(pid);
        let guard =
            shared.lock.try_lock_for(Duration::from_secs(5)).expect("the lock is free after its holder's death");
        if pgpool_shm::abandoned(&guard) {
            abandoned += 1;
            guard[1].store(guard[0].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        assert_eq!(guard[0].load(Ordering::Relaxed), guard[1].load(Ordering::Relaxed));
    }
    assert!(abandoned > 0, "no child was killed inside the lock");
}

#[test]
fn a_waiter_gives_up_at_its_deadline() {
    let (segment, region) = segment();
    let shared = &segment.slice(region)[0];
    let pid = child(|| {
        let _guard = shared.lock.lock();
        shared.progress.fetch_add(1, Ordering::Relaxed);
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    });
    wait_until(|| shared.progress.load(Ordering::Relaxed) > 0);
    assert!(shared.lock.try_lock().is_none());
    assert!(shared.lock.try_lock_for(Duration::from_millis(50)).is_none());
    end(pid);
    assert!(shared.lock.try_lock_for(Duration::from_secs(5)).is_some());
}
