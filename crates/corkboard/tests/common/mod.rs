//! What several test files need.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use corkboard::Space;

/// A directory on tmpfs that goes away with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let path = PathBuf::from(format!("/dev/shm/corkboard-test-{process}-{number}"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    #[allow(dead_code, reason = "not every test file needs a space")]
    pub fn space(&self) -> Space {
        Space::at(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Looks until it is so; fails when it does not come to pass.
#[allow(dead_code, reason = "not every test file waits for something")]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        let patience = std::time::Duration::from_secs(60);
        assert!(start.elapsed() < patience, "it does not come to pass");
        std::thread::yield_now();
    }
}
