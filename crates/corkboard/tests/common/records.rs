//! Records that say who sent them and as which, and whether they are whole.
#![allow(dead_code, reason = "not every test file needs all of it")]

use corkboard::integrity::crc64;

/// The shortest record in bytes: who, number and checksum.
pub const MIN_LEN: usize = 24;

/// The record `number` of the producer `who`, of so many bytes.
pub fn record(who: u64, number: u64, len: usize) -> Vec<u8> {
    let mut record = vec![number as u8; len];
    fill(&mut record, who, number);
    record
}

/// Makes a buffer that record. What is in its middle is not looked at, but its checksum is.
pub fn fill(record: &mut [u8], who: u64, number: u64) {
    record[..8].copy_from_slice(&who.to_le_bytes());
    record[8..16].copy_from_slice(&number.to_le_bytes());
    let (bytes, sum) = record.split_last_chunk_mut::<8>().unwrap();
    *sum = crc64(bytes, 0).to_le_bytes();
}

/// Who sent a record, and as which; fails unless it is whole.
pub fn check(record: &[u8]) -> (u64, u64) {
    assert!(record.len() >= MIN_LEN, "torn: {} bytes", record.len());
    let (bytes, sum) = record.split_last_chunk::<8>().unwrap();
    assert_eq!(crc64(bytes, 0).to_le_bytes(), *sum, "torn");
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    (word(0), word(8))
}

/// A length for each number, so that records of all kinds take turns: in their cells, copied from
/// the arena, read in place.
pub fn len_of(number: u64, max_len: usize) -> usize {
    let lens = [24, 64, 50, 65, 24, 800, 96, 4096, 33, 4097, 80, max_len];
    lens[number as usize % lens.len()].min(max_len)
}
