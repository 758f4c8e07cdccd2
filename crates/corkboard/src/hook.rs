//! Named points at which a test can have the process killed or stopped.

/// Ends this process with SIGKILL when the environment variable `CORKBOARD_TEST_KILL_AT` names
/// this point, or stops it with SIGSTOP when `CORKBOARD_TEST_STOP_AT` does: `name` at its first
/// passing, `name:3` at its third.
#[cfg(all(feature = "test-hooks", target_os = "linux"))]
pub(crate) fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Target {
        name: String,
        passings_left: AtomicU64,
        signal: libc::c_int,
    }

    static TARGETS: OnceLock<Vec<Target>> = OnceLock::new();
    let targets = TARGETS.get_or_init(|| {
        [
            ("CORKBOARD_TEST_KILL_AT", libc::SIGKILL),
            ("CORKBOARD_TEST_STOP_AT", libc::SIGSTOP),
        ]
        .into_iter()
        .filter_map(|(variable, signal)| {
            let text = std::env::var(variable).ok()?;
            let (name, count) = text.rsplit_once(':').unwrap_or((&text, "1"));
            Some(Target {
                name: name.to_owned(),
                passings_left: AtomicU64::new(count.parse().expect("a number after the colon")),
                signal,
            })
        })
        .collect()
    });
    for target in targets {
        if target.name == name && target.passings_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Sent to this thread, so that no other takes it while this one goes on.
            // SAFETY: ends or stops this process, here.
            unsafe { libc::raise(target.signal) };
        }
    }
}

/// Nothing, outside tests, and on systems without signals.
#[cfg(not(all(feature = "test-hooks", target_os = "linux")))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}
