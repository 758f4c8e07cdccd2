//! One file per subcommand, and what several of them need.

pub mod completions;
pub mod demo;
pub mod doctor;
pub mod event;
pub mod get;
pub mod lock;
pub mod ls;
pub mod put;
pub mod rm;
pub mod stat;
pub mod watch;

use std::time::Duration;

/// A duration like `200ms`, `3s` or `1.5m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{text:?} is not a duration like 200ms, 3s or 1.5m");
    let unit = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(problem)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(problem()),
    };
    let number: f64 = number.parse().map_err(|_| problem())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| problem())
}

/// A number of bytes like `65536` or `64MiB`.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let problem = || format!("{text:?} is not a number of bytes like 65536 or 64MiB");
    let unit = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(problem()),
    };
    let number: usize = number.parse().map_err(|_| problem())?;
    number.checked_mul(scale).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_understood_or_refused() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        for bad in ["", "3", "s", "-1s", "1e400h", "..s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "99999999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
