//! What can be wrong with a space in memory.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{self, AtFlags, FileType};

use super::{Finding, NEARLY_FULL_PERCENT, Problem, Repair};
use crate::board::layout::Role;
use crate::catalog::named;
use crate::error::{Error, Result};
use crate::object::{self, BUILDING, REMOVING};
use crate::space::{Kind, Space};

impl Space {
    /// Looks for what has a temporary name, or that of an object and is none.
    pub(super) fn examine_names(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let directory = self.directory()?;
        let failed = |errno| Error::os("examine", self.path().display().to_string(), errno);
        for item in fs::Dir::read_from(&directory).map_err(failed)? {
            let item = item.map_err(failed)?;
            let Ok(name) = item.file_name().to_str() else {
                continue;
            };
            let what = if name.starts_with(BUILDING) {
                "was not finished: its creator died"
            } else if name.starts_with(REMOVING) {
                "was not deleted to the end: its remover died"
            } else {
                self.examine_type(&directory, name, findings);
                continue;
            };
            if object::is_stale(&directory, name) {
                let message = format!("{what}; delete it");
                let repair = Repair::Sweep(name.to_owned());
                findings.push(self.finding(Problem::StaleFile, name, message, repair));
            }
        }
        Ok(())
    }

    /// Whoever creates an object of that name is held up, and no list of objects tells why.
    fn examine_type(&self, directory: &OwnedFd, file_name: &str, findings: &mut Vec<Finding>) {
        let Some((kind, name)) = named(file_name) else {
            return;
        };
        let Ok(stat) = fs::statat(directory, file_name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        let found = FileType::from_raw_mode(stat.st_mode);
        if found == kind.file_type() {
            return;
        }
        let what = match found {
            FileType::Directory => "a directory",
            FileType::RegularFile => "a file",
            FileType::Symlink => "a symbolic link",
            _ => "a special file",
        };
        let path = self.path().join(file_name);
        let message = format!("{} is {what} and no {kind}; remove it", path.display());
        let (subject, repair) = (object::label(kind, name), Repair::ByHand);
        findings.push(self.finding(Problem::Damaged, subject, message, repair));
    }

    /// Nobody may execute a file, and control is for writers of data only.
    pub(super) fn examine_modes(
        &self,
        name: &str,
        instance: u64,
        data_mode: u32,
        findings: &mut Vec<Finding>,
    ) {
        let Ok(directory) = self.directory() else {
            return;
        };
        let writers = data_mode & 0o222;
        let own = data_mode & 0o440;
        for (role, allowed) in [
            (Role::Data, 0o666),
            (Role::Control, writers | writers << 1),
            // Readers of the group pin; everyone else has no business there.
            (Role::Readers, writers | writers << 1 | own | own >> 1),
        ] {
            let path = format!(
                "{}/{}",
                object::file_name(Kind::Board, name),
                role.file_name()
            );
            let mode = match fs::statat(&directory, &path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    stat.st_mode & 0o7777
                }
                _ => continue,
            };
            let mend = mode & allowed;
            if mode == mend {
                continue;
            }
            findings.push(self.loose(Kind::Board, name, instance, Some(role), mode, mend));
        }
    }

    /// Looks at what is around it: the memory that is left, whether it is memory, and who deletes
    /// objects.
    pub(super) fn examine_surroundings(&self, findings: &mut Vec<Finding>) -> Result<()> {
        self.examine_memory(findings)?;
        self.examine_logind(findings);
        Ok(())
    }

    fn examine_memory(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let path = self.path().display().to_string();
        let failed = |errno| Error::os("examine", &path, errno);
        let directory = self.directory()?;
        if !object::is_in_memory(&directory).map_err(failed)? {
            let message = "it is not on tmpfs, so that no object can be made in it; set CORKBOARD_DIR to a directory below /dev/shm";
            findings.push(self.finding(Problem::NotInMemory, &path, message, Repair::ByHand));
        }
        let stat = fs::fstatvfs(&directory).map_err(failed)?;
        if stat.f_blocks > 0
            && stat.f_bavail.saturating_mul(100) / stat.f_blocks < NEARLY_FULL_PERCENT
        {
            let message = format!(
                "its file system has {} of {} MiB left; remove boards or enlarge it (mount -o remount,size=…)",
                (stat.f_bavail * stat.f_frsize) >> 20,
                (stat.f_blocks * stat.f_frsize) >> 20
            );
            let repair = Repair::ByHand;
            findings.push(self.finding(Problem::SpaceNearlyFull, path, message, repair));
        }
        Ok(())
    }

    /// See `logind.conf(5)`: by default logind deletes what a user who is not a system user left
    /// in `/dev/shm`, at the end of the user's last session.
    fn examine_logind(&self, findings: &mut Vec<Finding>) {
        const FIRST_USER: u32 = 1000;
        // What logind deletes is its owner's, whoever looks.
        let owner = std::fs::metadata(self.path()).map_or(0, |found| found.uid());
        let runs = std::path::Path::new("/run/systemd/seats").exists();
        if owner < FIRST_USER || !runs || !self.path().starts_with("/dev/shm") {
            return;
        }
        if !keeps_ipc(&std::fs::read_to_string("/etc/systemd/logind.conf").unwrap_or_default()) {
            let message = "logind deletes it when its owner's last session ends; set RemoveIPC=no in /etc/systemd/logind.conf, or enable lingering (loginctl enable-linger)";
            let path = self.path().display().to_string();
            let repair = Repair::ByHand;
            findings.push(self.finding(Problem::RemoveIpc, path, message, repair));
        }
    }
}

/// Whether logind's configuration says that objects outlive sessions.
fn keeps_ipc(configuration: &str) -> bool {
    configuration
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RemoveIPC"))
        .filter_map(|rest| rest.trim_start().strip_prefix('='))
        .next_back()
        .is_some_and(|value| {
            let value = value.trim().to_ascii_lowercase();
            matches!(value.as_str(), "no" | "false" | "off" | "0")
        })
}

#[cfg(test)]
mod tests {
    use super::keeps_ipc;

    #[test]
    fn logind_removes_unless_told_otherwise() {
        assert!(!keeps_ipc(""));
        assert!(!keeps_ipc("#RemoveIPC=no\n"));
        assert!(keeps_ipc("[Login]\nRemoveIPC = no\n"));
        assert!(!keeps_ipc("RemoveIPC=no\nRemoveIPC=yes\n"));
    }
}
