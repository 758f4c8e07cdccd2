//! Requests to end come from the console's keys, or when it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corkboard::wait::{self, Notifier, Waitable};

use super::Woken;
use crate::exit::{Failure, Outcome};

/// How soon a request is noticed.
const SLICE: Duration = Duration::from_millis(100);
/// What the system says of a process that the console's keys ended, in the bits there are for it.
const INTERRUPTED: u8 = 130;

/// Requests to end. They are held back, so that this process can let go of what it has.
pub struct Requests {
    is_asked: Arc<AtomicBool>,
}

impl Requests {
    pub fn new() -> Result<Self, Failure> {
        let is_asked = Arc::new(AtomicBool::new(false));
        let asked = is_asked.clone();
        ctrlc::set_handler(move || asked.store(true, Ordering::SeqCst)).map_err(|error| {
            Failure::Io(
                "cannot listen to the console".into(),
                std::io::Error::other(error),
            )
        })?;
        Ok(Self { is_asked })
    }

    /// The same: they are held back always.
    pub fn held_back() -> Result<Self, Failure> {
        Self::new()
    }

    /// Whether somebody has asked this process to end.
    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    /// Waits for something new, for ever or so long.
    pub fn wait(
        &self,
        object: &mut dyn Waitable,
        _: &Notifier,
        _: bool,
        timeout: Option<Duration>,
    ) -> Result<Woken, Failure> {
        let start = Instant::now();
        loop {
            if self.is_asked() {
                return Ok(Woken::Request);
            }
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            // What is wrong with the object is told by whoever reads it then.
            match wait::any(&mut [&mut *object], Some(slice)) {
                Ok(None) if left.is_some_and(|left| left <= slice) => return Ok(Woken::TimeOut),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Ok(Woken::News),
            }
        }
    }

    /// Ends as the request asks for.
    pub fn obey(self) -> Outcome {
        Err(Failure::Status(INTERRUPTED))
    }
}

/// Whether nobody reads standard output any more: it is noticed when something is printed.
pub fn is_output_gone() -> Result<bool, Failure> {
    Ok(false)
}
