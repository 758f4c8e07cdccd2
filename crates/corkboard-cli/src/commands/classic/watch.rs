use std::io::IsTerminal as _;
use std::time::Duration;

use corkboard::classic::Reader;
use corkboard::{ErrorKind, Space};

use super::{Complaints, Form, Which, passes};
use crate::exit::{Failure, Outcome, complain};
use crate::waiting::is_output_gone;

/// How long to wait before looking whether anybody reads the output.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to sleep before looking again whether there is a block.
const PAUSE: Duration = Duration::from_millis(20);

/// Print a block's content, and again whenever it has changed.
///
/// Waits for the block's creation. A block does not count its values: the same content written
/// again is no change, and of several changes in a row only the last may be seen.
///
/// Content that does not match its checksum is reported, and watch goes on. When nobody reads its
/// output any more, it ends.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard classic watch weather --lines
  corkboard classic watch weather --json | jq .value")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// End after this many values.
    #[arg(long)]
    count: Option<u64>,
    /// Add a line break after each value.
    #[arg(long, conflicts_with_all = ["json", "hex"])]
    lines: bool,
    #[command(flatten)]
    form: Form,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let which = &arguments.which;
    let Some(mut reader) = open(&space, which, is_output_gone)? else {
        return Ok(());
    };
    let (mut value, mut shown) = (Vec::new(), 0);
    let mut complaints = Complaints::default();
    while arguments.count.is_none_or(|count| shown < count) {
        match reader.wait(&mut value, Some(PATIENCE)) {
            Ok(false) if is_output_gone()? => break,
            Ok(false) => {}
            Ok(true) => {
                complaints.forget();
                let (form, dialect) = (&arguments.form, reader.dialect());
                form.show(which, dialect, &value, arguments.lines)?;
                shown += 1;
            }
            Err(error) if passes(&error) => complaints.say(&error),
            Err(error) if error.kind() == ErrorKind::Removed => return Err(which.removed()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for the block's creation; `None` when nobody wants it any more.
pub fn open(
    space: &Space,
    which: &Which,
    is_over: impl Fn() -> Result<bool, Failure>,
) -> Result<Option<Reader>, Failure> {
    let mut has_said = !std::io::stderr().is_terminal();
    loop {
        if let Some(reader) = which.reader(space)? {
            return Ok(Some(reader));
        }
        if is_over()? {
            return Ok(None);
        }
        if !has_said {
            complain(&format!("{}; waiting for it", which.absence(space)));
            has_said = true;
        }
        std::thread::sleep(PAUSE);
    }
}
