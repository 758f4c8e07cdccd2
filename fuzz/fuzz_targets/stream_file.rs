//! Any bytes in a stream's file: geometry, words, the table, cells, records.
//!
//! Producers and subscribers map it for writing and believe none of it.
//!
//! The input's first byte chooses the stream (two bits), and
//! - bit 2: whether the header's checksum is repaired, so that changes get past the first checks,
//! - bit 3: whether handles are attached before the changes (which then leave the length alone).
//!
//! Changes follow, of four kinds: bytes, a word that matters, a word of a cell, and the file's
//! length. Run: `cargo +nightly fuzz run stream_file`.

#![no_main]

#[path = "../../crates/corkboard/tests/common/hostile_stream.rs"]
mod hostile;
#[path = "meddle/input.rs"]
mod input;
#[path = "meddle/scratch.rs"]
mod scratch;

use std::cell::OnceCell;
use std::time::Duration;

use hostile::{
    CELL_LEN, CELLS, FIRST_CELL, HEADER_LEN, Handles, SENT, SHAPES, Stream, seal, visit,
};
use input::Input;

/// What everybody uses, and some entries of the table.
const WORDS: [usize; 13] = [
    256, 264, 272, 280, 320, 328, 336, 384, 448, 456, 512, 8704, 8832,
];

thread_local! {
    static STREAMS: OnceCell<[Stream; 4]> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    STREAMS.with(|streams| {
        let streams = streams.get_or_init(|| {
            SHAPES.map(|shape| {
                let stream = Stream::new(&scratch::space(), shape);
                stream.remove();
                stream
            })
        });
        let mut input = Input(bytes);
        if let Some(choice) = input.byte() {
            run_on(&streams[usize::from(choice) % 4], choice, input);
        }
    });
});

fn run_on(stream: &Stream, choice: u8, mut input: Input<'_>) {
    stream.remove();
    stream.restore();
    let mut sent = stream.sent.clone();
    let is_attached = choice >> 3 & 1 == 1;
    let mut handles = is_attached.then(|| Handles::open(&stream.space));
    let mut bytes = stream.pristine.clone();
    let mut len = bytes.len() as u64;
    while let Some(kind) = input.byte() {
        let choice = usize::from(kind >> 2);
        let (offset, change) = match kind % 4 {
            0 => (usize::from(input.short()), input.bytes(choice)),
            1 => (WORDS[choice % WORDS.len()], input.bytes(8)),
            2 => {
                // Of the newest records, those to come, and some that are older.
                let sequence = SENT as usize - 32 + choice;
                let word = usize::from(input.byte().unwrap_or(0)) * 8 % CELL_LEN;
                (
                    FIRST_CELL + sequence % CELLS * CELL_LEN + word,
                    input.bytes(8),
                )
            }
            _ => {
                len = match choice {
                    0..32 => u64::from(input.short()),
                    _ => u64::from(input.short()) << (choice & 0x1F),
                };
                continue;
            }
        };
        if let Some(to) = bytes.get_mut(offset..offset + change.len()) {
            to.copy_from_slice(change);
            if let Some(handles) = &mut handles {
                stream.write(change, offset as u64);
                handles.use_all(&mut sent, Duration::ZERO);
            }
        }
    }
    drop(handles);
    if choice >> 2 & 1 == 1 {
        let header: [u8; HEADER_LEN] = *bytes.first_chunk().expect("files are longer");
        bytes[..HEADER_LEN].copy_from_slice(&seal(&header));
    }
    // Whoever makes a header with a checksum can say that records have none, and who waits.
    if bytes[..HEADER_LEN] != stream.pristine[..HEADER_LEN] {
        sent.is_verified = false;
        sent.is_quick = false;
    }
    if !is_attached {
        stream.write(&bytes, 0);
        // Where the length fits a header that was made for it, all of it gets memory.
        stream.set_len(len.min(1 << 24));
    }
    visit(&stream.space, &mut sent, Duration::ZERO);
}
