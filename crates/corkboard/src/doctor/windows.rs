//! What can be wrong with a space on disk.

use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

use super::{Finding, NEARLY_FULL_PERCENT, Problem, Repair};
use crate::catalog::named;
use crate::error::Result;
use crate::object::{self, BUILDING, REMOVING};
use crate::space::Space;

impl Space {
    /// Looks for what has a temporary name, or that of an object and is none any more.
    pub(super) fn examine_names(&self, findings: &mut Vec<Finding>) -> Result<()> {
        for name in self.file_names()? {
            let what = if name.starts_with(BUILDING) {
                "was not finished: its creator died"
            } else if name.starts_with(REMOVING) {
                "was not deleted to the end: its remover died"
            } else {
                self.examine_object(&name, findings);
                continue;
            };
            if object::is_stale(self, &name) {
                let repair = Repair::Sweep(name.clone());
                let message = format!("{what}; delete it");
                findings.push(self.finding(Problem::StaleFile, name, message, repair));
            }
        }
        Ok(())
    }

    fn examine_object(&self, file_name: &str, findings: &mut Vec<Finding>) {
        let Some((kind, name)) = named(file_name) else {
            return;
        };
        let subject = object::label(kind, name);
        let path = self.path().join(file_name);
        if path.is_dir() {
            let message = format!("{} is a directory and no {kind}; remove it", path.display());
            findings.push(self.finding(Problem::Damaged, subject, message, Repair::ByHand));
        } else if object::is_gone(self, kind, name) {
            let message = "nobody has it open any more, so its memory is gone; delete its file";
            let repair = Repair::Remove(kind, name.to_owned());
            findings.push(self.finding(Problem::StaleFile, subject, message, repair));
        }
    }

    /// Permissions stay as they were made.
    pub(super) fn examine_modes(&self, _: &str, _: u64, _: u32, _: &mut Vec<Finding>) {}

    /// Looks at the memory that is left: all that the page file and the memory together can hold.
    pub(super) fn examine_surroundings(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let mut memory = MEMORYSTATUSEX {
            dwLength: size_of::<MEMORYSTATUSEX>() as u32,
            ..MEMORYSTATUSEX::default()
        };
        // SAFETY: fills in the structure, whose length it was told.
        if unsafe { GlobalMemoryStatusEx(&raw mut memory) } == 0 {
            return Ok(());
        }
        let (all, left) = (memory.ullTotalPageFile, memory.ullAvailPageFile);
        if all > 0 && left.saturating_mul(100) / all < NEARLY_FULL_PERCENT {
            let message = format!(
                "the system can commit {} of {} MiB more; close programs or enlarge the page file",
                left >> 20,
                all >> 20
            );
            let subject = self.path().display().to_string();
            findings.push(self.finding(Problem::SpaceNearlyFull, subject, message, Repair::ByHand));
        }
        Ok(())
    }
}
