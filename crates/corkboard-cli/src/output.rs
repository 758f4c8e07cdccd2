//! Standard output: raw bytes, tables, JSON; sizes and ages for people.

use std::io::{IsTerminal as _, Write};
use std::time::{Duration, SystemTime};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use crate::exit::{Failure, Outcome};

/// Writes the bytes, and nothing else, to standard output.
pub fn print(bytes: &[u8]) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(cannot_write)
}

/// Writes a value's bytes. A line break follows if it `must`, or on a terminal where the value has
/// none at its end.
pub fn print_value(value: &[u8], must: bool) -> Outcome {
    print(value)?;
    let breaks = must || (!value.ends_with(b"\n") && std::io::stdout().is_terminal());
    print(if breaks { b"\n" } else { b"" })
}

/// Writes a value as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Outcome {
    let mut line = serde_json::to_vec(value).expect("our own structures have a JSON form");
    line.push(b'\n');
    print(&line)
}

/// Writes text that may contain colours, which only a terminal gets to see.
pub fn print_styled(text: &str) -> Outcome {
    let mut out = anstream::AutoStream::auto(std::io::stdout().lock());
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(cannot_write)
}

/// Whether standard output is a terminal that wants colours.
#[cfg(feature = "top")]
pub fn wants_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

pub fn cannot_write(source: std::io::Error) -> Failure {
    Failure::Io("cannot write to standard output".into(), source)
}

/// Where a column's text stands.
#[derive(Clone, Copy)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Columns with a dim header, aligned by what a terminal shows: `天气` is four columns wide.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<String>),
    /// Some cells, and then a sentence over the columns that remain.
    Remark(Vec<String>, String),
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        let cells = cells.iter().map(|cell| harmless(cell)).collect();
        self.rows.push(Row::Cells(cells));
    }

    pub fn remark(&mut self, cells: Vec<String>, sentence: &str) {
        let cells = cells.iter().map(|cell| harmless(cell)).collect();
        self.rows.push(Row::Remark(cells, harmless(sentence)));
    }

    pub fn render(&self) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (title, _))| {
                let cells = self.rows.iter().filter_map(|row| match row {
                    Row::Cells(cells) | Row::Remark(cells, _) => cells.get(index),
                });
                cells
                    .map(|cell| cell.width())
                    .fold(title.width(), usize::max)
            })
            .collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let space = " ".repeat(width - cell.width());
                match align {
                    Align::Left => line.extend([cell, &space, "  "]),
                    Align::Right => line.extend([&space, cell, "  "]),
                }
            }
            line
        };
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| (*title).into())
            .collect();
        let dim = Style::new().dimmed();
        let mut text = format!("{dim}{}{dim:#}\n", line(&titles).trim_end());
        for row in &self.rows {
            match row {
                Row::Cells(cells) => text += line(cells).trim_end(),
                Row::Remark(cells, sentence) => text.extend([line(cells).as_str(), sentence]),
            }
            text.push('\n');
        }
        text
    }
}

/// Other processes choose labels and names: none of them may steer the terminal.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A number of bytes for people, like `512 B` or `6.0 MiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// A count for people, like `512` or `3.4 M`.
pub fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.1} G", number as f64 / 1e9),
    }
}

/// A rate for people, like `0.3/s` or `3.4 M/s`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        0.05..10.0 => format!("{per_second:.1}/s"),
        _ => format!("{}/s", count(per_second.round() as u64)),
    }
}

/// A length of time for people: its largest unit, like `12 ms`, `3.4 s` or `5 h`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ if seconds < 3600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        _ if seconds < 86400.0 => format!("{:.0} h", (seconds / 3600.0).floor()),
        _ => format!("{:.0} d", (seconds / 86400.0).floor()),
    }
}

/// A moment in RFC 3339, to the nanosecond.
pub fn rfc3339(time: SystemTime) -> Option<String> {
    // Moments that the format cannot name come from damaged files; the formatter would panic.
    let year_10000 = Duration::from_secs(253_402_300_800);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < year_10000).then(|| humantime::format_rfc3339_nanos(time).to_string())
}

/// A dash where there is nothing to tell.
pub fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short_and_never_round_up_to_a_wrong_unit() {
        let sizes = [0, 1023, 1024, 1_048_575, 6 << 20, u64::MAX].map(size);
        let expected = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.0 MiB",
            "6.0 MiB",
            "16777216.0 TiB",
        ];
        assert_eq!(sizes, expected);
        let times = [0, 12, 3_400, 299_000, 86_400_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(times, ["0 µs", "12 ms", "3.4 s", "4 min", "1 d"]);
    }

    #[test]
    fn wide_characters_are_aligned_and_control_characters_do_nothing() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(vec!["天气".into(), "1".into()]);
        table.row(vec!["a\u{1b}[2J".into(), "22".into()]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "NAME   SIZE\n天气      1\na\u{fffd}[2J    22\n");
    }

    #[test]
    fn moments_have_a_zone_and_impossible_ones_are_left_out() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(rfc3339(moment).unwrap(), "1970-01-01T00:00:01.500000000Z");
        // Where the clock goes as far.
        let late = moment.checked_add(Duration::from_secs(1 << 40));
        assert_eq!(late.and_then(rfc3339), None);
    }
}
