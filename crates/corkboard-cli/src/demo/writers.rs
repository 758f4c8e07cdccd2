//! The processes that publish.

use std::time::{Duration, Instant};

use corkboard::board::{Options, Writer};
use corkboard::{Result, Space};

use super::frames::{self, Pattern};
use super::machine::{self, Sampler};
use super::protocol::{Arguments, Board, Event, Order, Orders, monotonic_ns, tell};

const TICK: Duration = Duration::from_millis(100);
/// Longer than any demonstration lasts.
const STAND_BY: Duration = Duration::from_secs(1 << 20);

/// Stands by until the board is free, then publishes until told otherwise.
pub fn run(arguments: &Arguments, space: &Space, orders: &Orders) -> Result<()> {
    let board = arguments.board;
    let mut author = Author::new(board, arguments.number);
    tell(&Event::StandingBy);
    let capacity = match board {
        Board::Machine => machine::CAPACITY,
        Board::Frames => frames::LEN,
    };
    let options = Options::new()
        .capacity(capacity)
        .writer_timeout(STAND_BY)
        .label(&format!("demo: writer {}", arguments.number));
    let mut writer = options.writer(space, board.name())?;
    // An exclusive writer knows the next sequence, so the value can contain it.
    let mut next = 1 + writer.latest()?.map_or(0, |latest| latest.sequence());
    let mut total = 0;
    let mut due = Instant::now();
    let mut told = due;
    loop {
        let sequence = author.publish(&mut writer, next)?;
        if sequence != next {
            let message = format!("value {next} was published as {sequence}");
            tell(&Event::Failed { message });
            return Ok(());
        }
        next += 1;
        total += 1;
        let now = Instant::now();
        if total == 1 {
            tell(&Event::Ready);
        }
        if now - told > TICK {
            tell(&Event::Published { total });
            told = now;
        }
        // Who falls behind publishes less often, and never catches up in a burst.
        due = now.max(due + board.period());
        match orders.wait(due - now) {
            Some(Order::StopHalfWay) => author.stop_half_way(&mut writer, next)?,
            Some(Order::Stop) => break,
            Some(Order::Hold) | None => {}
        }
    }
    tell(&Event::Published { total });
    tell(&Event::Done);
    Ok(())
}

struct Author {
    number: u64,
    content: Content,
}

enum Content {
    Machine(Sampler),
    Frames(Pattern),
}

impl Author {
    fn new(board: Board, number: u64) -> Self {
        let content = match board {
            Board::Machine => Content::Machine(Sampler::default()),
            Board::Frames => Content::Frames(Pattern::new()),
        };
        Self { number, content }
    }

    fn publish(&mut self, writer: &mut Writer, sequence: u64) -> Result<u64> {
        match &mut self.content {
            Content::Machine(sampler) => {
                let sample = sampler.sample(sequence, self.number, monotonic_ns);
                writer.publish(sample.as_bytes())
            }
            Content::Frames(pattern) => {
                let mut frame = writer.loan(frames::LEN)?;
                pattern.fill(&mut frame, sequence, 0..frames::PIECES);
                frames::stamp(&mut frame, sequence, self.number, monotonic_ns());
                frame.publish()
            }
        }
    }

    /// Never returns: the parent kills this process while it fills the loan.
    fn stop_half_way(&mut self, writer: &mut Writer, sequence: u64) -> Result<()> {
        let Content::Frames(pattern) = &self.content else {
            return Ok(());
        };
        let half = frames::PIECES / 2;
        let mut frame = writer.loan(frames::LEN)?;
        pattern.fill(&mut frame, sequence, 0..half);
        frames::stamp(&mut frame, sequence, self.number, monotonic_ns());
        tell(&Event::HalfWay { sequence });
        loop {
            for piece in half..frames::PIECES - 1 {
                pattern.fill(&mut frame, sequence, piece..piece + 1);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
