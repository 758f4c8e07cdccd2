//! Calls whose file somebody meddles with, and everything that can be done with them: used by
//! `call_hostile.rs` and by the fuzz target `call_file`.
//!
//! What holds whatever is in the file: each operation ends soon, at its deadline at the latest, with
//! bytes that somebody handed in or with an error that names the call.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use corkboard::call::{self, Access, Client, Integrity, Options, Pending, Request, Server};
use corkboard::{Kind, Space, wait};

use super::hostile::{NAME, expect};

/// What calls there are to meddle with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub capacity: usize,
    pub calls: u32,
    /// Whether others may write to the file, so that payloads are copied.
    pub access: Access,
}

pub const SHAPES: [Shape; 3] = [
    Shape {
        capacity: 60,
        calls: 64,
        access: Access::Owner,
    },
    Shape {
        capacity: 5000,
        calls: 128,
        access: Access::Owner,
    },
    Shape {
        capacity: 5000,
        calls: 64,
        access: Access::Everyone,
    },
];

/// A number and bytes that follow from it, none at all for 0 or where there is no room.
pub fn whole(number: u64, capacity: usize) -> Vec<u8> {
    if number == 0 || capacity < 8 {
        return Vec::new();
    }
    let len = 8 + (number as usize).wrapping_mul(331) % (capacity - 7);
    let fill = (8..len).map(|i| (number.wrapping_mul(31) as usize).wrapping_add(i * 7) as u8);
    number.to_ne_bytes().into_iter().chain(fill).collect()
}

/// Fails unless somebody may have handed that in.
fn check(bytes: &[u8], capacity: usize, is_verified: bool) {
    let number = bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    assert!(
        !is_verified || bytes == whole(number, capacity),
        "{} bytes that nobody handed in: {bytes:02x?}",
        bytes.len()
    );
}

/// A call's file as it was when nobody had meddled with it.
pub struct CallFile {
    pub space: Space,
    pub shape: Shape,
    pub pristine: Vec<u8>,
}

impl CallFile {
    /// Leaves calls in each state and keeps a copy of the file.
    pub fn new(space: &Space, shape: Shape) -> Self {
        let options = Options::new()
            .capacity(shape.capacity)
            .max_clients(2)
            .calls_per_client(shape.calls)
            .integrity(Integrity::Crc64)
            .access(shape.access);
        let server = Server::create(space, NAME, options).unwrap();
        let clients = [(); 2].map(|()| Client::open(space, NAME).unwrap());
        let mut number = 0;
        let mut start = |client: &Client| {
            number += 1;
            let request = whole(number, shape.capacity);
            client.start(&request, Duration::from_secs(60)).unwrap()
        };
        let mut calls: Vec<Pending> = Vec::new();
        let mut requests: Vec<Request> = Vec::new();
        for client in &clients {
            for _ in 0..5 {
                calls.push(start(client));
            }
        }
        for _ in 0..10 {
            requests.push(server.next(Some(Duration::ZERO)).unwrap().unwrap());
        }
        for (number, request) in requests.drain(..8).enumerate() {
            match number / 2 {
                0 => request.reply(&whole(100, shape.capacity)).unwrap(),
                1 => request.fail(7, "").unwrap(),
                2 => drop(request),
                _ => {}
            }
        }
        // One of those that the server has is given up.
        drop(calls.pop());
        let pending = clients.each_ref().map(start);
        let pristine = std::fs::read(Self::path_in(space)).unwrap();
        drop((pending, requests, calls, clients, server));
        Self {
            space: space.clone(),
            shape,
            pristine,
        }
    }

    fn path_in(space: &Space) -> PathBuf {
        space.path().join(format!("{NAME}.call"))
    }

    pub fn path(&self) -> PathBuf {
        Self::path_in(&self.space)
    }

    /// Puts a file there as it was, not the one that somebody may be attached to.
    pub fn restore(&self) {
        use std::os::unix::fs::PermissionsExt;
        self.remove();
        let mode = match self.shape.access {
            Access::Everyone => 0o666,
            _ => 0o600,
        };
        std::fs::write(self.path(), &self.pristine).unwrap();
        std::fs::set_permissions(self.path(), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn write(&self, bytes: &[u8], offset: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path());
        file.unwrap().write_all_at(bytes, offset).unwrap();
    }

    pub fn read(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        let file = std::fs::File::open(self.path()).unwrap();
        file.read_exact_at(&mut bytes, offset as u64).unwrap();
        u64::from_ne_bytes(bytes)
    }

    pub fn set_len(&self, len: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path());
        file.unwrap().set_len(len).unwrap();
    }

    /// Removes what is there in whatever state it is.
    pub fn remove(&self) {
        if self.space.remove(Kind::Call, NAME).is_err() {
            let _ = std::fs::remove_file(self.path());
        }
    }
}

/// Handles on a call, as far as it lets itself be opened.
pub struct Handles {
    server: Option<Server>,
    /// The table has room for two.
    clients: Vec<Client>,
    calls: Vec<Pending>,
    requests: Vec<Request>,
    number: u64,
}

impl Handles {
    pub fn open(space: &Space) -> Self {
        let clients = [(); 3].map(|()| Client::open(space, NAME));
        Self {
            server: expect(Server::create(space, NAME, Options::new())),
            clients: clients.into_iter().filter_map(expect).collect(),
            calls: Vec::new(),
            requests: Vec::new(),
            number: 1000,
        }
    }

    /// Does everything that can be done, and checks what comes of it.
    pub fn use_all(&mut self, is_verified: bool, longest_wait: Duration) {
        let timeouts = [Duration::ZERO, longest_wait, Duration::from_secs(60)];
        for client in &self.clients {
            for timeout in timeouts {
                self.number += 1;
                let request = whole(self.number, client.capacity().min(5000));
                // One that has no place any more would wait for it.
                let timeout = timeout.min(longest_wait);
                self.calls.extend(expect(client.start(&request, timeout)));
            }
            expect(client.is_served());
        }
        self.serve(is_verified, longest_wait);
        let capacity = self.clients.first().map_or(1, Client::capacity);
        for (number, mut call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            let result = match number % 3 {
                0 => call.wait(),
                1 => match call.try_wait() {
                    Ok(result) => result,
                    Err(call) => call.wait(),
                },
                _ => {
                    expect(wait::any(&mut [&mut call], Some(longest_wait)));
                    call.wait()
                }
            };
            if let Some(reply) = expect(result) {
                check(&reply, capacity.min(5000), is_verified);
            }
        }
        self.serve(is_verified, Duration::ZERO);
    }

    fn serve(&mut self, is_verified: bool, longest_wait: Duration) {
        let Some(server) = &mut self.server else {
            return;
        };
        let capacity = server.capacity().min(5000);
        expect(wait::any(&mut [server], Some(Duration::ZERO)));
        for turn in 0..100 {
            let timeout = if turn == 0 {
                longest_wait
            } else {
                Duration::ZERO
            };
            match expect(server.next(Some(timeout))) {
                None => {}
                Some(None) => break,
                Some(Some(request)) => {
                    check(&request, capacity, is_verified);
                    self.requests.push(request);
                }
            }
        }
        // One is kept for the next time.
        while self.requests.len() > 1 {
            let request = self.requests.swap_remove(0);
            request.is_cancelled();
            self.number += 1;
            match self.number % 5 {
                0 => drop(request),
                1 => drop(expect(request.fail(1, ""))),
                _ => drop(expect(request.reply(&whole(self.number, capacity)))),
            }
        }
    }
}

/// Opens whatever is there and does everything with it; then, if the doctor mends something, again.
pub fn visit(space: &Space, is_verified: bool, longest_wait: Duration) {
    for _ in 0..2 {
        expect(call::stat(space, NAME));
        let mut handles = Handles::open(space);
        handles.use_all(is_verified, longest_wait);
        expect(call::stat(space, NAME));
        drop(handles);
        let mut is_mended = false;
        for finding in space.diagnose().unwrap() {
            assert!(!finding.to_string().is_empty());
            if finding.subject().contains(NAME) {
                is_mended |= expect(finding.fix()).is_some();
            }
        }
        if !is_mended {
            break;
        }
    }
}
