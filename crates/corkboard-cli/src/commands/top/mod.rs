//! A live view of the space: `sample` looks, `view` knows what is shown, `draw` draws it.

mod draw;
mod sample;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use corkboard::Space;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::parse_duration;
use crate::exit::{Failure, Outcome};
use crate::output::{print_styled, wants_colour};
use crate::waiting::Requests;
use sample::{Sampler, table};
use view::{Then, View};

/// How soon a request to end is noticed.
const SLICE: Duration = Duration::from_millis(100);
/// Looking more often shows nobody more.
const SHORTEST: Duration = Duration::from_millis(20);

/// Watch all objects of the space: what they hold, how fast they are, and who is attached.
///
/// RATE is how many values were published, records sent or requests answered in a second, since the
/// look before. Of a stream, WRITERS are producers, READERS subscribers, and LAG
/// is how many records the slowest of them is behind; of a call, they are its server, its clients,
/// and how many requests wait for a server, and SEQUENCE is how many were answered. A damaged
/// object is shown with what is wrong with it.
///
/// Keys: arrows, or j and k, select an object, and Enter shows everything about it, which PageUp and
/// PageDown move; < and > choose the column to sort by, r reverses it; / shows only the objects
/// whose names have what is typed, until Esc; q ends.
///
/// Exit status 0 by q, 2 an error: also where standard output is no terminal.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard top
  corkboard top --interval 200ms
  corkboard top --once | sort -k 2")]
pub struct Arguments {
    /// How often to look, like 200ms or 3s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Look twice, so long apart, print one frame as plain text, and end. Needs no terminal.
    #[arg(long)]
    once: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let mut sampler = Sampler::new(space);
    if arguments.once {
        sampler.look()?;
        std::thread::sleep(arguments.interval);
        return print_styled(&table(&sampler.look()?).render());
    }
    if !std::io::stdout().is_terminal() {
        let message = "standard output is no terminal; print one frame with --once, or list the objects with ls";
        return Err(Failure::Refused(message.into()));
    }
    let requests = Requests::held_back()?;
    let mut view = View::new(sampler.path());
    let ended = {
        let mut screen = Screen::open().map_err(cannot_draw)?;
        show(
            &mut screen.terminal,
            &mut view,
            &mut sampler,
            arguments.interval,
            &requests,
        )
    };
    match ended.map_err(cannot_draw)? {
        Then::Quit => Ok(()),
        Then::GoOn => requests.obey(),
    }
}

fn cannot_draw(source: std::io::Error) -> Failure {
    Failure::Io("cannot use the terminal".into(), source)
}

/// The whole terminal, which is given back as it was: also by a panic, before it says what was
/// wrong.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> std::io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Looks and draws until somebody wants no more: by a key, or by a request to this process, for
/// which it is not to [`Then::Quit`] by itself.
fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    sampler: &mut Sampler,
    interval: Duration,
    requests: &Requests,
) -> std::io::Result<Then> {
    let has_colour = wants_colour();
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            view.update(sampler.look());
            due = Instant::now() + interval.max(SHORTEST);
        }
        terminal.draw(|frame| draw::draw(frame, view, has_colour))?;
        loop {
            if requests.is_asked() {
                return Ok(Then::GoOn);
            }
            let left = due.saturating_duration_since(Instant::now());
            if !event::poll(left.min(SLICE))? {
                if left <= SLICE {
                    break;
                }
                continue;
            }
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && let Then::Quit = view.key(key)
            {
                return Ok(Then::Quit);
            }
            break;
        }
    }
}
