//! Waiting for something, and noticing meanwhile that nobody wants it any more.

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
    /// Somebody asked this process to end; [`Requests::obey`] does.
    Request,
}
