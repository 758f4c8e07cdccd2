//! A space for this process.

use corkboard::Space;

/// The same directory in each run; the fuzzer leaves it when it ends, as it ends by `_exit`.
pub fn space() -> Space {
    let process = std::process::id();
    Space::at(format!("/dev/shm/corkboard-fuzz-{process}")).expect("there is a tmpfs")
}
