//! Any bytes in a call's file: geometry, words, states, lengths, payloads.
//!
//! The input's first byte chooses the call (its remainder by three), and what is done:
//! - bit 2: the header's checksum is repaired after the changes,
//! - bit 3: handles are attached before the changes (which then leave the length alone), and used.
//!
//! Changes follow, of four kinds: bytes, a word, one bit of a word that matters, and the length.
//! Run: `cargo +nightly fuzz run call_file`.

#![no_main]

#[path = "../../crates/corkboard/tests/common/hostile.rs"]
#[allow(dead_code, reason = "most of it is for boards")]
mod hostile;
#[path = "../../crates/corkboard/tests/common/hostile_call.rs"]
#[allow(dead_code, reason = "some of it is for tests")]
mod hostile_call;
#[path = "meddle/input.rs"]
mod input;
#[path = "meddle/scratch.rs"]
mod scratch;

use std::cell::OnceCell;
use std::time::Duration;

use hostile::seal;
use hostile_call::{CallFile, Handles, SHAPES, visit};
use input::Input;

thread_local! {
    static CALLS: OnceCell<[CallFile; 3]> = const { OnceCell::new() };
}

const ROLE: u64 = 7;
/// A file of this length may state a geometry that takes gigabytes from the start.
const LONGEST: u64 = 64 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    CALLS.with(|calls| {
        let calls = calls.get_or_init(|| {
            SHAPES.map(|shape| {
                let call = CallFile::new(&scratch::space(), shape);
                call.remove();
                call
            })
        });
        let mut input = Input(input);
        if let Some(choice) = input.byte() {
            run_on(&calls[usize::from(choice) % 3], choice, input);
        }
    });
});

fn run_on(call: &CallFile, choice: u8, mut input: Input<'_>) {
    call.restore();
    let is_attached = choice >> 3 & 1 == 1;
    let mut handles = is_attached.then(|| Handles::open(&call.space));
    let mut header: [u8; 192] = *call.pristine.first_chunk().expect("files are longer");
    let mut len = call.pristine.len() as u64;
    let change = |offset: usize, bytes: &[u8]| {
        if offset + bytes.len() <= call.pristine.len() {
            call.write(bytes, offset as u64);
        }
    };
    while let Some(kind) = input.byte() {
        match kind % 4 {
            0 => {
                let bytes = input.bytes(usize::from(kind >> 2));
                change(usize::from(input.short()), bytes);
            }
            1 => change(usize::from(input.short()) * 8, input.bytes(8)),
            2 => {
                // The header, the words behind it, and the first cells of either client.
                let page = [0, 256, 4096, 4096 + 64 * 128][usize::from(kind >> 2) % 4];
                let place = page + usize::from(input.byte().unwrap_or(0)) * 8;
                let bit = input.byte().unwrap_or(0) % 64;
                let word = call.read(place) ^ 1 << bit;
                change(place, &word.to_ne_bytes());
            }
            _ => {
                len = match kind >> 2 {
                    0..32 => u64::from(input.short()),
                    _ => u64::from(input.short()) << (kind >> 2 & 0xF),
                };
            }
        }
        if let Some(handles) = &mut handles {
            handles.use_all(true, Duration::ZERO);
        }
    }
    drop(handles);
    for (at, word) in header.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = call.read(at * 8).to_ne_bytes();
    }
    // Whoever makes a header with a checksum can say that there are none.
    let is_verified = header[..24] == call.pristine[..24] && header[32..184] == call.pristine[32..184];
    if choice >> 2 & 1 == 1 {
        call.write(&seal(&header, ROLE), 0);
    }
    if !is_attached && len <= LONGEST {
        call.set_len(len);
    }
    visit(&call.space, is_verified, Duration::ZERO);
}
