use corkboard::Space;
use corkboard::board::Options;
use corkboard::event::{Event, Reset};
use corkboard::stream;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::sample::{Column, Sampler};
use super::view::{Then, View};

/// A space of its own with a view on it, and a terminal that only remembers.
struct Scratch {
    space: Space,
    sampler: Sampler,
    view: View,
    terminal: Terminal<TestBackend>,
}

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("corkboard-top-{}-{test}", std::process::id());
        let directory = match cfg!(unix) {
            true => "/dev/shm".into(),
            false => std::env::temp_dir(),
        };
        let space = Space::at(directory.join(name)).unwrap();
        let sampler = Sampler::new(space.clone());
        Self {
            view: View::new(sampler.path()),
            sampler,
            space,
            terminal: Terminal::new(TestBackend::new(100, 12)).unwrap(),
        }
    }

    fn look(&mut self) {
        self.view.update(self.sampler.look());
    }

    /// The lines on the screen.
    fn screen(&mut self) -> Vec<String> {
        let view = &mut self.view;
        let frame = self.terminal.draw(|frame| draw(frame, view, true)).unwrap();
        let cells = frame.buffer.content();
        let line = |cells: &[ratatui::buffer::Cell]| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        };
        cells.chunks(100).map(line).collect()
    }

    fn press(&mut self, code: KeyCode) -> Then {
        self.view.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn type_in(&mut self, text: &str) {
        for c in text.chars() {
            assert_eq!(self.press(KeyCode::Char(c)), Then::GoOn);
        }
    }

    fn names(&self) -> Vec<&str> {
        self.view.shown().map(|row| row.key.0.as_str()).collect()
    }

    fn selected(&self) -> &str {
        &self.view.selected().unwrap().key.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.space.path());
    }
}

#[test]
fn a_frame_has_a_row_for_each_object_and_the_rate_between_two_looks() {
    let mut scratch = Scratch::new("rows");
    let space = scratch.space.clone();
    let mut board = Options::new().capacity(64).writer(&space, "天气").unwrap();
    let mut log = stream::Options::new().producer(&space, "log").unwrap();
    let _event = Event::create(&space, "ready", Reset::Manual).unwrap();
    board.publish(b"sun").unwrap();
    scratch.look();
    let lines = scratch.screen();
    assert!(lines[0].ends_with(": 3 objects, by name"), "{lines:?}");
    assert!(
        lines[1].starts_with("NAME   KIND    SIZE  CAPACITY  SEQUENCE  RATE"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("log    stream     -   1.0 MiB         0     -"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("ready  event   unset, manual-reset"),
        "{lines:?}"
    );
    assert!(
        lines[4].contains("board    3 B      64 B         1     -"),
        "{lines:?}"
    );
    assert!(lines[11].contains("q quit"), "{lines:?}");
    for _ in 0..100 {
        log.send(b"x").unwrap();
    }
    scratch.look();
    let rate = |name: &str| {
        let mut rows = scratch.view.shown();
        let row = rows.find(|row| row.key.0 == name).unwrap();
        row.rate.map(|rate| rate.per_second)
    };
    assert!(rate("log").unwrap() > 0.0);
    assert_eq!((rate("天气"), rate("ready")), (Some(0.0), None));
    // One of the same name that was created meanwhile has come no way yet.
    space.remove(corkboard::Kind::Stream, "log").unwrap();
    let _log = stream::Options::new().producer(&space, "log").unwrap();
    scratch.look();
    assert!(scratch.view.shown().next().unwrap().rate.is_none());
}

#[test]
fn rows_are_sorted_by_the_column_that_is_chosen_and_those_without_a_number_come_last() {
    let mut scratch = Scratch::new("sort");
    let space = scratch.space.clone();
    let _event = Event::create(&space, "a", Reset::Auto).unwrap();
    let mut writers = Vec::new();
    for (name, times) in [("b", 2), ("c", 3), ("d", 1)] {
        let mut writer = Options::new().writer(&space, name).unwrap();
        for _ in 0..times {
            writer.publish(name.as_bytes()).unwrap();
        }
        writers.push(writer);
    }
    scratch.look();
    assert_eq!(scratch.names(), ["a", "b", "c", "d"]);
    assert_eq!(scratch.selected(), "a");
    scratch.press(KeyCode::End);
    while scratch.view.sort != Column::Sequence {
        scratch.type_in(">");
    }
    assert_eq!(scratch.names(), ["c", "b", "d", "a"]);
    assert_eq!(scratch.selected(), "d");
    assert!(scratch.screen()[0].ends_with("by sequence"));
    scratch.type_in("r");
    assert_eq!(scratch.names(), ["d", "b", "c", "a"]);
    assert!(scratch.screen()[0].ends_with("by sequence, reversed"));
    scratch.type_in("<");
    assert_eq!(scratch.view.sort, Column::Capacity);
    // What is selected stays so, until it is gone.
    writers[2].publish(b"").unwrap();
    space.remove(corkboard::Kind::Event, "a").unwrap();
    scratch.look();
    assert_eq!(scratch.selected(), "d");
    space.remove(corkboard::Kind::Board, "d").unwrap();
    scratch.look();
    assert_eq!(scratch.selected(), "c");
}

#[test]
fn a_filter_narrows_the_list_until_it_is_cleared() {
    let mut scratch = Scratch::new("filter");
    let space = scratch.space.clone();
    let _events =
        ["ready", "read", "quit"].map(|name| Event::create(&space, name, Reset::Auto).unwrap());
    scratch.look();
    // What is typed is no command.
    scratch.type_in("/qu");
    assert_eq!(scratch.names(), ["quit"]);
    assert_eq!(scratch.screen()[11], "/qu_");
    scratch.press(KeyCode::Backspace);
    scratch.press(KeyCode::Backspace);
    scratch.type_in("read");
    scratch.press(KeyCode::Enter);
    assert_eq!(scratch.names(), ["read", "ready"]);
    let lines = scratch.screen();
    assert!(
        lines[0].contains("2 of 3 objects with \"read\""),
        "{lines:?}"
    );
    scratch.type_in("j");
    assert_eq!(scratch.selected(), "ready");
    scratch.press(KeyCode::Esc);
    assert_eq!(scratch.names().len(), 3);
    scratch.type_in("/nothing");
    assert!(scratch.view.selected().is_none());
    scratch.screen();
    scratch.press(KeyCode::Esc);
    assert_eq!(scratch.press(KeyCode::Char('q')), Then::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(scratch.view.key(interrupt), Then::Quit);
}

#[test]
fn details_are_those_of_the_selected_object_and_can_be_moved() {
    let mut scratch = Scratch::new("details");
    let space = scratch.space.clone();
    let _writer = Options::new().label("me").writer(&space, "x").unwrap();
    scratch.look();
    scratch.press(KeyCode::Enter);
    let lines = scratch.screen();
    assert!(lines.iter().any(|line| line == "board \"x\""), "{lines:?}");
    for _ in 0..5 {
        scratch.press(KeyCode::PageDown);
    }
    let lines = scratch.screen();
    assert_eq!(lines[10], "readers: none");
    scratch.press(KeyCode::Esc);
    assert!(
        !scratch
            .screen()
            .iter()
            .any(|line| line.starts_with("readers"))
    );
}

#[test]
fn the_list_moves_so_that_the_selected_object_is_seen() {
    let mut scratch = Scratch::new("scroll");
    let space = scratch.space.clone();
    let names = (10..40).map(|number| format!("event {number}"));
    let _events: Vec<Event> = names
        .map(|name| Event::create(&space, &name, Reset::Auto).unwrap())
        .collect();
    scratch.look();
    assert!(scratch.screen()[2].starts_with("event 10"));
    scratch.press(KeyCode::End);
    let lines = scratch.screen();
    assert!(
        lines[2].starts_with("event 31") && lines[10].starts_with("event 39"),
        "{lines:?}"
    );
    scratch.press(KeyCode::PageUp);
    assert!(scratch.screen()[2].starts_with("event 29"));
    scratch.press(KeyCode::Home);
    assert!(scratch.screen()[2].starts_with("event 10"));
    // However small the terminal is.
    for height in 0..6 {
        scratch.terminal = Terminal::new(TestBackend::new(3, height)).unwrap();
        scratch.press(KeyCode::Enter);
        scratch.press(KeyCode::End);
        let view = &mut scratch.view;
        scratch
            .terminal
            .draw(|frame| draw(frame, view, true))
            .unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_damaged_object_and_a_space_that_is_gone_are_told() {
    use ratatui::style::{Color, Modifier};

    let mut scratch = Scratch::new("damaged");
    let space = scratch.space.clone();
    std::fs::write(space.path().join("x.stream"), b"").unwrap();
    let _event = Event::create(&space, "y", Reset::Auto).unwrap();
    scratch.look();
    scratch.press(KeyCode::Down);
    let lines = scratch.screen();
    assert!(
        lines[2].starts_with("x     stream  cannot open stream \"x\""),
        "{lines:?}"
    );
    let cell = |x, y| scratch.terminal.backend().buffer()[(x, y)].clone();
    assert_eq!(cell(0, 2).fg, Color::Red);
    assert!(cell(0, 3).modifier.contains(Modifier::REVERSED));
    let view = &mut scratch.view;
    scratch
        .terminal
        .draw(|frame| draw(frame, view, false))
        .unwrap();
    let cells = scratch.terminal.backend().buffer().content().iter();
    assert!(cells.into_iter().all(|cell| cell.fg == Color::Reset));
    std::fs::remove_dir_all(space.path()).unwrap();
    scratch.look();
    let lines = scratch.screen();
    assert!(lines[3].starts_with("y     event"), "{lines:?}");
    assert!(
        !lines[11].is_empty() && !lines[11].contains("q quit"),
        "{lines:?}"
    );
    std::fs::create_dir(space.path()).unwrap();
    scratch.look();
    assert!(scratch.screen()[11].contains("q quit"));
}
