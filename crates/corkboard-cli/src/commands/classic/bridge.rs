use std::time::Duration;

use corkboard::classic::Dialect;
use corkboard::{ErrorKind, Space, board};

use super::{Complaints, TURN, Which, passes, watch};
use crate::commands::{parse_bytes, put, watch as board_watch};
use crate::exit::{Failure, Outcome, complain};
use crate::waiting::{Requests, Woken};

/// Carry a block's changes to a board, or with --reverse a board's values to a block.
///
/// So programs of the C++ library feed readers of the board, or see what is published there. The
/// newest content counts: what is replaced while the one before is being carried is skipped. Waits
/// for the creation of what it reads, and creates what it writes if absent.
///
/// What cannot be carried is reported, and bridge goes on: content that does not match its
/// checksum, or is too long for the other side. What cannot be carried yet is reported once, and
/// tried again until it is carried or a newer value takes its place: because other programs hold
/// the block's lock, another writer holds the board, or there is no memory. It ends with exit
/// status 1 when one side is removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard classic bridge weather weather
  corkboard classic bridge orders orders --reverse --dialect untailed")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The board's name.
    board: String,
    /// Carry the board's values to the block.
    #[arg(long)]
    reverse: bool,
    /// The longest value that is to be carried, like 65536 or 64MiB; by default what the side that
    /// is read has room for.
    #[arg(long, value_parser = parse_bytes)]
    capacity: Option<usize>,
    /// End after this many values.
    #[arg(long)]
    count: Option<u64>,
}

/// How long to wait before trying again to carry a value.
const RETRY: Duration = Duration::from_millis(50);
/// How often to look whether the side that is written to is still there.
const LOOK: Duration = Duration::from_millis(500);

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    match arguments.reverse {
        false => to_board(&space, &arguments),
        true => to_block(&space, &arguments),
    }
}

fn to_board(space: &Space, arguments: &Arguments) -> Outcome {
    let which = &arguments.which;
    let Some(mut reader) = watch::open(space, which, || Ok(false))? else {
        return Ok(());
    };
    let room = reader.capacity()?;
    let (mut writer, _) = put::open(space, &arguments.board, arguments.capacity, room)?;
    let (mut value, mut carried) = (Vec::new(), 0);
    let mut complaints = Complaints::default();
    // What could not be carried yet.
    let mut pending: Option<Vec<u8>> = None;
    while arguments.count.is_none_or(|count| carried < count) {
        let patience = Some(pending.as_ref().map_or(LOOK, |_| RETRY));
        let is_new = match reader.wait(&mut value, patience) {
            Ok(is_new) => is_new,
            Err(error) if passes(&error) => {
                complaints.say(&error);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Removed => return Err(which.removed()),
            Err(error) => return Err(error.into()),
        };
        if is_new {
            complaints.forget();
            pending = None;
        }
        let Some(next) = is_new.then_some(&value).or(pending.as_ref()) else {
            // A loan is refused on a board that was removed; nothing comes of this one.
            if let Err(error) = writer.loan(0)
                && error.kind() == ErrorKind::Removed
            {
                return Err(board_removed(&arguments.board));
            }
            continue;
        };
        match writer.publish(next) {
            Ok(_) => {
                carried += 1;
                pending = None;
            }
            Err(error) => {
                let may_succeed = is_for_now(&error);
                let is_told = pending.is_some();
                go_on_after(error, is_told, || board_removed(&arguments.board))?;
                if !may_succeed {
                    pending = None;
                } else if is_new {
                    pending = Some(std::mem::take(&mut value));
                }
            }
        }
    }
    Ok(())
}

fn to_block(space: &Space, arguments: &Arguments) -> Outcome {
    let (which, board) = (&arguments.which, &arguments.board);
    let Some(mut reader) = board_watch::open(space, board, false)? else {
        return Ok(());
    };
    let dialect = which.dialect(space)?.unwrap_or(Dialect::Seed);
    let mut options = which.options(dialect);
    if let Some(capacity) = arguments.capacity {
        options = options.capacity(capacity);
    } else if which.reader(space)?.is_none() {
        options = options.capacity(board::stat(space, board)?.capacity);
    }
    let mut writer = options.writer(space, &which.name)?;
    let requests = Requests::new()?;
    let news = reader.notifier()?;
    let mut carried = 0;
    // What could not be carried yet.
    let mut pending: Option<Vec<u8>> = None;
    while arguments.count.is_none_or(|count| carried < count) {
        let next = match reader.wait(Some(Duration::ZERO)) {
            Ok(Some(snapshot)) => {
                // Not the slot itself, which the board's writer may need meanwhile.
                (snapshot.to_vec(), false)
            }
            Ok(None) => match pending.take() {
                Some(value) => (value, true),
                None => match requests.wait(&mut reader, &news, false, Some(LOOK))? {
                    Woken::News => {
                        news.clear()?;
                        continue;
                    }
                    Woken::TimeOut if which.reader(space)?.is_none() => {
                        return Err(which.removed());
                    }
                    Woken::OutputGone | Woken::TimeOut => continue,
                    Woken::Request => {
                        drop(news);
                        drop(reader);
                        return requests.obey();
                    }
                },
            },
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                complain(&error.to_string());
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Removed => return Err(board_removed(board)),
            Err(error) => return Err(error.into()),
        };
        let (value, is_told) = next;
        match writer.write_timeout(&value, TURN) {
            Ok(true) => {
                carried += 1;
                pending = None;
            }
            Ok(false) => {
                if !is_told {
                    complain(&format!(
                        "classic block {:?} is locked by another program; trying again",
                        which.name
                    ));
                }
                pending = Some(value);
            }
            Err(error) => {
                let may_succeed = is_for_now(&error);
                go_on_after(error, is_told, || which.removed())?;
                pending = may_succeed.then_some(value);
                std::thread::sleep(RETRY);
            }
        }
    }
    Ok(())
}

fn board_removed(name: &str) -> Failure {
    Failure::Negative(format!("board {name:?} was removed"))
}

/// Whether the same value can be carried later.
fn is_for_now(error: &corkboard::Error) -> bool {
    matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::WriterExists)
}

/// Reports what keeps only this value from being carried, unless that was told; anything else is
/// the end.
fn go_on_after(
    error: corkboard::Error,
    is_told: bool,
    removed: impl FnOnce() -> Failure,
) -> Outcome {
    match error.kind() {
        ErrorKind::Removed => return Err(removed()),
        ErrorKind::TooLarge => {}
        _ if is_for_now(&error) || passes(&error) => {}
        _ => return Err(error.into()),
    }
    if !is_told {
        complain(&error.to_string());
    }
    Ok(())
}
