//! Tests in a process of their own, so that a crash, a hang or an absurd allocation is that test's
//! failure.

use crate::common::this_program;

/// Against a hang only: the slowest of these tests takes seconds.
const DEADLINE_SECONDS: u32 = 300;
const MEMORY_LIMIT: u64 = 4 << 30;

/// Runs `body` in a child process, which gets little memory and ends at the deadline.
pub fn in_child(test: &str, body: impl FnOnce()) {
    const CHILD: &str = "CORKBOARD_TEST_HOSTILE";
    if std::env::var_os(CHILD).is_some() {
        let limit = libc::rlimit {
            rlim_cur: MEMORY_LIMIT,
            rlim_max: MEMORY_LIMIT,
        };
        // SAFETY: both only set limits of this process; `limit` outlives the call.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
            libc::alarm(DEADLINE_SECONDS);
        }
        return body();
    }
    let output = this_program()
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CHILD, "yes")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stdout.contains("1 passed") || !output.status.success());
    let last = stdout.lines().rfind(|line| line.starts_with("case"));
    assert!(
        output.status.success(),
        "{}, in {last:?}\n{stderr}",
        output.status
    );
}
