//! Waiting for something, and noticing meanwhile that nobody wants it any more.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use corkboard::{ErrorKind, Space};

use crate::exit::{Failure, complain};
use crate::object::{ObjectKind, absence};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{Requests, is_output_gone};
#[cfg(windows)]
pub use windows::{Requests, is_output_gone};

/// Why a wait is over.
pub enum Woken {
    /// There may be something new.
    News,
    /// Nobody reads standard output any more.
    #[cfg_attr(
        windows,
        expect(dead_code, reason = "it is noticed at the next value there")
    )]
    OutputGone,
    /// The time is over.
    TimeOut,
    /// Somebody asked this process to end; [`Requests::obey`] does.
    Request,
}

/// How long to wait for an object's creation before looking whether anybody reads the output.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits for an object's creation, for ever or until the time is over; `None` when this process
/// `prints` and nobody reads the output any more.
pub fn created<T>(
    space: &Space,
    (kind, name): (ObjectKind, &str),
    prints: bool,
    timeout: Option<Duration>,
    open: impl Fn(Duration) -> corkboard::Result<T>,
) -> Result<Option<T>, Failure> {
    let start = Instant::now();
    let left = || timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
    let mut patience = Duration::ZERO;
    loop {
        match open(left().map_or(patience, |left| left.min(patience))) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return Ok(Some(opened?)),
        }
        if left().is_some_and(|left| left.is_zero()) {
            let absence = absence(space, kind, name, "")?;
            return Err(Failure::Negative(absence + "; gave up waiting for it"));
        }
        if prints && is_output_gone()? {
            return Ok(None);
        }
        if patience.is_zero() && std::io::stderr().is_terminal() {
            let absence = absence(space, kind, name, "")?;
            complain(&format!("{absence}; waiting for it"));
        }
        patience = PATIENCE;
    }
}
