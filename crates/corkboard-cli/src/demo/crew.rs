//! The demonstration's processes, as their parent sees them.
//!
//! Every process is killed and reaped when the crew is dropped. Should the parent die without
//! dropping anything, the processes' standard input ends, and so do they; the sweeper then
//! removes the space. Each is in a process group of its own, so that an interrupt from the
//! terminal reaches the parent alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::protocol::{Board, Counts, Event, Order, Role};

/// How long anything may take before the demonstration counts it as failed.
/// It is generous: a starved machine is slow, not wrong.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Starting several processes on a busy machine.
const START: Duration = Duration::from_secs(30);

/// One process and what it has told.
pub struct Process {
    pub role: Role,
    pub board: Board,
    pub number: u64,
    pub counts: Counts,
    pub published: u64,
    /// The sequence that a writer was stopped in, or that a reader holds.
    pub stopped_at: Option<u64>,
    child: Child,
    stdin: Option<ChildStdin>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    StandingBy,
    Ready,
    HalfWay,
    Holding,
    Done,
    Killed,
}

/// How many values a board's writers had published at a time.
struct Mark {
    at: Instant,
    board: Board,
    total: u64,
}

/// All processes.
pub struct Crew {
    pub processes: Vec<Process>,
    space: std::path::PathBuf,
    sender: Sender<(usize, Option<Event>)>,
    events: Receiver<(usize, Option<Event>)>,
    marks: Vec<Mark>,
}

/// Refers to a process of the crew.
#[derive(Clone, Copy)]
pub struct Id(usize);

/// Starts one process of the demonstration.
pub fn start(role: Role, board: Board, number: u64, space: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["demo-process", role.as_str(), "--board", board.name()])
        .args(["--number", &number.to_string(), "--space"])
        .arg(space)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
}

impl Crew {
    pub fn new(space: &Path) -> Self {
        let (sender, events) = channel();
        Self {
            processes: Vec::new(),
            space: space.to_owned(),
            sender,
            events,
            marks: Vec::new(),
        }
    }

    /// Starts a process.
    pub fn add(&mut self, role: Role, board: Board) -> Result<Id, String> {
        let id = self.processes.len();
        let number = id as u64 + 1;
        let mut child = start(role, board, number, &self.space)
            .map_err(|error| format!("cannot start a process: {error}"))?;
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stdin = child.stdin.take();
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = sender.send((id, Some(event)));
                }
            }
            let _ = sender.send((id, None));
        });
        self.processes.push(Process {
            role,
            board,
            number,
            counts: Counts::default(),
            published: 0,
            stopped_at: None,
            child,
            stdin,
            stage: Stage::Starting,
        });
        Ok(Id(id))
    }

    pub fn process(&self, id: Id) -> &Process {
        &self.processes[id.0]
    }

    /// Waits until a writer has its board, or a reader has verified a value.
    pub fn until_ready(&mut self, id: Id, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        self.until(id, Stage::Ready, START, watch)
    }

    /// Waits until a writer is about to stand by.
    pub fn until_standing_by(
        &mut self,
        id: Id,
        watch: &mut dyn FnMut(&Self),
    ) -> Result<(), String> {
        self.until(id, Stage::StandingBy, START, watch)
    }

    /// Has a writer stop in the middle of its next value.
    pub fn stop_half_way(&mut self, id: Id, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        self.order(id, Order::StopHalfWay)?;
        self.until(id, Stage::HalfWay, DEADLINE, watch)
    }

    /// Has a slow reader keep its snapshot.
    pub fn hold(&mut self, id: Id, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        self.order(id, Order::Hold)?;
        self.until(id, Stage::Holding, DEADLINE, watch)
    }

    /// Ends a process with SIGKILL.
    pub fn kill(&mut self, id: Id) -> Result<(), String> {
        let process = &mut self.processes[id.0];
        process.stage = Stage::Killed;
        let killed = process.child.kill();
        killed.map_err(|error| format!("cannot kill {}: {error}", process.title()))
    }

    /// Lets everyone finish.
    pub fn stop(&mut self, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        let running: Vec<_> = (0..self.processes.len())
            .map(Id)
            .filter(|id| self.process(*id).stage != Stage::Killed)
            .collect();
        for id in &running {
            self.order(*id, Order::Stop)?;
        }
        for id in running {
            self.until(id, Stage::Done, DEADLINE, watch)?;
        }
        Ok(())
    }

    /// Lets everyone work for some time.
    pub fn work(&mut self, time: Duration, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.listen(left, watch)?;
        }
    }

    /// Values published per second on a board since `from`, and none when too little is known.
    pub fn rate(&self, board: Board, from: Instant) -> Option<f64> {
        let mut marks = self.marks.iter().filter(|mark| mark.board == board);
        let last = marks.clone().next_back()?;
        let first = marks.find(|mark| mark.at >= from)?;
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        (seconds > 0.05).then(|| (last.total - first.total) as f64 / seconds)
    }

    /// Values published on a board, as far as its writers told.
    pub fn published(&self, board: Board) -> u64 {
        let writers = self
            .processes
            .iter()
            .filter(|process| process.board == board);
        writers.map(|process| process.published).sum()
    }

    fn order(&mut self, id: Id, order: Order) -> Result<(), String> {
        let process = &mut self.processes[id.0];
        let line = format!("{}\n", order.as_str());
        let sent = match &mut process.stdin {
            Some(stdin) => stdin.write_all(line.as_bytes()),
            None => Ok(()),
        };
        sent.map_err(|error| format!("cannot reach {}: {error}", process.title()))
    }

    fn until(
        &mut self,
        id: Id,
        stage: Stage,
        limit: Duration,
        watch: &mut dyn FnMut(&Self),
    ) -> Result<(), String> {
        let end = Instant::now() + limit;
        while self.process(id).stage != stage {
            // A standby that has taken over already is past standing by.
            if stage == Stage::StandingBy && self.process(id).stage == Stage::Ready {
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let title = self.process(id).title();
                return Err(format!("{title} was not {stage:?} after {limit:?}"));
            }
            self.listen(left, watch)?;
        }
        Ok(())
    }

    /// Takes in what the processes tell, for a while of at most a tenth of a second.
    fn listen(&mut self, limit: Duration, watch: &mut dyn FnMut(&Self)) -> Result<(), String> {
        let limit = limit.min(Duration::from_millis(100));
        if let Ok((id, event)) = self.events.recv_timeout(limit) {
            self.hear(id, event)?;
            while let Ok((id, event)) = self.events.try_recv() {
                self.hear(id, event)?;
            }
        }
        watch(self);
        Ok(())
    }

    fn hear(&mut self, id: usize, event: Option<Event>) -> Result<(), String> {
        let process = &mut self.processes[id];
        let stage = match event {
            Some(Event::StandingBy) => Stage::StandingBy,
            Some(Event::Ready) => Stage::Ready,
            Some(Event::HalfWay { sequence }) => {
                process.stopped_at = Some(sequence);
                Stage::HalfWay
            }
            Some(Event::Holding { sequence }) => {
                process.stopped_at = Some(sequence);
                Stage::Holding
            }
            Some(Event::Done) => Stage::Done,
            Some(Event::Seen(counts)) => {
                process.counts.add(counts);
                return Ok(());
            }
            Some(Event::Published { total }) => {
                process.published = total;
                let board = process.board;
                let (at, total) = (Instant::now(), self.published(board));
                self.marks.push(Mark { at, board, total });
                return Ok(());
            }
            Some(Event::Failed { message }) => {
                return Err(format!("{}: {message}", process.title()));
            }
            None if matches!(process.stage, Stage::Done | Stage::Killed) => return Ok(()),
            None => return Err(format!("{} ended by itself", process.title())),
        };
        // What a killed process had still to say changes nothing.
        if process.stage != Stage::Killed {
            process.stage = stage;
        }
        Ok(())
    }
}

impl Process {
    pub fn is_killed(&self) -> bool {
        self.stage == Stage::Killed
    }

    /// What to call it.
    pub fn title(&self) -> String {
        let role = match self.role {
            Role::Writer => "writer".into(),
            role => format!("{} reader", role.as_str()),
        };
        let (number, board) = (self.number, self.board.name());
        format!("{role} {number} of {board} (pid {})", self.child.id())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
