//! A stream next to the list of everything that was sent: whatever one says, the other must say,
//! too. Used by `properties.rs`.

use std::time::Duration;

use corkboard::stream::{From, Integrity, Options, Overflow, Producer, ProducerMode, Subscriber};
use corkboard::{ErrorKind, Keeper, Kind, Space};

const NAME: &str = "天气";
const MAX_SUBSCRIBERS: u32 = 3;
const MAX_HANDLES: usize = 5;
const AT_ONCE: Duration = Duration::ZERO;
/// Longer records are read in place where producers wait.
const COPIED: usize = 4096;
/// Longer ones are in the arena.
const INLINE: usize = 64;

/// What the stream is created with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    capacity: usize,
    overflow: Overflow,
    integrity: Integrity,
    mode: ProducerMode,
}

impl Shape {
    pub fn from_bytes([capacity, overflow, integrity, mode]: [u8; 4]) -> Self {
        Self {
            capacity: [256, 1024, 1984, 4096, 20_480][usize::from(capacity) % 5],
            overflow: [Overflow::Block, Overflow::Overwrite][usize::from(overflow) % 2],
            integrity: [Integrity::Crc64, Integrity::None][usize::from(integrity) % 2],
            mode: [ProducerMode::Exclusive, ProducerMode::Shared][usize::from(mode) % 2],
        }
    }

    fn options(&self) -> Options {
        Options::new()
            .capacity(self.capacity)
            .max_subscribers(MAX_SUBSCRIBERS)
            .overflow(self.overflow)
            .integrity(self.integrity)
            .producer_mode(self.mode)
    }

    fn cells(&self) -> usize {
        (self.capacity / 64).next_power_of_two().max(16)
    }

    fn overwrites(&self) -> bool {
        self.overflow == Overflow::Overwrite
    }
}

/// One step. Handles are numbered; a number beyond the last one wraps around.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Send { producer: u8, len: u16 },
    SendMany { producer: u8, count: u8 },
    Loan { producer: u8, len: u16 },
    LoanTruncated { producer: u8, len: u16 },
    LoanDropped { producer: u8, len: u16 },
    End { producer: u8 },
    OpenProducer,
    CloseProducer { producer: u8 },
    JoinAtOldest,
    JoinAtNewest,
    JoinAt { back: u8 },
    Leave { subscriber: u8 },
    Receive { subscriber: u8, count: u8 },
    ReceiveEach { subscriber: u8, limit: u8 },
}

impl Op {
    pub fn from_bytes([code, number, low, high]: [u8; 4]) -> Self {
        let (producer, subscriber) = (number, number);
        let len = u16::from_le_bytes([low, high]);
        match code % 24 {
            0..5 => Self::Send { producer, len },
            5 | 6 => Self::SendMany {
                producer,
                count: low % 24,
            },
            7 => Self::Loan { producer, len },
            8 => Self::LoanTruncated { producer, len },
            9 => Self::LoanDropped { producer, len },
            10 => Self::End { producer },
            11 => Self::OpenProducer,
            12 => Self::CloseProducer { producer },
            13 => Self::JoinAtOldest,
            14 => Self::JoinAtNewest,
            15 => Self::JoinAt { back: low },
            16 => Self::Leave { subscriber },
            17..22 => Self::Receive {
                subscriber,
                count: low % 32,
            },
            _ => Self::ReceiveEach {
                subscriber,
                limit: low % 32,
            },
        }
    }
}

/// A subscriber and what it must receive next.
struct Subscription {
    handle: Subscriber,
    /// The next record, once it is known: who begins with the oldest does not know yet.
    next: Option<u64>,
    /// Whether the last one keeps its place until the next receive.
    is_held: bool,
}

/// The stream and the list.
pub struct Model {
    space: Space,
    shape: Shape,
    _keeper: Keeper,
    /// What was sent; nothing for an end mark.
    sent: Vec<Option<Vec<u8>>>,
    producers: Vec<Producer>,
    subscriptions: Vec<Subscription>,
    /// Whether there was ever a subscriber that could let records be overwritten.
    is_reclaimed: bool,
}

/// The bytes of the arena that a record takes up.
fn footprint(len: usize) -> usize {
    if len <= INLINE {
        return 0;
    }
    len.next_multiple_of(64)
}

impl Model {
    pub fn new(space: Space, shape: Shape) -> Self {
        let producer = shape.options().producer(&space, NAME).unwrap();
        Self {
            _keeper: space.keep(Kind::Stream, NAME).unwrap(),
            space,
            shape,
            sent: Vec::new(),
            producers: vec![producer],
            subscriptions: Vec::new(),
            is_reclaimed: false,
        }
    }

    pub fn step(&mut self, op: Op) {
        match op {
            Op::Send { producer, len } => self.send(producer, usize::from(len)),
            Op::SendMany { producer, count } => {
                for len in 0..usize::from(count) {
                    self.send(producer, len * 9);
                }
            }
            Op::Loan { producer, len } => self.loan(producer, len, Some),
            Op::LoanTruncated { producer, len } => self.loan(producer, len, |len| Some(len / 2)),
            Op::LoanDropped { producer, len } => self.loan(producer, len, |_| None),
            Op::End { producer } => {
                let must_fit = self.must_fit(0);
                let Some(producer) = pick(&mut self.producers, producer) else {
                    return;
                };
                match producer.end(Some(AT_ONCE)).unwrap() {
                    Some(sequence) => self.note(sequence, None),
                    None => assert!(!must_fit, "no room"),
                }
            }
            Op::OpenProducer => self.open_producer(),
            Op::CloseProducer { producer } => drop(take(&mut self.producers, producer)),
            Op::JoinAtOldest => self.join(From::Oldest, None),
            Op::JoinAtNewest => {
                let next = self.sent.len() as u64 + 1;
                self.join(From::Newest, Some(next));
            }
            Op::JoinAt { back } => {
                // Also one that is yet to come, and 0, which is none: that is the oldest.
                let next = (self.sent.len() as u64 + 4).saturating_sub(u64::from(back));
                self.join(From::Sequence(next), (next > 0).then_some(next));
            }
            Op::Leave { subscriber } => drop(take(&mut self.subscriptions, subscriber)),
            Op::Receive { subscriber, count } => {
                for _ in 0..count {
                    self.receive(subscriber);
                }
            }
            Op::ReceiveEach { subscriber, limit } => self.receive_each(subscriber, limit),
        }
    }

    /// The next record, of `len` bytes.
    fn record(&self, len: usize) -> Vec<u8> {
        let number = self.sent.len();
        (0..len).map(|i| (number * 31 + i * 7) as u8).collect()
    }

    fn note(&mut self, sequence: u64, record: Option<Vec<u8>>) {
        self.sent.push(record);
        assert_eq!(sequence, self.sent.len() as u64);
    }

    /// Whether there must be room for another record: half of the arena is enough for what is
    /// skipped at its end, once by what is there and once by the new one.
    fn must_fit(&self, len: usize) -> bool {
        if self.shape.overwrites() {
            return true;
        }
        let needed = self.subscriptions.iter().map(|subscription| {
            let next = subscription.next?;
            Some(next - u64::from(subscription.is_held))
        });
        // Without subscribers nothing is overwritten that was not to be overwritten before.
        let first = match needed.min() {
            Some(None) => return false,
            Some(Some(first)) => first as usize - 1,
            None if self.is_reclaimed => return false,
            None => 0,
        };
        let kept = self.sent.get(first..).unwrap_or_default();
        let bytes = kept.iter().flatten().map(|record| footprint(record.len()));
        kept.len() < self.shape.cells()
            && bytes.sum::<usize>() + footprint(len) <= self.shape.capacity / 2
    }

    fn send(&mut self, producer: u8, len: usize) {
        let len = len % (self.shape.capacity / 4 + 2);
        let (record, must_fit) = (self.record(len), self.must_fit(len));
        let Some(producer) = pick(&mut self.producers, producer) else {
            return;
        };
        let result = match len % 2 {
            0 => producer.try_send(&record),
            _ => producer.send_timeout(&record, AT_ONCE),
        };
        match result {
            Ok(Some(sequence)) => self.note(sequence, Some(record)),
            Ok(None) => assert!(!must_fit, "no room for {len} bytes"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                assert!(len > producer.max_len());
            }
        }
    }

    /// Loans, and sends as much of it as `sends` says.
    fn loan(&mut self, producer: u8, len: u16, sends: fn(usize) -> Option<usize>) {
        let len = usize::from(len) % (self.shape.capacity / 4 + 1);
        let record = self.record(len);
        // It would wait.
        if !self.must_fit(len) {
            return;
        }
        let Some(producer) = pick(&mut self.producers, producer) else {
            return;
        };
        let mut loan = producer.loan(len).unwrap();
        loan.copy_from_slice(&record);
        if let Some(len) = sends(len) {
            loan.truncate(len);
            let sequence = loan.send().unwrap();
            self.note(sequence, Some(record[..len].to_vec()));
        }
    }

    fn open_producer(&mut self) {
        if self.producers.len() >= MAX_HANDLES {
            return;
        }
        let is_taken = self.shape.mode == ProducerMode::Exclusive && !self.producers.is_empty();
        match Producer::open(&self.space, NAME) {
            Ok(producer) if !is_taken => self.producers.push(producer),
            Ok(_) => panic!("two exclusive producers"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WriterExists);
                assert!(is_taken);
            }
        }
    }

    fn join(&mut self, from: From, next: Option<u64>) {
        if self.subscriptions.len() >= MAX_HANDLES {
            return;
        }
        let tables = |subscription: &&Subscription| !subscription.handle.is_observer();
        let is_full = self.subscriptions.iter().filter(tables).count() == MAX_SUBSCRIBERS as usize;
        let handle = match Subscriber::open(&self.space, NAME, from) {
            Ok(handle) => handle,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                assert!(is_full && !self.shape.overwrites());
                return;
            }
        };
        assert_eq!(handle.is_observer(), is_full);
        self.is_reclaimed = true;
        self.subscriptions.push(Subscription {
            handle,
            next,
            is_held: false,
        });
    }

    fn receive(&mut self, subscriber: u8) {
        let overwrites = self.shape.overwrites();
        let Some(subscription) = pick(&mut self.subscriptions, subscriber) else {
            return;
        };
        let Subscription {
            handle,
            next,
            is_held,
        } = subscription;
        *is_held = false;
        let newest = self.sent.len() as u64;
        let message = match handle.try_recv() {
            Ok(message) => message.map(|message| (message.sequence(), message.to_vec())),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                assert!((1..=newest).contains(&error.missed()));
                match next {
                    Some(next) => {
                        *next += error.missed();
                        assert!(*next <= newest + u64::from(!overwrites), "all is gone");
                    }
                    // After it had begun.
                    None => assert!(overwrites),
                }
                return;
            }
        };
        if let Some((sequence, bytes)) = message {
            let expected = *next.get_or_insert(sequence);
            assert_eq!(sequence, expected);
            assert_eq!(self.sent[sequence as usize - 1].as_ref(), Some(&bytes));
            *is_held = !overwrites && bytes.len() > COPIED;
        } else if handle.is_ended() {
            // It may be the first thing that one who begins with the oldest meets.
            if let Some(next) = next {
                assert_eq!(self.sent[*next as usize - 1], None);
            }
        } else {
            assert!(next.is_none_or(|next| next > newest), "not received");
            return;
        }
        *next = next.map(|next| next + 1);
    }

    fn receive_each(&mut self, subscriber: u8, limit: u8) {
        let overwrites = self.shape.overwrites();
        let Some(subscription) = pick(&mut self.subscriptions, subscriber) else {
            return;
        };
        // Whether the first thing is a record is for `receive` to find out.
        let Some(next) = &mut subscription.next else {
            return;
        };
        let sent = &self.sent;
        let (mut count, mut last_len) = (0, 0);
        let result = subscription
            .handle
            .recv_each(usize::from(limit), Some(AT_ONCE), |message| {
                assert_eq!(message.sequence(), *next);
                let expected = sent[*next as usize - 1].as_deref();
                assert_eq!(expected, Some(&*message));
                (count, last_len) = (count + 1, message.len());
                *next += 1;
            });
        subscription.is_held = !overwrites && last_len > COPIED;
        match result {
            Ok(found) => {
                assert_eq!(found, count);
                if subscription.handle.is_ended() && limit > 0 {
                    assert_eq!(sent[*next as usize - 1], None);
                    *next += 1;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                *next += error.missed();
            }
        }
    }
}

fn pick<T>(handles: &mut [T], number: u8) -> Option<&mut T> {
    let count = handles.len().max(1);
    handles.get_mut(usize::from(number) % count)
}

fn take<T>(handles: &mut Vec<T>, number: u8) -> Option<T> {
    let count = handles.len().max(1);
    let index = usize::from(number) % count;
    (index < handles.len()).then(|| handles.swap_remove(index))
}
