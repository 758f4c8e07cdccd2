//! What is shown: which objects in which order, and which one is selected.

use std::cmp::Ordering;
use std::path::Path;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::sample::{Column, Key, Row};
use crate::output::harmless;

/// How far PageUp and PageDown go.
const PAGE: usize = 10;

/// What a key comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    GoOn,
    Quit,
}

pub struct View {
    pub path: String,
    /// All rows, in the order in which they are shown.
    rows: Vec<Row>,
    /// Why the space could not be looked at the last time.
    pub problem: Option<String>,
    pub sort: Column,
    pub is_reversed: bool,
    pub filter: String,
    /// Whether what is typed goes to the filter.
    pub is_typing: bool,
    pub has_details: bool,
    /// The first line of the details on the screen.
    pub first_detail: usize,
    /// Objects come and go, so it is not a place.
    selected: Option<Key>,
    /// The first row on the screen.
    pub first: usize,
}

impl View {
    pub fn new(path: &Path) -> Self {
        Self {
            path: harmless(&path.display().to_string()),
            rows: Vec::new(),
            problem: None,
            sort: Column::Name,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            has_details: false,
            first_detail: 0,
            selected: None,
            first: 0,
        }
    }

    /// Takes in what was found. What was there before stays as long as the space cannot be looked
    /// at.
    pub fn update(&mut self, looked: corkboard::Result<Vec<Row>>) {
        match looked {
            Ok(rows) => {
                let place = self.place();
                self.rows = rows;
                self.problem = None;
                self.arrange();
                if self.place().is_none() {
                    self.select(place.unwrap_or(0));
                }
            }
            Err(error) => self.problem = Some(harmless(&error.to_string())),
        }
    }

    /// How many objects there are, shown or not.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// The rows that the filter lets through.
    pub fn shown(&self) -> impl Iterator<Item = &Row> {
        let matches = |row: &&Row| row.key.0.contains(&self.filter);
        self.rows.iter().filter(matches)
    }

    /// Where the selected object is among those that are shown.
    pub fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.shown().position(|row| row.key == *selected)
    }

    pub fn selected(&self) -> Option<&Row> {
        self.shown().nth(self.place()?)
    }

    /// Selects the object at a place, or the last one.
    fn select(&mut self, place: usize) {
        let last = self.shown().count().saturating_sub(1);
        let key = self.shown().nth(place.min(last)).map(|row| row.key.clone());
        self.selected = key;
        self.first_detail = 0;
    }

    fn arrange(&mut self) {
        let (sort, is_reversed) = (self.sort, self.is_reversed);
        // Names come in their order, and stay in it where nothing else decides.
        self.rows.sort_by(|a, b| a.key.cmp(&b.key));
        self.rows.sort_by(|a, b| {
            let order = match sort {
                Column::Name => a.key.cmp(&b.key),
                Column::Kind => a.key.1.cmp(&b.key.1),
                _ => match (sort.number(a), sort.number(b)) {
                    (Some(a), Some(b)) => b.total_cmp(&a),
                    // What has none comes last, whatever the order.
                    (None, None) => return Ordering::Equal,
                    (a, _) => {
                        return if a.is_none() {
                            Ordering::Greater
                        } else {
                            Ordering::Less
                        };
                    }
                },
            };
            if is_reversed { order.reverse() } else { order }
        });
    }

    /// Does what a key stands for.
    pub fn key(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Then::Quit,
                _ => Then::GoOn,
            };
        }
        if self.is_typing {
            self.type_key(key.code);
            return Then::GoOn;
        }
        let place = self.place().unwrap_or(0);
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.select(place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(place + 1),
            KeyCode::PageUp if self.has_details => {
                self.first_detail = self.first_detail.saturating_sub(PAGE);
            }
            KeyCode::PageDown if self.has_details => self.first_detail += PAGE,
            KeyCode::PageUp => self.select(place.saturating_sub(PAGE)),
            KeyCode::PageDown => self.select(place + PAGE),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::Enter => {
                self.has_details = !self.has_details;
                self.first_detail = 0;
            }
            KeyCode::Char('<') | KeyCode::Left => self.sort_by(Column::ALL.len() - 1),
            KeyCode::Char('>') | KeyCode::Right => self.sort_by(1),
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc if self.has_details => self.has_details = false,
            KeyCode::Esc => self.narrow(|filter| filter.clear()),
            _ => {}
        }
        Then::GoOn
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.narrow(|filter| filter.push(c)),
            KeyCode::Backspace => self.narrow(|filter| {
                filter.pop();
            }),
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.narrow(|filter| filter.clear());
            }
            _ => {}
        }
    }

    fn narrow(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        if self.place().is_none() {
            self.select(0);
        }
    }

    /// Sorts by the column so many places further, round and round.
    fn sort_by(&mut self, step: usize) {
        let columns = Column::ALL;
        let now = columns.iter().position(|column| *column == self.sort);
        self.sort = columns[(now.unwrap_or(0) + step) % columns.len()];
        self.is_reversed = false;
        self.arrange();
    }
}
