//! Changes one file of a valid board as the input says, and does everything with the board.
//!
//! The input's first byte chooses the board (two bits: small or large, exclusive or shared) and
//! what is repaired after the changes (so that they get past the first checks):
//! - bit 2: the header's checksum,
//! - bit 3: the other files' headers, which then state the same geometry,
//! - bit 4: handles are attached before the changes (which then leave lengths alone), and used.
//!
//! Changes follow, of four kinds: bytes, a word, a word that matters, and the file's length.

#[path = "../../../crates/corkboard/tests/common/hostile.rs"]
mod hostile;
mod input;
mod scratch;

use std::cell::OnceCell;
use std::time::Duration;

use hostile::{Board, Handles, SHAPES, seal, visit};
use input::Input;

thread_local! {
    static BOARDS: OnceCell<[Board; 4]> = const { OnceCell::new() };
}

/// Lets `input` change file `file` (data, control, readers).
pub fn run(file: usize, input: &[u8]) {
    BOARDS.with(|boards| {
        let boards = boards.get_or_init(|| {
            SHAPES.map(|shape| {
                let board = Board::new(&scratch::space(), shape);
                board.remove();
                board
            })
        });
        let mut input = Input(input);
        if let Some(choice) = input.byte() {
            run_on(&boards[usize::from(choice) % 4], choice, file, input);
        }
    });
}

fn run_on(board: &Board, choice: u8, file: usize, mut input: Input<'_>) {
    board.remove();
    board.restore();
    let mut published = board.published.clone();
    let is_attached = choice >> 4 & 1 == 1;
    let mut handles = is_attached.then(|| Handles::open(&board.space));
    let mut bytes = board.pristine[file].clone();
    let mut len = bytes.len() as u64;
    while let Some(kind) = input.byte() {
        let (offset, change) = match kind % 4 {
            0 => {
                let count = usize::from(kind >> 2);
                (usize::from(input.short()), input.bytes(count))
            }
            1 => {
                let offset = usize::from(input.short()) * 8;
                (offset, input.bytes(8))
            }
            2 => {
                let offset = [0, 256, 384, 512, 640, 768][usize::from(kind >> 2) % 6];
                let field = usize::from(input.byte().unwrap_or(0) % 16) * 8;
                (offset + field, input.bytes(8))
            }
            _ => {
                len = match kind >> 2 {
                    0..32 => u64::from(input.short()),
                    _ => u64::from(input.short()) << (kind >> 2 & 0x1F),
                };
                continue;
            }
        };
        if let Some(to) = bytes.get_mut(offset..offset + change.len()) {
            to.copy_from_slice(change);
            if let Some(handles) = &mut handles {
                board.write(file, change, offset as u64);
                handles.use_all(&mut published, Duration::ZERO);
            }
        }
    }
    drop(handles);
    let mut header = *bytes.first_chunk().expect("files are longer");
    if choice >> 2 & 1 == 1 {
        header = seal(&header, file as u64 + 1);
        bytes[..header.len()].copy_from_slice(&header);
    }
    // Whoever makes a header with a checksum can make values with one, or say that there is none.
    published.is_verified = header[..24] == board.pristine[file][..24]
        && header[32..184] == board.pristine[file][32..184];
    if !is_attached {
        board.write(file, &bytes, 0);
    }
    if choice >> 3 & 1 == 1 {
        board.seal_as(&header);
    }
    if !is_attached {
        board.set_len(file, len);
    }
    visit(&board.space, &mut published, Duration::ZERO);
}
