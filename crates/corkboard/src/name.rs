//! The rules for object names, checked before any file is touched.

use crate::error::{Error, ErrorKind, Result};

const MAX_LEN_BYTES: usize = 200;
const FORBIDDEN: &[char] = &['/', '\\', ':', '*', '?', '"', '<', '>', '|'];

/// Checks that `name` is portable: 1 to 200 bytes, none of the characters that some file system
/// reserves, no leading or trailing dot or space, not a Windows device name.
pub(crate) fn check(operation: &'static str, name: &str) -> Result<()> {
    match problem(name) {
        None => Ok(()),
        Some(cause) => Err(Error::new(
            ErrorKind::InvalidName,
            operation,
            format!("{name:?}"),
            format!("{cause}; choose another name"),
        )),
    }
}

fn problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.len() > MAX_LEN_BYTES {
        return Some("the name is longer than 200 bytes");
    }
    if name.chars().any(char::is_control) {
        return Some("the name has a control character");
    }
    if name.contains(FORBIDDEN) {
        return Some("the name has one of / \\ : * ? \" < > |");
    }
    if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) {
        return Some("the name starts or ends with a dot or a space");
    }
    if is_device(name) {
        return Some("the name is a device on Windows");
    }
    None
}

/// Windows reserves these names with any extension, in any case.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let stem = stem.to_uppercase();
    if matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) {
        return true;
    }
    let Some(port) = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"))
    else {
        return false;
    };
    matches!(
        port,
        "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in [
            "x",
            "天气",
            "a.b",
            "a b",
            "console",
            "COM10",
            &"n".repeat(200),
        ] {
            assert_eq!(problem(name), None, "{name}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "n".repeat(201);
        for name in [
            "", ".", "..", ".x", "x.", " x", "x ", "a/b", "a\\b", "a:b", "a*", "a?", "\"", "<",
            ">", "|", "a\nb", "a\0b", "a\u{7f}", "CON", "nul", "nul.txt", "com1", "Lpt9.x", "COM¹",
            &long,
        ] {
            let error = check("open board", name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{name:?}");
        }
    }
}
