//! The one error type: a kind to act on, and a sentence for people.

use std::fmt;

/// What went wrong, for programs to act on.
///
/// A time-out is never an error; operations with a time limit return `None` or `false`. Only a call
/// has a deadline, beyond which there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name breaks the rules for object names; no file was touched. Names have 1 to 200 bytes,
    /// no control character and none of `/ \\ : * ? " < > |`, no dot or space at the beginning or
    /// the end, and are not a Windows device's (`CON`, `NUL.txt`).
    InvalidName,
    /// There is no object of that name.
    NotFound,
    /// An object of that name exists already.
    AlreadyExists,
    /// The directory cannot be trusted: a symbolic link, somebody else's, or open to others.
    Untrusted,
    /// The operating system refused access.
    PermissionDenied,
    /// The object exists with another shape than the one asked for.
    Incompatible,
    /// The object's files are not what this version could have written.
    Damaged,
    /// A value, record, request or reply does not match its checksum; the next one may.
    Corrupt,
    /// The value, record, request or reply is longer than the object's capacity allows; nothing
    /// was handed over.
    TooLarge,
    /// The file system has no memory left; nothing was handed over.
    NoSpace,
    /// A table of participants has no free entry.
    Full,
    /// Another live writer, producer or server holds the object.
    WriterExists,
    /// The object is not as the operation needs it: the latest sequence is another one, or a lock
    /// that is to be removed is held. Nothing was changed.
    Conflict,
    /// The reader cannot keep up with the writer, or records were overwritten before the subscriber
    /// received them: [`Error::missed`] says how many.
    Lagged,
    /// The process at the other end is gone.
    PeerGone,
    /// The process at the other end answered with an error.
    Failed,
    /// A call's deadline passed.
    TimedOut,
    /// The object was removed while this handle was attached to it.
    Removed,
    /// The handle was made before a `fork` and is now used in the child.
    Forked,
    /// This system or file system cannot do what was asked.
    Unsupported,
    /// Waiting would never end.
    Deadlock,
    /// Any other failure of the operating system; see the source.
    Io,
}

impl ErrorKind {
    /// The kind's name in lower case with hyphens, for logs and machine-readable output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid-name",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Untrusted => "untrusted",
            Self::PermissionDenied => "permission-denied",
            Self::Incompatible => "incompatible",
            Self::Damaged => "damaged",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too-large",
            Self::NoSpace => "no-space",
            Self::Full => "full",
            Self::WriterExists => "writer-exists",
            Self::Conflict => "conflict",
            Self::Lagged => "lagged",
            Self::PeerGone => "peer-gone",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Removed => "removed",
            Self::Forked => "forked",
            Self::Unsupported => "unsupported",
            Self::Deadlock => "deadlock",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed operation: what was tried, on which object, why it failed and what to do.
pub struct Error(Box<Details>);

struct Details {
    kind: ErrorKind,
    operation: &'static str,
    object: String,
    cause: String,
    source: Option<std::io::Error>,
    missed: u64,
    failure: Option<(i32, String)>,
}

/// The result of every operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    #[cold]
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        object: impl Into<String>,
        cause: impl Into<String>,
    ) -> Self {
        Self(Box::new(Details {
            kind,
            operation,
            object: object.into(),
            cause: cause.into(),
            source: None,
            missed: 0,
            failure: None,
        }))
    }

    /// Translates an operating-system error into the kind that names it.
    #[cold]
    pub(crate) fn os(
        operation: &'static str,
        object: impl Into<String>,
        errno: crate::sys::Errno,
    ) -> Self {
        use crate::sys::Errno;
        let (kind, remedy) = match errno {
            Errno::NOENT => (ErrorKind::NotFound, "it does not exist"),
            Errno::EXIST => (ErrorKind::AlreadyExists, "it exists already"),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => (
                ErrorKind::PermissionDenied,
                "access denied; ask its owner for access",
            ),
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (
                ErrorKind::NoSpace,
                "no memory left on the file system; free some or enlarge it",
            ),
            Errno::LOOP => (ErrorKind::Untrusted, "it is a symbolic link; replace it"),
            _ => (ErrorKind::Io, "the system call failed"),
        };
        let mut error = Self::new(kind, operation, object, remedy);
        error.0.source = Some(errno.into());
        error
    }

    /// The same error, met in another operation.
    pub(crate) fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// Why it failed and what to do, without what was tried on which object.
    pub(crate) fn cause(&self) -> String {
        match &self.0.source {
            Some(source) => format!("{} ({source})", self.0.cause),
            None => self.0.cause.clone(),
        }
    }

    /// The same error, with the object named.
    pub(crate) fn on(mut self, object: impl Into<String>) -> Self {
        self.0.object = object.into();
        self
    }

    /// A subscriber that was overtaken missed so many records.
    #[cold]
    pub(crate) fn lagged(object: impl Into<String>, missed: u64) -> Self {
        let cause = format!(
            "{missed} records were overwritten before they were received; receive sooner, or use more capacity"
        );
        let mut error = Self::new(ErrorKind::Lagged, "receive from", object, cause);
        error.0.missed = missed;
        error
    }

    /// Of a [`Lagged`](ErrorKind::Lagged) subscriber: how many records it missed; otherwise 0.
    pub fn missed(&self) -> u64 {
        self.0.missed
    }

    /// A server answered with an error.
    #[cold]
    pub(crate) fn failed(object: impl Into<String>, code: i32, message: String) -> Self {
        let cause = format!("the server answered with error {code}: {message}");
        let mut error = Self::new(ErrorKind::Failed, "make", object, cause);
        error.0.failure = Some((code, message));
        error
    }

    /// Of a call that the server answered with an error ([`Failed`](ErrorKind::Failed)): the error's
    /// code and message.
    pub fn failure(&self) -> Option<(i32, &str)> {
        let (code, message) = self.0.failure.as_ref()?;
        Some((*code, message))
    }

    /// What went wrong, for programs to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            operation, object, ..
        } = &*self.0;
        write!(f, "cannot {operation} {object}: {}", self.cause())
    }
}

impl fmt::Debug for Error {
    /// The sentence and the kind: this is what a program shows that returns an error from `main`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{}]", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::AlreadyExists => Io::AlreadyExists,
            ErrorKind::PermissionDenied | ErrorKind::Untrusted => Io::PermissionDenied,
            ErrorKind::InvalidName => Io::InvalidInput,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::NoSpace => Io::StorageFull,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}
