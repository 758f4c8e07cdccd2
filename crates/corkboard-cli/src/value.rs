//! One value in the forms that `get` and `watch` print.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corkboard::board::Snapshot;
use serde::Serialize;

use crate::output::rfc3339;

/// The JSON form of a value.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    sequence: u64,
    size: usize,
    published_at: Option<String>,
    age_seconds: Option<f64>,
    encoding: &'static str,
    value: String,
}

impl<'a> Json<'a> {
    pub fn new(name: &'a str, snapshot: &Snapshot<'_>) -> Self {
        let (encoding, value) = encode(snapshot);
        Self {
            name,
            sequence: snapshot.sequence(),
            size: snapshot.len(),
            published_at: snapshot.published_at().and_then(rfc3339),
            age_seconds: snapshot.age().map(|age| age.as_secs_f64()),
            encoding,
            value,
        }
    }
}

/// A value as a JSON string can have it, and how that is to be taken.
pub fn encode(value: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(value) {
        Ok(text) => ("utf-8", text.to_owned()),
        Err(_) => ("base64", STANDARD.encode(value)),
    }
}

/// The canonical hexadecimal dump, as `hexdump -C` prints it: offset, sixteen bytes, the same as
/// ASCII; a `*` stands for lines like the one before; the last line is the size.
pub fn hexdump(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5);
    let mut before: Option<&[u8]> = None;
    let mut is_squeezing = false;
    for (index, line) in bytes.chunks(16).enumerate() {
        if before == Some(line) {
            if !is_squeezing {
                text += "*\n";
                is_squeezing = true;
            }
            continue;
        }
        (before, is_squeezing) = (Some(line), false);
        text += &format!("{:08x} ", index * 16);
        for column in 0..16 {
            if column % 8 == 0 {
                text.push(' ');
            }
            match line.get(column) {
                Some(byte) => text += &format!("{byte:02x} "),
                None => text += "   ",
            }
        }
        let ascii = line.iter().map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        });
        text += " |";
        text.extend(ascii);
        text += "|\n";
    }
    if !bytes.is_empty() {
        text += &format!("{:08x}\n", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dump_is_the_canonical_one() {
        let mut bytes = vec![0; 64];
        bytes.extend(b"corkboard | \xff\n");
        let expected = "\
00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000040  63 6f 72 6b 62 6f 61 72  64 20 7c 20 ff 0a        |corkboard | ..|
0000004e
";
        assert_eq!(hexdump(&bytes), expected);
        assert_eq!(hexdump(b""), "");
    }
}
