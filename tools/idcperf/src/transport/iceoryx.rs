//! Eclipse iceoryx2: publish and subscribe of bytes in each direction, with its events to wait by.
//!
//! A publisher loans memory, the message is copied in, and the subscriber copies it out: the copies that all transports
//! here make. With `poll` the receiver looks again and again, and no events are sent; otherwise each message is
//! followed by a notification, as its documentation advises for receivers that sleep.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use iceoryx2::{
    port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber},
    prelude::*,
};

use super::{Transport, Waiting, halves};
use crate::spec::Spec;

/// Messages in flight, as many as a ring of 256 KiB holds, within reason.
fn depth(longest: usize) -> usize {
    ((256 << 10) / longest.max(1)).clamp(2, 1024)
}

/// The other half is gone when nothing has come for so long.
const LIMIT: Duration = Duration::from_secs(30);

/// Both directions of one side.
struct End {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    notifier: Notifier<ipc::Service>,
    listener: Listener<ipc::Service>,
    polls: bool,
    _node: Node<ipc::Service>,
}

impl End {
    fn new(base: &str, (write, read): (&str, &str), longest: usize, polls: bool) -> anyhow::Result<End> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let service = |way: &str| -> anyhow::Result<_> {
            let name = ServiceName::new(&format!("{base}/{way}"))?;
            let events = ServiceName::new(&format!("{base}/{way}/events"))?;
            let data = node
                .service_builder(&name)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(depth(longest))
                .open_or_create()?;
            Ok((data, node.service_builder(&events).event().open_or_create()?))
        };
        let ((out, rings), (back, waits)) = (service(write)?, service(read)?);
        let publisher = out
            .publisher_builder()
            .initial_max_slice_len(longest)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        Ok(End {
            publisher,
            subscriber: back.subscriber_builder().create()?,
            notifier: rings.notifier_builder().create()?,
            listener: waits.listener_builder().create()?,
            polls,
            _node: node,
        })
    }
}

impl Transport for End {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let sample = self.publisher.loan_slice_uninit(message.len())?;
        sample.write_from_slice(message).send()?;
        if !self.polls {
            self.notifier.notify()?;
        }
        Ok(())
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                ensure!(sample.payload().len() == buf.len(), "a message of another length");
                buf.copy_from_slice(sample.payload());
                return Ok(());
            }
            if self.polls {
                std::hint::spin_loop();
            } else {
                let woken = self.listener.timed_wait(|_| (), LIMIT)?;
                ensure!(woken > 0, "the other process is gone");
            }
        }
    }
}

/// The first half's end.
pub struct Offer {
    end: End,
    base: String,
    longest: usize,
}

impl Offer {
    /// Makes the services.
    pub fn new(spec: &Spec, folder: &Path, longest: usize) -> anyhow::Result<Offer> {
        set_log_level(LogLevel::Error);
        let base = folder.to_str().context("the path is not Unicode")?.to_owned();
        let end = End::new(&base, ("there", "back"), longest, spec.options.polls)?;
        Ok(Offer { end, base, longest })
    }
}

impl Waiting for Offer {
    fn address(&self) -> String {
        format!("{}|{}", self.base, self.longest)
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        Ok(Box::new(self.end))
    }
}

/// The second half's end.
pub fn join(spec: &Spec, address: &str) -> anyhow::Result<impl Transport + use<>> {
    set_log_level(LogLevel::Error);
    let (base, longest) = halves(address)?;
    End::new(base, ("back", "there"), longest.parse()?, spec.options.polls)
}
