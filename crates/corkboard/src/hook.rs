//! Named points at which a test can have the process killed.

/// Ends this process with SIGKILL when the environment variable `CORKBOARD_TEST_KILL_AT` names
/// this point: `name` at its first passing, `name:3` at its third.
#[cfg(feature = "test-hooks")]
pub(crate) fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TARGET: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let target = TARGET.get_or_init(|| {
        let text = std::env::var("CORKBOARD_TEST_KILL_AT").ok()?;
        Some(match text.rsplit_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().expect("a count")),
            None => (text, 1),
        })
    });
    if let Some((target, count)) = target
        && target == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        let us = rustix::process::getpid();
        let _ = rustix::process::kill_process(us, rustix::process::Signal::KILL);
    }
}

/// Nothing, outside tests.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}
