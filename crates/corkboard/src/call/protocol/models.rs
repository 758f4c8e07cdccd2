//! The smallest races of the protocol, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p corkboard --lib --release models`

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

/// One client's one slot. loom reports an access to the payload that races.
struct Desk {
    state: AtomicU64,
    pending: AtomicU64,
    bell: AtomicU64,
    epoch: AtomicU64,
    payload: UnsafeCell<u64>,
}

// SAFETY: loom checks each access to the payload.
unsafe impl Sync for Desk {}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            bell: AtomicU64::new(0),
            epoch: AtomicU64::new(1),
            payload: UnsafeCell::new(0),
        })
    }

    fn write(&self, value: u64) {
        // SAFETY: the slot is this side's (I1); loom checks it.
        self.payload.with_mut(|payload| unsafe { *payload = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: as above.
        self.payload.with(|payload| unsafe { *payload })
    }

    fn ask(&self, value: u64) -> (State, bool) {
        self.write(value);
        ask(&self.state, &self.pending, 1, &self.bell)
    }

    /// Takes the request if its bit says that there may be one.
    fn take(&self, epoch: u32) -> Option<State> {
        take_bit(&self.pending, 1).then(|| take(&self.state, epoch))?
    }

    /// Answers with twice what was asked.
    fn answer(&self, taken: State) -> Answered {
        let asked = self.read();
        self.write(2 * asked);
        answer(&self.state, taken, Phase::Replied)
    }
}

#[test]
fn a_reply_is_whole_and_its_callers() {
    loom::model(|| {
        let desk = Desk::new();
        let server = {
            let desk = desk.clone();
            thread::spawn(move || desk.take(1).map(|taken| desk.answer(taken)))
        };
        let (asked, _) = desk.ask(21);
        let now = State::load(&desk.state);
        assert_eq!(now.number(), asked.number());
        if now.phase() == Some(Phase::Replied) {
            assert_eq!(desk.read(), 42);
        }
        let answered = server.join().unwrap();
        let now = State::load(&desk.state);
        match answered {
            Some(answered) => {
                assert_eq!(answered, Answered::Delivered { asleep: false });
                assert_eq!((now.phase(), desk.read()), (Some(Phase::Replied), 42));
            }
            None => {
                assert_eq!(now.phase(), Some(Phase::Pending));
                assert!(is_pending(&desk.pending), "the next look finds it");
            }
        }
    });
}

#[test]
fn either_the_client_rings_or_the_server_sees() {
    loom::model(|| {
        let desk = Desk::new();
        let client = {
            let desk = desk.clone();
            thread::spawn(move || desk.ask(1).1)
        };
        listen(&desk.bell);
        let is_seen = is_pending(&desk.pending);
        let is_rung = client.join().unwrap();
        assert!(is_seen || is_rung, "it would sleep with a request there");
    });
}

#[test]
fn either_the_client_sees_the_answer_or_it_is_woken() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        let taken = desk.take(1).unwrap();
        let server = {
            let desk = desk.clone();
            thread::spawn(move || desk.answer(taken))
        };
        let asleep = sleep(&desk.state);
        let answered = server.join().unwrap();
        let is_woken = answered == (Answered::Delivered { asleep: true });
        assert_eq!(asleep.is_some(), is_woken);
    });
}

#[test]
fn who_sleeps_before_the_request_is_taken_is_woken_by_the_answer() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        let server = {
            let desk = desk.clone();
            thread::spawn(move || desk.take(1).map(|taken| desk.answer(taken)))
        };
        let asleep = sleep(&desk.state);
        let answered = server.join().unwrap();
        let is_woken = answered == Some(Answered::Delivered { asleep: true });
        assert_eq!(asleep.is_some(), is_woken);
    });
}

#[test]
fn a_call_given_up_is_freed_once_and_its_slot_written_by_one_side_at_a_time() {
    loom::model(|| {
        let desk = Desk::new();
        let (asked, _) = desk.ask(1);
        let server = {
            let desk = desk.clone();
            thread::spawn(move || desk.take(1).map(|taken| desk.answer(taken)))
        };
        let is_ours = match give_up(&desk.state) {
            GivenUp::Free => true,
            GivenUp::Answered(answer) => {
                assert_eq!(answer.number(), asked.number());
                assert_eq!(desk.read(), 2);
                free(&desk.state);
                true
            }
            // Until the server is done.
            GivenUp::Taken => State::load(&desk.state).phase() == Some(Phase::Free),
        };
        if is_ours {
            // The next call in the same slot; the answer to the first must not reach it.
            desk.write(5);
            assert_eq!(State::load(&desk.state).phase(), Some(Phase::Free));
            assert_eq!(desk.read(), 5);
        }
        let answered = server.join().unwrap();
        if is_ours {
            assert_eq!(State::load(&desk.state).phase(), Some(Phase::Free));
        } else {
            assert_eq!(answered, Some(Answered::Unwanted));
            assert_eq!(State::load(&desk.state).phase(), Some(Phase::Free));
        }
    });
}

#[test]
fn two_servers_threads_do_not_take_the_same_request() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        let other = {
            let desk = desk.clone();
            // A thread that was told by another bit of the same slots.
            thread::spawn(move || take(&desk.state, 1).is_some())
        };
        let ours = desk.take(1).is_some();
        assert!(ours ^ other.join().unwrap());
    });
}

#[test]
fn what_a_dead_server_had_is_given_back_once() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        desk.take(1).unwrap();
        // It is dead now. The next one begins while the client gives up.
        let next = {
            let desk = desk.clone();
            thread::spawn(move || {
                desk.epoch.store(2, Ordering::Release);
                free_if_cancelled(&desk.state);
            })
        };
        give_up(&desk.state);
        if u64::from(State::load(&desk.state).epoch()) != desk.epoch.load(Ordering::Acquire) {
            free_if_cancelled(&desk.state);
        }
        if State::load(&desk.state).phase() == Some(Phase::Free) {
            desk.ask(2);
            assert_eq!(State::load(&desk.state).phase(), Some(Phase::Pending));
        }
        next.join().unwrap();
        let now = State::load(&desk.state);
        assert!(matches!(
            now.phase(),
            Some(Phase::Pending | Phase::Cancelled | Phase::Free)
        ));
    });
}

#[test]
fn who_sees_a_request_taken_knows_its_server() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        let client = {
            let desk = desk.clone();
            thread::spawn(move || {
                let found = State::load(&desk.state);
                (found, desk.epoch.load(Ordering::Acquire))
            })
        };
        // The next server begins, and takes what waits.
        desk.epoch.store(2, Ordering::Release);
        take(&desk.state, 2).unwrap();
        let (found, epoch) = client.join().unwrap();
        if found.phase() == Some(Phase::Taken) {
            assert_eq!(epoch, 2, "it would be taken for a dead one's");
        }
    });
}

#[test]
fn a_bit_that_is_set_again_wakes_who_did_not_see_it() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        // One thread of the server takes the bit down, and finds more behind it.
        let first = {
            let desk = desk.clone();
            thread::spawn(move || {
                take_bit(&desk.pending, 1) && remind(&desk.pending, 1, &desk.bell)
            })
        };
        listen(&desk.bell);
        let is_seen = is_pending(&desk.pending);
        let is_woken = first.join().unwrap();
        assert!(is_seen || is_woken, "it would sleep with a request there");
    });
}

#[test]
fn a_dead_clients_slot_is_taken_back_while_the_server_answers() {
    loom::model(|| {
        let desk = Desk::new();
        desk.ask(1);
        // The client is dead now, and somebody claims its entry.
        let server = {
            let desk = desk.clone();
            thread::spawn(move || desk.take(1).map(|taken| desk.answer(taken)))
        };
        let is_ours = match give_up(&desk.state) {
            GivenUp::Free => true,
            GivenUp::Answered(_) => {
                free(&desk.state);
                true
            }
            GivenUp::Taken => State::load(&desk.state).phase() == Some(Phase::Free),
        };
        let asked = is_ours.then(|| desk.ask(5).0);
        server.join().unwrap();
        let now = State::load(&desk.state);
        match asked {
            None => assert_eq!(now.phase(), Some(Phase::Free)),
            // The dead one's answer is not the new call's.
            Some(asked) => {
                assert_eq!(now.number(), asked.number());
                let found = (now.phase(), desk.read());
                let expected = [(Some(Phase::Pending), 5), (Some(Phase::Replied), 10)];
                assert!(expected.contains(&found), "{found:?}");
            }
        }
    });
}
