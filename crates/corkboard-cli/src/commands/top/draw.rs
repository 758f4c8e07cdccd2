//! Drawing the view. Nothing here knows a terminal.

use anstream::adapter::strip_str;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};

use super::sample::table;
use super::view::View;
use crate::commands::stat;
use crate::output::harmless;

const HELP: &str = "q quit  ↑↓ select  Enter details  < > sort  r reverse  / filter  Esc back";

/// How many rows the list has beside details.
const SHORT_LIST: u16 = 5;

pub fn draw(frame: &mut Frame<'_>, view: &mut View, has_colour: bool) {
    let style = |colour: Color, modifier: Modifier| {
        let style = Style::new().add_modifier(modifier);
        if has_colour { style.fg(colour) } else { style }
    };
    let (list, details) = match view.has_details {
        true => (Constraint::Max(SHORT_LIST), Constraint::Fill(1)),
        false => (Constraint::Fill(1), Constraint::Length(0)),
    };
    let [head, titles, list, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        list,
        details,
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(
        Line::styled(headline(view), style(Color::Cyan, Modifier::BOLD)),
        head,
    );
    scroll(view, list);
    let text = strip_str(&table(view.shown()).render()).to_string();
    let mut lines = text.lines();
    if let Some(line) = lines.next() {
        frame.render_widget(Line::styled(line, Modifier::DIM), titles);
    }
    let place = view.place();
    let rows = view.shown().zip(lines).enumerate().skip(view.first);
    for ((index, (row, line)), area) in rows.zip(list.rows()) {
        let mut line = Line::raw(line);
        if row.object.is_err() {
            line = line.style(style(Color::Red, Modifier::empty()));
        }
        if place == Some(index) {
            line = line.patch_style(Modifier::REVERSED);
        }
        frame.render_widget(line, area);
    }
    if view.has_details {
        let text = everything(view);
        let last = text.lines().count().saturating_sub(below.height.into());
        view.first_detail = view.first_detail.min(last);
        let lines = text.lines().skip(view.first_detail);
        frame.render_widget(Text::from_iter(lines), below);
    }
    let foot_line = match (&view.problem, view.is_typing) {
        (Some(problem), _) => Line::styled(problem.as_str(), style(Color::Red, Modifier::BOLD)),
        (None, true) => Line::raw(format!("/{}_", harmless(&view.filter))),
        (None, false) => Line::styled(HELP, Modifier::DIM),
    };
    frame.render_widget(foot_line, foot);
}

/// Which objects are shown, and in which order.
fn headline(view: &View) -> String {
    let (shown, all) = (view.shown().count(), view.count());
    let objects = match (shown == all, all) {
        (true, 1) => "1 object".to_owned(),
        (true, _) => format!("{all} objects"),
        (false, _) => format!("{shown} of {all} objects"),
    };
    let filter = match view.filter.as_str() {
        "" => String::new(),
        filter => format!(" with {:?}", harmless(filter)),
    };
    let order = if view.is_reversed { ", reversed" } else { "" };
    let sort = view.sort.title().to_lowercase();
    format!(
        "corkboard {}: {objects}{filter}, by {sort}{order}",
        view.path
    )
}

/// Moves the list as far as it takes to see the selected object.
fn scroll(view: &mut View, list: Rect) {
    let height = usize::from(list.height).max(1);
    let last = view.shown().count().saturating_sub(height);
    let place = view.place().unwrap_or(0);
    let first = place.saturating_sub(height - 1);
    view.first = view.first.min(last).clamp(first, place);
}

/// What `stat` tells of the selected object.
fn everything(view: &View) -> String {
    let Some(row) = view.selected() else {
        return String::new();
    };
    match &row.object {
        Ok(object) => strip_str(&stat::render(&row.key.0, object, row.rate)).to_string(),
        Err(error) => harmless(error),
    }
}
