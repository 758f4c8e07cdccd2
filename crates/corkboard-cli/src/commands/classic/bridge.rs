use corkboard::classic::Dialect;
use corkboard::{ErrorKind, Space, board};

use super::{TURN, Which, passes, watch};
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
/// checksum, or is too long for the other side. It ends with exit status 1 when one side is
/// removed.
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
    while arguments.count.is_none_or(|count| carried < count) {
        match reader.wait(&mut value, None) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) if passes(&error) => {
                complain(&error.to_string());
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Removed => return Err(which.removed()),
            Err(error) => return Err(error.into()),
        }
        match writer.publish(&value) {
            Ok(_) => carried += 1,
            Err(error) => go_on_after(error, || board_removed(&arguments.board))?,
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
    while arguments.count.is_none_or(|count| carried < count) {
        match reader.wait(Some(std::time::Duration::ZERO)) {
            Ok(None) => match requests.wait(&mut reader, &news, false)? {
                Woken::News => news.clear()?,
                Woken::OutputGone => {}
                Woken::Request => {
                    drop(news);
                    drop(reader);
                    return requests.obey();
                }
            },
            Ok(Some(snapshot)) => match writer.write_timeout(&snapshot, TURN) {
                Ok(true) => carried += 1,
                // Newer values may come meanwhile; this one is lost to the block.
                Ok(false) => complain(&format!(
                    "classic block {:?} is locked by another program; value {} was not carried",
                    which.name,
                    snapshot.sequence()
                )),
                Err(error) => go_on_after(error, || which.removed())?,
            },
            Err(error) if error.kind() == ErrorKind::Corrupt => complain(&error.to_string()),
            Err(error) if error.kind() == ErrorKind::Removed => return Err(board_removed(board)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn board_removed(name: &str) -> Failure {
    Failure::Negative(format!("board {name:?} was removed"))
}

/// Reports what keeps only this value from being carried; anything else is the end.
fn go_on_after(error: corkboard::Error, removed: impl FnOnce() -> Failure) -> Outcome {
    match error.kind() {
        ErrorKind::TooLarge | ErrorKind::NoSpace | ErrorKind::WriterExists => {
            complain(&error.to_string());
            Ok(())
        }
        ErrorKind::Removed => Err(removed()),
        _ if passes(&error) => {
            complain(&error.to_string());
            Ok(())
        }
        _ => Err(error.into()),
    }
}
