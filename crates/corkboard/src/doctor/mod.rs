//! What is wrong with a space, and how to mend it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use std::fmt;

use crate::board::files::{self, Files};
use crate::board::layout::Role;
use crate::board::{self, Participant, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{self, Removal};
use crate::participants;
use crate::space::{Kind, Space};
use crate::stream::Overflow;
use crate::sys::map::Protection;
use crate::{call, event, lock, stream};

/// Below this share of free memory, in percent, a space is nearly full.
const NEARLY_FULL_PERCENT: u64 = 10;

/// What a [`Finding`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A file or directory whose builder or remover died half-way; on Windows also the file of an
    /// object whose memory is gone.
    StaleFile,
    /// An entry of a process that is gone. Harmless, but it may keep one slot of a board from being
    /// used, or records of a stream from being overwritten.
    DeadParticipant,
    /// Permissions that let in more users than they should.
    WrongMode,
    /// The file system of the space has little memory left; on Windows, the system has.
    SpaceNearlyFull,
    /// logind deletes the objects of the space's owner when that user's last session ends.
    RemoveIpc,
    /// An object that cannot be opened, or something else that has an object's name.
    Damaged,
    /// An object that another version of this library made, whose layout differs.
    Incompatible,
    /// A board whose newest value does not match its checksum.
    Corrupt,
    /// An object that this user may not look into. Harmless as far as can be told.
    Unreadable,
    /// The space is on a disk or a network, where no object can be made.
    NotInMemory,
}

impl Problem {
    /// The problem's name in lower case with hyphens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StaleFile => "stale-file",
            Self::DeadParticipant => "dead-participant",
            Self::WrongMode => "wrong-mode",
            Self::SpaceNearlyFull => "space-nearly-full",
            Self::RemoveIpc => "remove-ipc",
            Self::Damaged => "damaged",
            Self::Incompatible => "incompatible",
            Self::Corrupt => "corrupt",
            Self::Unreadable => "unreadable",
            Self::NotInMemory => "not-in-memory",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong, from [`Space::diagnose`]. Its `Display` says what, and the remedy.
#[derive(Clone, Debug)]
pub struct Finding {
    space: Space,
    problem: Problem,
    subject: String,
    message: String,
    repair: Repair,
    is_harmless: bool,
}

/// How to mend it.
#[derive(Clone, Debug)]
enum Repair {
    /// Only a person can.
    ByHand,
    /// Delete the file or directory, if its builder is still dead.
    Sweep(String),
    /// Finish the removal of the object.
    Remove(Kind, String),
    /// Empty the entry, if its holder is still dead.
    Wipe {
        board: String,
        instance: u64,
        role: Role,
        entry: u32,
    },
    /// Empty the entry of a handle on a lock, a stream or a call, if its holder is still dead.
    WipeHandle {
        kind: Kind,
        name: String,
        instance: u64,
        entry: u32,
    },
    /// Take the surplus permissions away.
    Restrict {
        kind: Kind,
        name: String,
        instance: u64,
        /// The file in a board's directory.
        role: Option<Role>,
        mode: u32,
    },
}

impl Finding {
    /// What it is about.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The object or file that it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether [`fix`](Self::fix) can mend it without losing anything.
    pub fn is_fixable(&self) -> bool {
        !matches!(self.repair, Repair::ByHand)
    }

    /// Whether it costs nothing and takes care of itself: the entry of a dead process that keeps no
    /// slot and no record, and that the next one reuses. Or nobody knows: an object that this user
    /// may not look into.
    pub fn is_harmless(&self) -> bool {
        self.is_harmless
    }

    /// Mends it. What is alive again meanwhile is left alone.
    ///
    /// # Errors
    /// `Unsupported` when only a person can; `PermissionDenied`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: what was not mended is found again.
    pub fn fix(&self) -> Result<()> {
        match &self.repair {
            Repair::ByHand => Err(Error::new(
                ErrorKind::Unsupported,
                "fix",
                &self.subject,
                &self.message,
            )),
            Repair::Sweep(file_name) => object::sweep(&self.space, file_name),
            Repair::Remove(kind, name) => {
                match self.space.remove_if(*kind, name, Removal::Finish) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    result => result,
                }
            }
            Repair::WipeHandle {
                kind,
                name,
                instance,
                entry,
            } => {
                let wipe = match kind {
                    Kind::Stream => stream::wipe,
                    Kind::Call => call::wipe,
                    _ => lock::wipe,
                };
                wipe(&self.space, name, *instance, *entry)
            }
            Repair::Wipe {
                board,
                instance,
                role,
                entry,
            } => participants::wipe_dead(&self.subject, *entry, || {
                let writable = Protection::ReadWrite;
                let files = Files::open(&self.space, board, writable)?;
                if files.geometry.instance != *instance {
                    return Ok(None);
                }
                let file = files.table(*role, writable, &self.subject)?;
                Ok(Some((file, files.geometry.table(*role))))
            }),
            Repair::Restrict {
                kind,
                name,
                instance,
                role,
                mode,
            } => {
                let file = role.map_or(object::MAIN_FILE, Role::file_name);
                let place = object::Place::open(&self.space, *kind, name)?;
                place.restrict(file, *instance, *mode)
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

impl Space {
    /// Looks for what killed processes, full memory and loose permissions leave behind, and reads
    /// the newest value of every board to check it. Changes nothing.
    ///
    /// # Errors
    /// `Untrusted`, `PermissionDenied` and `Io` as for opening the space.
    ///
    /// # If a process dies
    /// *Reports*: what it left behind is among the findings as soon as the kernel has released
    /// its locks.
    pub fn diagnose(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        self.examine_names(&mut findings)?;
        for entry in self.entries()? {
            match entry.kind() {
                Kind::Board => self.examine_board(entry.name(), &mut findings),
                Kind::Lock => self.examine_lock(entry.name(), &mut findings),
                Kind::Event => self.examine_event(entry.name(), &mut findings),
                Kind::Stream => self.examine_stream(entry.name(), &mut findings),
                Kind::Call => self.examine_call(entry.name(), &mut findings),
            }
        }
        self.examine_surroundings(&mut findings)?;
        Ok(findings)
    }

    fn finding(
        &self,
        problem: Problem,
        subject: impl Into<String>,
        message: impl Into<String>,
        repair: Repair,
    ) -> Finding {
        Finding {
            space: self.clone(),
            problem,
            subject: subject.into(),
            message: message.into(),
            repair,
            is_harmless: false,
        }
    }

    fn examine_board(&self, name: &str, findings: &mut Vec<Finding>) {
        let Some(stat) = self.known(Kind::Board, name, board::stat(self, name), findings) else {
            return;
        };
        let tables = [
            (Role::Control, "writer", stat.writers.as_deref()),
            (Role::Readers, "reader", stat.readers.as_deref()),
        ];
        for (role, what, participants) in tables {
            for dead in participants.unwrap_or_default() {
                if !dead.is_alive {
                    findings.push(self.dead(name, stat.instance, role, what, dead));
                }
            }
        }
        self.examine_modes(name, stat.instance, stat.data_mode, findings);
        self.examine_value(name, findings);
    }

    /// Reads a board's newest value, as one who trusts nobody.
    fn examine_value(&self, name: &str, findings: &mut Vec<Finding>) {
        let read = Reader::observe(self, name).and_then(|mut reader| {
            let mut copy = Vec::new();
            reader.read_into(&mut copy)
        });
        let Err(error) = read else {
            return;
        };
        let (problem, message) = match error.kind() {
            ErrorKind::Corrupt => (Problem::Corrupt, error.cause()),
            ErrorKind::Damaged => (Problem::Damaged, error.cause()),
            // Removed meanwhile, not for us to read, or not to be had at this moment.
            _ => return,
        };
        let repair = Repair::ByHand;
        findings.push(self.finding(problem, files::object(name), message, repair));
    }

    /// What `stat` said of an object, if it could; else what is wrong with the object.
    fn known<T>(
        &self,
        kind: Kind,
        name: &str,
        stat: Result<T>,
        findings: &mut Vec<Finding>,
    ) -> Option<T> {
        let error = match stat {
            Ok(stat) => return Some(stat),
            Err(error) => error,
        };
        let subject = object::label(kind, name);
        match error.kind() {
            ErrorKind::NotFound if object::is_marked_removed(self, kind, name) => {
                let message = "its remover died half-way; remove it again";
                let repair = Repair::Remove(kind, name.to_owned());
                findings.push(self.finding(Problem::StaleFile, subject, message, repair));
            }
            ErrorKind::NotFound => {}
            ErrorKind::PermissionDenied => {
                let message = "this user may not look into it; ask its owner";
                findings.push(Finding {
                    is_harmless: true,
                    ..self.finding(Problem::Unreadable, subject, message, Repair::ByHand)
                });
            }
            kind => {
                let problem = match kind {
                    ErrorKind::Incompatible => Problem::Incompatible,
                    _ => Problem::Damaged,
                };
                let (message, repair) = (error.cause(), Repair::ByHand);
                findings.push(self.finding(problem, subject, message, repair));
            }
        }
        None
    }

    fn examine_lock(&self, name: &str, findings: &mut Vec<Finding>) {
        let Some(stat) = self.known(Kind::Lock, name, lock::stat(self, name), findings) else {
            return;
        };
        for dead in stat.handles.iter().filter(|handle| !handle.is_alive) {
            let message = format!(
                "process {} ({}) died; the kernel released what it held, and the next handle reuses its entry",
                dead.pid, dead.label
            );
            let handle = (stat.instance, dead.entry);
            findings.push(Finding {
                is_harmless: true,
                ..self.dead_handle(Kind::Lock, name, handle, message)
            });
        }
        self.examine_mode(Kind::Lock, name, (stat.instance, stat.mode), findings);
    }

    fn examine_event(&self, name: &str, findings: &mut Vec<Finding>) {
        if let Some(stat) = self.known(Kind::Event, name, event::stat(self, name), findings) {
            self.examine_mode(Kind::Event, name, (stat.instance, stat.mode), findings);
        }
    }

    fn examine_stream(&self, name: &str, findings: &mut Vec<Finding>) {
        let stat = stream::stat(self, name);
        let Some(stat) = self.known(Kind::Stream, name, stat, findings) else {
            return;
        };
        let blocks = stat.overflow == Overflow::Block;
        let roles = [
            ("producer", &stat.producers),
            ("subscriber", &stat.subscribers),
        ];
        for (role, participants) in roles {
            for dead in participants.iter().filter(|one| !one.is_alive) {
                let kept = dead.lag.filter(|lag| blocks && *lag > 0);
                let held = match kept {
                    Some(lag) => format!(
                        " and keeps the last {lag} records from being overwritten, until a producer waits for room"
                    ),
                    None => String::new(),
                };
                let message = format!(
                    "{role} {} ({}) died{held}; the next {role} reuses its entry",
                    dead.pid, dead.label
                );
                let handle = (stat.instance, dead.entry);
                findings.push(Finding {
                    is_harmless: kept.is_none(),
                    ..self.dead_handle(Kind::Stream, name, handle, message)
                });
            }
        }
        self.examine_mode(Kind::Stream, name, (stat.instance, stat.mode), findings);
    }

    fn examine_call(&self, name: &str, findings: &mut Vec<Finding>) {
        let Some(stat) = self.known(Kind::Call, name, call::stat(self, name), findings) else {
            return;
        };
        let participants = stat.server.iter().map(|server| ("server", server));
        let clients = stat.clients.iter().map(|client| ("client", client));
        for (role, dead) in participants.chain(clients).filter(|(_, one)| !one.is_alive) {
            let message = format!(
                "{role} {} ({}) died; the next {role} reuses its entry",
                dead.pid, dead.label
            );
            let handle = (stat.instance, dead.entry);
            findings.push(Finding {
                is_harmless: true,
                ..self.dead_handle(Kind::Call, name, handle, message)
            });
        }
        self.examine_mode(Kind::Call, name, (stat.instance, stat.mode), findings);
    }

    fn dead_handle(
        &self,
        kind: Kind,
        name: &str,
        (instance, entry): (u64, u32),
        message: String,
    ) -> Finding {
        let repair = Repair::WipeHandle {
            kind,
            name: name.to_owned(),
            instance,
            entry,
        };
        let subject = object::label(kind, name);
        self.finding(Problem::DeadParticipant, subject, message, repair)
    }

    /// Nobody may execute an object's file.
    fn examine_mode(
        &self,
        kind: Kind,
        name: &str,
        (instance, mode): (u64, u32),
        findings: &mut Vec<Finding>,
    ) {
        let mend = mode & 0o666;
        if mode == mend {
            return;
        }
        findings.push(self.loose(kind, name, instance, None, mode, mend));
    }

    /// A file with `mode` that should have `mend`: a board's in this role, or an object's only one.
    fn loose(
        &self,
        kind: Kind,
        name: &str,
        instance: u64,
        role: Option<Role>,
        mode: u32,
        mend: u32,
    ) -> Finding {
        let file = role.map_or("its file", Role::file_name);
        let message = format!(
            "{file} has mode {mode:04o}, which lets in more than {mend:04o} does; take the rest away"
        );
        let repair = Repair::Restrict {
            kind,
            name: name.to_owned(),
            instance,
            role,
            mode: mend,
        };
        self.finding(
            Problem::WrongMode,
            object::label(kind, name),
            message,
            repair,
        )
    }

    fn dead(
        &self,
        name: &str,
        instance: u64,
        role: Role,
        what: &str,
        dead: &Participant,
    ) -> Finding {
        let Participant {
            pid, label, entry, ..
        } = dead;
        let held = match dead.pinned_slot {
            Some(slot) => format!(" and keeps slot {slot} from being used"),
            None => String::new(),
        };
        let message =
            format!("{what} {pid} ({label}) died{held}; the next {what} reuses its entry");
        let repair = Repair::Wipe {
            board: name.to_owned(),
            instance,
            role,
            entry: *entry,
        };
        let subject = files::object(name);
        Finding {
            is_harmless: dead.pinned_slot.is_none(),
            ..self.finding(Problem::DeadParticipant, subject, message, repair)
        }
    }
}
