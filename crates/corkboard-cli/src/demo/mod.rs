//! The demonstration: real processes, real data, real kills, and every byte verified.
//!
//! `mod.rs` tells the story. `crew` starts and ends the processes, `protocol` is how they talk,
//! `writers` and `readers` are what they do, `machine` and `frames` what they exchange.

mod content;
mod crew;
mod frames;
mod machine;
mod progress;
mod protocol;
mod readers;
mod report;
mod stage;
mod writers;

use std::time::{Duration, Instant};

use corkboard::Space;
use corkboard::board::{self, Reader};

use crate::exit::{Failure, Outcome};
use crate::output::{print_json, print_styled, size, time};
use content::Verifier;
use crew::{Crew, DEADLINE, Id};
use progress::Progress;
use protocol::{Board, Event, Orders, Role, tell};
use report::{BoardReport, ReaderKilled, Report, TakeOver};
use stage::Stage;

pub use protocol::Arguments as ProcessArguments;

/// What the parent does, in this order, in shares of the whole time.
const BEFORE_KILLS: f64 = 0.3;
const BETWEEN_KILLS: f64 = 0.15;

/// How many publications show that a dead reader's pin holds nobody up.
const GOES_ON: u64 = 6;

/// The story so far.
pub struct Story<'a> {
    stage: &'a Stage,
    crew: Crew,
    progress: &'a Progress,
    take_overs: Vec<(Board, TakeOver)>,
    reader_killed: Option<ReaderKilled>,
    /// When all were at work.
    began: Option<Instant>,
    memory_bytes: u64,
}

/// Runs the demonstration for about so many seconds.
pub fn run(seconds: f64, is_json: bool) -> Outcome {
    let start = Instant::now();
    let stage = Stage::new()?;
    let progress = Progress::new(is_json);
    let mut story = Story {
        crew: Crew::new(stage.path()),
        stage: &stage,
        progress: &progress,
        take_overs: Vec::new(),
        reader_killed: None,
        began: None,
        memory_bytes: 0,
    };
    let told = story.tell(Duration::from_secs_f64(seconds));
    let report = story.report(told, start.elapsed());
    drop(story);
    drop(progress);
    drop(stage);
    if is_json {
        print_json(&report)?;
    } else {
        print_styled(&report.render())?;
    }
    if report.passed {
        return Ok(());
    }
    let problems = report.problems.into_iter();
    Err(Failure::Several(problems.map(Failure::Refused).collect()))
}

/// What one process of the demonstration does.
pub fn run_process(arguments: ProcessArguments) -> Outcome {
    if arguments.role == Role::Sweeper {
        stage::run_sweeper(&arguments.space);
        return Ok(());
    }
    let orders = Orders::listen();
    let result = Space::at(&arguments.space).and_then(|space| match arguments.role {
        Role::Writer => writers::run(&arguments, &space, &orders),
        _ => readers::run(&arguments, &space, &orders),
    });
    if let Err(error) = result {
        let message = error.to_string();
        tell(&Event::Failed { message });
    }
    Ok(())
}

impl Story<'_> {
    fn tell(&mut self, whole: Duration) -> Result<(), String> {
        let [first, standby] = self.start_writers()?;
        let slow = self.start_readers()?;
        self.began = Some(Instant::now());
        self.work(whole.mul_f64(BEFORE_KILLS))?;

        let progress = self.progress;
        let [machine, frames] = [0, 1];
        let victim = first[frames];
        self.crew
            .stop_half_way(victim, &mut |crew| progress.show(crew))?;
        let process = self.crew.process(victim);
        progress.say(&format!(
            "{} stopped half-way through frame {}",
            process.title(),
            process.stopped_at.unwrap_or(0)
        ));
        self.kill_writer(victim, standby[frames], true)?;
        self.work(whole.mul_f64(BETWEEN_KILLS))?;

        self.kill_writer(first[machine], standby[machine], false)?;
        let quiet = Instant::now();
        self.work(whole.mul_f64(BETWEEN_KILLS))?;

        self.kill_reader(slow, quiet)?;
        let began = self.began.unwrap_or_else(Instant::now);
        self.work(whole.saturating_sub(began.elapsed()))?;
        self.note_memory();
        progress.say("stopping everyone");
        self.crew.stop(&mut |crew| progress.show(crew))
    }

    /// A writer and a standby for each board.
    fn start_writers(&mut self) -> Result<[[Id; 2]; 2], String> {
        let progress = self.progress;
        let watch = &mut |crew: &Crew| progress.show(crew);
        progress.say(&format!(
            "machine: samples of this machine as JSON, 100 a second; frames: {}, 60 a second",
            size(frames::LEN as u64)
        ));
        let start = |crew: &mut Crew| -> Result<[Id; 2], String> {
            let machine = crew.add(Role::Writer, Board::Machine)?;
            Ok([machine, crew.add(Role::Writer, Board::Frames)?])
        };
        let first = start(&mut self.crew)?;
        for id in first {
            self.crew.until_ready(id, watch)?;
        }
        let standby = start(&mut self.crew)?;
        for id in standby {
            self.crew.until_standing_by(id, watch)?;
        }
        Ok([first, standby])
    }

    /// Three readers for each board; returns the slow one of the frames.
    fn start_readers(&mut self) -> Result<Id, String> {
        let progress = self.progress;
        let mut ids = Vec::new();
        for board in Board::ALL {
            for role in [Role::Sleeping, Role::Spinning, Role::Slow] {
                ids.push(self.crew.add(role, board)?);
            }
        }
        for id in &ids {
            self.crew
                .until_ready(*id, &mut |crew| progress.show(crew))?;
        }
        progress.say(
            "2 writers, 2 standbys and 6 readers at work: of each board, one reader sleeps, \
             one spins, one holds its values",
        );
        Ok(ids[5])
    }

    fn work(&mut self, time: Duration) -> Result<(), String> {
        let progress = self.progress;
        self.note_memory();
        self.crew.work(time, &mut |crew| progress.show(crew))
    }

    fn note_memory(&mut self) {
        self.memory_bytes = self.memory_bytes.max(self.stage.memory_bytes());
    }

    /// Kills a board's writer and watches the standby take over.
    fn kill_writer(&mut self, id: Id, standby: Id, is_half_way: bool) -> Result<(), String> {
        let board = self.crew.process(id).board;
        let failed = |error: corkboard::Error| error.to_string();
        let mut reader = Reader::open(&self.stage.space, board.name()).map_err(failed)?;
        let verifier = Verifier::new(board);
        let before = reader.read().map_err(failed)?;
        let mut last_sequence_before = before.map_or(0, |snapshot| snapshot.sequence());
        let title = self.crew.process(id).title();
        let standby = self.crew.process(standby).number;

        let killed = Instant::now();
        self.crew.kill(id)?;
        let (seconds, first_sequence_after) = loop {
            let left = DEADLINE.saturating_sub(killed.elapsed());
            let snapshot = reader.wait(Some(left)).map_err(failed)?;
            let now = killed.elapsed();
            let Some(snapshot) = snapshot else {
                let board = board.name();
                return Err(format!("{board}: no standby took over in {DEADLINE:?}"));
            };
            let sequence = snapshot.sequence();
            let head = verifier.verify(&snapshot, sequence);
            let head = head.map_err(|defect| format!("after the kill: {defect:?}"))?;
            if head.writer == standby {
                break (now.as_secs_f64(), sequence);
            }
            last_sequence_before = sequence;
        };
        self.progress.say(&format!(
            "killed {title}; the standby published value {first_sequence_after} after {}",
            time(Duration::from_secs_f64(seconds))
        ));
        let take_over = TakeOver {
            seconds,
            in_the_middle_of_a_value: is_half_way,
            last_sequence_before,
            first_sequence_after,
        };
        self.take_overs.push((board, take_over));
        Ok(())
    }

    /// Kills a reader that holds a frame, shows that publishing goes on, and replaces it.
    fn kill_reader(&mut self, id: Id, quiet: Instant) -> Result<(), String> {
        let progress = self.progress;
        let watch = &mut |crew: &Crew| progress.show(crew);
        self.crew.hold(id, watch)?;
        let title = self.crew.process(id).title();
        let before = self.crew.rate(Board::Frames, quiet);
        self.crew.kill(id)?;
        let killed = Instant::now();
        let published = self.crew.published(Board::Frames);
        let held = self.crew.process(id).stopped_at.unwrap_or(0);
        progress.say(&format!("killed {title} while it held frame {held}"));
        let mut after = 0;
        while after < GOES_ON || killed.elapsed() < Duration::from_millis(500) {
            if killed.elapsed() > DEADLINE {
                return Err(format!(
                    "frames: {after} frames in {DEADLINE:?} after a reader was killed"
                ));
            }
            self.crew.work(Duration::from_millis(100), watch)?;
            after = self.crew.published(Board::Frames) - published;
        }
        let rate = self.crew.rate(Board::Frames, killed);
        self.reader_killed = Some(ReaderKilled {
            publications_per_second_before: before,
            publications_per_second_after: rate,
            publications_after: after,
        });
        let replacement = self.crew.add(Role::Slow, Board::Frames)?;
        self.crew.until_ready(replacement, watch)?;
        progress.say("publishing went on, and another reader took the dead one's place");
        Ok(())
    }

    fn report(&self, told: Result<(), String>, whole: Duration) -> Report {
        let mut problems: Vec<String> = told.err().into_iter().collect();
        let boards: Vec<BoardReport> = Board::ALL
            .into_iter()
            .map(|board| {
                let take_over = self.take_overs.iter().find(|(of, _)| *of == board);
                let rate = self.began.and_then(|began| self.crew.rate(board, began));
                let take_over = take_over.map(|(_, take_over)| take_over.clone());
                BoardReport::new(board, &self.crew, self.publications(board), rate, take_over)
            })
            .collect();
        problems.extend(boards.iter().flat_map(BoardReport::problems));
        for process in &self.crew.processes {
            let problem = process.counts.problem.as_ref();
            problems.extend(problem.map(|problem| format!("{}: {problem}", process.title())));
        }
        if self.reader_killed.is_none() {
            problems.push("frames: no reader was killed while it held a frame".into());
        }
        Report {
            passed: problems.is_empty(),
            seconds: whole.as_secs_f64(),
            boards,
            reader_killed: self.reader_killed.clone(),
            memory_bytes: self.memory_bytes,
            problems,
        }
    }

    /// The sequence of the newest value, which counts also what a killed writer did not tell.
    fn publications(&self, board: Board) -> u64 {
        board::stat(&self.stage.space, board.name()).map_or(0, |stat| stat.sequence)
    }
}
