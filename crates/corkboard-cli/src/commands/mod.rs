//! One file per subcommand, and what several of them need.

pub mod call;
pub mod classic;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod event;
pub mod get;
pub mod lock;
pub mod ls;
pub mod publish;
pub mod put;
pub mod rm;
pub mod serve;
pub mod stat;
pub mod subscribe;
#[cfg(feature = "top")]
pub mod top;
pub mod watch;

use std::time::Duration;

/// How long a rate is counted for when nobody says.
const RATE: &str = "1s";

/// A duration like `200ms`, `3s` or `1.5m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || "not a duration like 200ms, 3s or 1.5m; units are us, ms, s, m, h".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    let number: f64 = number.parse().map_err(|_| problem())?;
    let seconds = match unit {
        "" => return Err(format!("add a unit: {text}s (or us, ms, m, h)")),
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(problem()),
    };
    let too_large = "too large; leave the time-out away to wait for ever";
    Duration::try_from_secs_f64(number * seconds).map_err(|_| too_large.to_owned())
}

/// A number of bytes like `65536` or `64MiB`.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let problem =
        || "not a number of bytes like 65536 or 64MiB; units are B, KiB, MiB, GiB, TiB".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    let scale = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(problem()),
    };
    if number.is_empty() {
        return Err(problem());
    }
    // Digits only, so what is wrong can only be how many there are.
    let number: Option<usize> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| "too large".to_owned())
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
        assert_eq!(parse_bytes("2TiB"), Ok(2 << 40));
        let huge = "9".repeat(400) + "h";
        for (bad, message) in [
            ("", "units are"),
            ("s", "units are"),
            ("-1s", "units are"),
            ("1e400h", "units are"),
            ("..s", "units are"),
            ("2d", "units are us, ms, s, m, h"),
            ("5", "add a unit: 5s"),
            ("99999999999999999999s", "too large"),
            (&huge, "too large"),
        ] {
            let told = parse_duration(bad).unwrap_err();
            assert!(told.contains(message), "{bad}: {told}");
        }
        for (bad, message) in [
            ("", "units are"),
            ("MiB", "units are"),
            ("-1", "units are"),
            ("1.5MiB", "units are"),
            ("64MB", "units are B, KiB, MiB, GiB, TiB"),
            ("99999999999999GiB", "too large"),
            ("99999999999999999999999", "too large"),
        ] {
            let told = parse_bytes(bad).unwrap_err();
            assert!(told.contains(message), "{bad}: {told}");
        }
    }
}
