//! Named points at which a test can have the process killed or stopped.

/// Kills this process when the environment variable `CORKBOARD_TEST_KILL_AT` names
/// this point, or stops it when `CORKBOARD_TEST_STOP_AT` does: `name` at its first
/// passing, `name:3` at its third.
#[cfg(feature = "test-hooks")]
pub(crate) fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Target {
        name: String,
        passings_left: AtomicU64,
        harm: fn(),
    }

    static TARGETS: OnceLock<Vec<Target>> = OnceLock::new();
    let targets = TARGETS.get_or_init(|| {
        [
            ("CORKBOARD_TEST_KILL_AT", kill as fn()),
            ("CORKBOARD_TEST_STOP_AT", stop),
        ]
        .into_iter()
        .filter_map(|(variable, harm)| {
            let text = std::env::var(variable).ok()?;
            let (name, count) = text.rsplit_once(':').unwrap_or((&text, "1"));
            Some(Target {
                name: name.to_owned(),
                passings_left: AtomicU64::new(count.parse().expect("a number after the colon")),
                harm,
            })
        })
        .collect()
    });
    for target in targets {
        if target.name == name && target.passings_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (target.harm)();
        }
    }
}

/// Sent to this thread, so that no other goes on while this one takes the signal.
#[cfg(all(feature = "test-hooks", unix))]
fn kill() {
    // SAFETY: ends this process, here.
    unsafe { libc::raise(libc::SIGKILL) };
}

#[cfg(all(feature = "test-hooks", unix))]
fn stop() {
    // SAFETY: stops this process, here.
    unsafe { libc::raise(libc::SIGSTOP) };
}

#[cfg(all(feature = "test-hooks", windows))]
fn kill() {
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};
    // SAFETY: ends this process, here.
    unsafe { TerminateProcess(GetCurrentProcess(), 1) };
}

/// Nothing stops a process here.
#[cfg(all(feature = "test-hooks", windows))]
fn stop() {}

/// Nothing, outside tests.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn point(_name: &str) {}
