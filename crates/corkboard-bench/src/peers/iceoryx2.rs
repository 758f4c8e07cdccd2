//! iceoryx2: publish/subscribe, a blackboard of fixed-size values, events, and request/response.
//!
//! Each run uses a domain of its own (a root directory and a prefix), without signal handlers and
//! without log output. Everything else is the default.

use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, anyhow};
use iceoryx2::active_request::ActiveRequest;
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::server::Server;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{blackboard, publish_subscribe};

use crate::clock::ticks;
use crate::flow::{Inlet, Outlet};
use crate::link::{END, Link, SLICE, Side, number_of};
use crate::measure::{Effort, Summary, each};
use crate::payload::{LONG, Proof, SHORT, Source, consume};
use crate::scratch::Scratch;

type Ipc = ipc::Service;

const KEY: u64 = 1;

fn node(scratch: &Scratch) -> Result<Node<Ipc>> {
    set_log_level(LogLevel::Fatal);
    let mut config = Config::default();
    let root = scratch.path().join("iceoryx2");
    let root = root.to_str().context("the path is not UTF-8")?;
    config.global.set_root_path(&Path::new(root.as_bytes())?);
    config.global.prefix = FileName::new(scratch.iceoryx2_prefix().as_bytes())?;
    let node = NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled);
    Ok(node.create()?)
}

/// A service name of a row's own.
fn fresh(scratch: &Scratch) -> Result<ServiceName> {
    let path = scratch.fresh("iceoryx2");
    let name = path.file_name().context("the path has no name")?;
    Ok(name.to_string_lossy().as_ref().try_into()?)
}

/// Updates of a blackboard entry, written in place: `update_with_copy` passes values through the
/// stack.
pub fn publisher<const N: usize>(scratch: &Scratch) -> Result<impl FnMut(&[u8]) + use<N>> {
    let (node, service) = blackboard(scratch, [0; N])?;
    let writer = service.writer_builder().create()?;
    let mut entry = Some(writer.entry::<[u8; N]>(&KEY)?);
    Ok(move |value: &[u8]| {
        let _ = &node;
        let mut loan = entry.take().expect("it is put back").loan_uninit();
        let value: &[u8; N] = value.try_into().expect("a value of N bytes");
        loan.value_mut().write(*value);
        // SAFETY: it was just written whole.
        entry = Some(unsafe { loan.assume_init_and_update() });
    })
}

/// Reads of a blackboard entry: `get`, which copies the value.
pub fn reader<const N: usize>(scratch: &Scratch, value: &[u8]) -> Result<impl FnMut() + use<N>> {
    let (node, service) = blackboard::<N>(scratch, value.try_into()?)?;
    let reader = service.reader_builder().create()?;
    let entry = reader.entry::<[u8; N]>(&KEY)?;
    Ok(move || {
        let _ = &node;
        consume::<N>(&entry.get()[..]);
    })
}

/// Reads of a blackboard entry that keep the copy and ask `is_up_to_date` first: the fastest way
/// when values seldom change.
pub fn cached_reader<const N: usize>(
    scratch: &Scratch,
    value: &[u8],
) -> Result<impl FnMut() + use<N>> {
    let (node, service) = blackboard::<N>(scratch, value.try_into()?)?;
    let reader = service.reader_builder().create()?;
    let entry = reader.entry::<[u8; N]>(&KEY)?;
    let mut value = entry.get();
    Ok(move || {
        let _ = &node;
        if !entry.is_up_to_date(&value) {
            value = entry.get();
        }
        consume::<N>(&value[..]);
    })
}

type Blackboard = (Node<Ipc>, blackboard::PortFactory<Ipc, u64>);

fn blackboard<const N: usize>(scratch: &Scratch, value: [u8; N]) -> Result<Blackboard> {
    let node = node(scratch)?;
    let service = node
        .service_builder(&fresh(scratch)?)
        .blackboard_creator::<u64>()
        .add::<[u8; N]>(KEY, value)
        .create()
        .map_err(|error| anyhow!("create a blackboard: {error:?}"))?;
    Ok((node, service))
}

/// A publisher of slices with one subscriber, which never receives: the oldest sample in its
/// buffer of two is recycled. Without any subscriber nothing would be delivered at all.
struct Slices {
    publisher: Publisher<Ipc, [u8], ()>,
    _subscriber: Subscriber<Ipc, [u8], ()>,
    _node: Node<Ipc>,
}

impl Slices {
    fn create(scratch: &Scratch, len: usize) -> Result<Self> {
        let node = node(scratch)?;
        let service = node
            .service_builder(&fresh(scratch)?)
            .publish_subscribe::<[u8]>()
            .create()?;
        let subscriber = service.subscriber_builder().create()?;
        let publisher = service.publisher_builder();
        Ok(Self {
            publisher: publisher.initial_max_slice_len(len).create()?,
            _subscriber: subscriber,
            _node: node,
        })
    }
}

/// Publications to one subscriber: a loan, filled from the value and sent.
pub fn sample_publisher(scratch: &Scratch, len: usize) -> Result<impl FnMut(&[u8]) + use<>> {
    let slices = Slices::create(scratch, len)?;
    Ok(move |value: &[u8]| {
        // All of it: without its subscriber the publisher would deliver nothing.
        let slices = &slices;
        let loan = slices.publisher.loan_slice_uninit(value.len());
        let sample = loan.expect("iceoryx2 loans").write_from_slice(value);
        assert_eq!(sample.send().expect("iceoryx2 sends"), 1);
    })
}

/// The time of sending alone: the loan was filled before.
pub fn send_loan(effort: Effort, scratch: &Scratch) -> Result<Summary> {
    let slices = Slices::create(scratch, LONG)?;
    let mut source = Source::new(LONG);
    Ok(each(effort.samples(2_000), || {
        let mut loan = slices
            .publisher
            .loan_slice_uninit(LONG)
            .expect("iceoryx2 loans");
        let to: &mut [MaybeUninit<u8>] = loan.payload_mut();
        to.write_copy_of_slice(source.next());
        // SAFETY: it was just written whole.
        let sample = unsafe { loan.assume_init() };
        // As for corkboard: the fill's last stores are not part of sending.
        fence(Ordering::SeqCst);
        let start = ticks();
        assert_eq!(sample.send().expect("iceoryx2 sends"), 1);
        ticks() - start
    }))
}

/// One publish/subscribe service in each direction.
pub struct Services {
    out: Publisher<Ipc, [u8; SHORT], ()>,
    back: Subscriber<Ipc, [u8; SHORT], ()>,
    _node: Node<Ipc>,
}

impl Services {
    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let node = node(scratch)?;
        let service = |direction| {
            let name = format!("{name}/{direction}");
            let name: ServiceName = name.as_str().try_into()?;
            let service = node.service_builder(&name);
            let service = service.publish_subscribe::<[u8; SHORT]>().open_or_create();
            service.map_err(anyhow::Error::from)
        };
        let (out, back) = side.choose("there", "back");
        Ok(Self {
            out: service(out)?.publisher_builder().create()?,
            back: service(back)?.subscriber_builder().create()?,
            _node: node,
        })
    }
}

impl Link for Services {
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        let loan = self.out.loan_uninit()?;
        loan.write_payload(value.0).send()?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let sample = self.back.receive()?;
        if let Some(sample) = &sample {
            value.0 = *sample.payload();
        }
        Ok(sample.is_some())
    }
}

/// A publisher of values of `N` bytes that waits for its subscriber, with room for so many.
pub struct SampleOutlet<const N: usize> {
    publisher: Publisher<Ipc, [u8; N], ()>,
    _node: Node<Ipc>,
}

pub struct SampleInlet<const N: usize> {
    subscriber: Subscriber<Ipc, [u8; N], ()>,
    _node: Node<Ipc>,
}

type PubSub<const N: usize> = publish_subscribe::PortFactory<Ipc, [u8; N], ()>;

fn lossless<const N: usize>(scratch: &Scratch, name: &str) -> Result<(Node<Ipc>, PubSub<N>)> {
    let node = node(scratch)?;
    let service = node.service_builder(&name.try_into()?);
    let service = service.publish_subscribe::<[u8; N]>();
    let service = service
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(if N == SHORT { 1024 } else { 4 })
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()?;
    Ok((node, service))
}

impl<const N: usize> SampleOutlet<N> {
    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let (node, service) = lossless(scratch, name)?;
        let publisher = service.publisher_builder();
        let publisher = publisher.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        Ok(Self {
            publisher: publisher.create()?,
            _node: node,
        })
    }
}

impl<const N: usize> SampleInlet<N> {
    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let (node, service) = lossless(scratch, name)?;
        Ok(Self {
            subscriber: service.subscriber_builder().create()?,
            _node: node,
        })
    }
}

impl<const N: usize> Outlet for SampleOutlet<N> {
    #[inline(always)]
    fn push(&mut self, record: &[u8]) -> Result<()> {
        let record: &[u8; N] = record.try_into()?;
        let mut loan = self.publisher.loan_uninit()?;
        let to = loan.payload_mut().as_mut_ptr();
        // SAFETY: all of the loan's bytes, from others of as many.
        let loan = unsafe {
            std::ptr::copy_nonoverlapping(record, to, 1);
            loan.assume_init()
        };
        loan.send()?;
        Ok(())
    }
}

impl<const N: usize> Inlet for SampleInlet<N> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool> {
        let sample = self.subscriber.receive()?;
        if let Some(sample) = &sample {
            each(&sample.payload()[..]);
        }
        Ok(sample.is_some())
    }
}

/// One event service in each direction. An event carries a small number, not a value: what was
/// sent is taken for received, which favours it.
pub struct Events {
    out: Notifier<Ipc>,
    back: Listener<Ipc>,
    rounds: u64,
    _node: Node<Ipc>,
}

const NEXT_ROUND: EventId = EventId::new(1);
const LAST_ROUND: EventId = EventId::new(2);

impl Events {
    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let node = node(scratch)?;
        let service = |direction| {
            let name = format!("{name}/{direction}");
            let name: ServiceName = name.as_str().try_into()?;
            let service = node.service_builder(&name).event().open_or_create();
            service.map_err(anyhow::Error::from)
        };
        let (out, back) = side.choose("there", "back");
        Ok(Self {
            out: service(out)?.notifier_builder().create()?,
            back: service(back)?.listener_builder().create()?,
            rounds: 0,
            _node: node,
        })
    }
}

impl Link for Events {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &Proof) -> Result<()> {
        let id = match value.number() {
            END => LAST_ROUND,
            _ => NEXT_ROUND,
        };
        self.out.notify_with_custom_event_id(id)?;
        Ok(())
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let (mut next, mut last) = (0, false);
        let heard = |event: EventActivation| {
            next += 1;
            last |= event.id == LAST_ROUND;
        };
        self.back.timed_wait(heard, SLICE)?;
        if next > 0 {
            let number = if last { END } else { number_of(self.rounds) };
            *value = Proof::new(number);
            self.rounds += next;
        }
        Ok(next > 0)
    }
}

/// A request on its way, and one that is being answered.
type Asked = PendingResponse<Ipc, [u8; SHORT], (), [u8; SHORT], ()>;
type Taken = ActiveRequest<Ipc, [u8; SHORT], (), [u8; SHORT], ()>;

/// The client of a request/response service.
pub struct Requests {
    client: Client<Ipc, [u8; SHORT], (), [u8; SHORT], ()>,
    pending: Option<Asked>,
    _node: Node<Ipc>,
}

/// Its server.
pub struct Responses {
    server: Server<Ipc, [u8; SHORT], (), [u8; SHORT], ()>,
    active: Option<Taken>,
    _node: Node<Ipc>,
}

impl Requests {
    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let node = node(scratch)?;
        let service = node
            .service_builder(&name.try_into()?)
            .request_response::<[u8; SHORT], [u8; SHORT]>()
            .open_or_create()?;
        Ok(Self {
            client: service.client_builder().create()?,
            pending: None,
            _node: node,
        })
    }
}

impl Responses {
    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let node = node(scratch)?;
        let service = node
            .service_builder(&name.try_into()?)
            .request_response::<[u8; SHORT], [u8; SHORT]>()
            .open_or_create()?;
        Ok(Self {
            server: service.server_builder().create()?,
            active: None,
            _node: node,
        })
    }
}

impl Link for Requests {
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        let request = self.client.loan_uninit()?.write_payload(value.0);
        self.pending = Some(request.send()?);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let pending = self.pending.as_ref().context("a request on its way")?;
        let response = pending.receive()?;
        if let Some(response) = &response {
            value.0 = *response.payload();
        }
        Ok(response.is_some())
    }
}

impl Link for Responses {
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        let active = self.active.take().context("something to reply to")?;
        active.loan_uninit()?.write_payload(value.0).send()?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        self.active = self.server.receive()?;
        if let Some(active) = &self.active {
            value.0 = *active.payload();
        }
        Ok(self.active.is_some())
    }
}
