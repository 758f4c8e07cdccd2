//! What is happening now: one living line on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::crew::Crew;
use super::protocol::Board;
use crate::output::count;

/// Tells people, on standard error.
pub struct Progress {
    start: Instant,
    form: Form,
}

enum Form {
    Living(ProgressBar),
    Plain,
    Silent,
}

impl Progress {
    /// Living on a terminal; without one, lines, or nothing if the result is for a program.
    pub fn new(is_for_program: bool) -> Self {
        let form = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.expect("the template is well formed"));
            bar.enable_steady_tick(Duration::from_millis(100));
            Form::Living(bar)
        } else if is_for_program {
            Form::Silent
        } else {
            Form::Plain
        };
        Self {
            start: Instant::now(),
            form,
        }
    }

    /// Says something that remains to be read.
    pub fn say(&self, text: &str) {
        let line = format!("{:5.1} s  {text}", self.start.elapsed().as_secs_f64());
        match &self.form {
            Form::Living(bar) => bar.println(line),
            Form::Plain => {
                // Nobody is left to hear that standard error is closed.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Form::Silent => {}
        }
    }

    /// Brings the living line up to date.
    pub fn show(&self, crew: &Crew) {
        let Form::Living(bar) = &self.form else {
            return;
        };
        let lately = Instant::now()
            .checked_sub(Duration::from_secs(1))
            .unwrap_or(self.start);
        let rates = Board::ALL.map(|board| {
            let rate = crew.rate(board, lately).unwrap_or(0.0);
            format!("{} {rate:.0}/s", board.name())
        });
        let counts = || crew.processes.iter().map(|process| &process.counts);
        let wrong: u64 = counts()
            .map(|c| c.torn + c.corrupt + c.backwards + c.changed)
            .sum();
        bar.set_message(format!(
            "{} · {} reads · {} values verified · {wrong} wrong",
            rates.join(" · "),
            count(counts().map(|c| c.reads).sum()),
            count(counts().map(|c| c.values).sum()),
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Living(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}
