//! What tests do for which they need root.

use std::path::Path;
use std::process::Command;

use corkboard::Space;
use corkboard::board::Access;

use crate::common::Scratch;

pub const NOBODY: u32 = 65534;

/// A space that every user may use, and come to.
pub fn space_for_everyone(scratch: &Scratch) -> Space {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&scratch.0, open).unwrap();
    let path = scratch.0.join("everyone");
    let options = Space::options().access(Access::Everyone);
    options.open(path).unwrap()
}

/// Gives up all rights of root, for the whole process.
pub fn become_nobody() {
    // SAFETY: no pointers but null.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
    }
}

/// A file system in memory of its own, until this is dropped.
pub struct Mounted<'a>(pub &'a Path);

impl<'a> Mounted<'a> {
    /// Of this size.
    pub fn new(path: &'a Path, size: &str) -> Self {
        let options = format!("size={size}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .status();
        assert!(status.unwrap().success());
        Self(path)
    }

    /// Leaves it without a free page: a file `filler` has them.
    #[allow(dead_code, reason = "not every test file needs it")]
    pub fn fill(&self) {
        use std::os::unix::fs::FileExt;
        let filler = std::fs::File::create(self.0.join("filler")).unwrap();
        let mut at = 0;
        while filler.write_all_at(&[1; 4096], at).is_ok() {
            at += 4096;
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}
