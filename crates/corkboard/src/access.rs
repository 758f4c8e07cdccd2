//! Whom a mode lets in.

use std::fmt;

/// Who may use an object besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Access {
    /// Only the user who created it.
    #[default]
    Owner,
    /// The owner and the file's group.
    Group,
    /// Every user of the machine.
    Everyone,
}

impl Access {
    /// The permission bits in `bits` (as for others), for everyone who is let in.
    pub(crate) fn mode_bits(self, bits: u32) -> u32 {
        match self {
            Self::Owner => bits << 6,
            Self::Group => bits << 6 | bits << 3,
            Self::Everyone => bits << 6 | bits << 3 | bits,
        }
    }

    /// Whom a file's mode gives the permission `bit` (as for others).
    pub(crate) fn of_mode(mode: u32, bit: u32) -> Self {
        match mode {
            _ if mode & bit != 0 => Self::Everyone,
            _ if mode & bit << 3 != 0 => Self::Group,
            _ => Self::Owner,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Everyone => "everyone",
        })
    }
}
