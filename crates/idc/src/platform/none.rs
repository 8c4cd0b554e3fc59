//! A build without `std` that is not for the library OS has no platform of its own: there is no value of this
//! type. The rings and channels can be used with another [`Platform`].

use super::{Acceptor, Access, Call, Dial, Event, Granted, Offer, Platform, PortStatus};
use crate::error::Result;
use crate::name::ServiceName;
use crate::shm::Pages;
use crate::{DomId, EvtchnPort, GrantRef};

/// No platform.
#[derive(Clone, Copy, Debug)]
pub enum Native {}

impl Event for Native {
    fn port(&self) -> EvtchnPort {
        match *self {}
    }

    fn notify(&self) -> Result<()> {
        match *self {}
    }

    fn wait(&self, _: u64) -> Result<bool> {
        match *self {}
    }

    fn status(&self) -> Result<PortStatus> {
        match *self {}
    }
}

impl Acceptor for Native {
    fn next(&mut self, _: u64) -> Result<Option<Offer>> {
        match *self {}
    }
}

impl Call for Native {
    fn remind(&mut self) -> Result<()> {
        match *self {}
    }
}

impl Platform for Native {
    type Memory = Pages<Native>;
    type Event = Native;
    type Acceptor = Native;
    type Call = Native;

    fn domid(&self) -> Result<DomId> {
        match *self {}
    }

    fn grant(&self, _: DomId, _: usize, _: Access) -> Result<Granted<Pages<Native>>> {
        match *self {}
    }

    fn map(&self, _: DomId, _: &[GrantRef], _: Access) -> Result<Pages<Native>> {
        match *self {}
    }

    fn announce_death(&self, _: &Pages<Native>, _: usize, _: &Native) -> Result<()> {
        match *self {}
    }

    fn alloc_unbound(&self, _: DomId) -> Result<Native> {
        match *self {}
    }

    fn bind_interdomain(&self, _: DomId, _: EvtchnPort) -> Result<Native> {
        match *self {}
    }

    fn now(&self) -> u64 {
        match *self {}
    }

    fn sleep_until(&self, _: u64) {
        match *self {}
    }

    fn relax(&self) {
        match *self {}
    }

    fn nonce(&self) -> u64 {
        match *self {}
    }

    fn can_spin(&self) -> bool {
        match *self {}
    }

    fn serve(&self, _: ServiceName) -> Result<Native> {
        match *self {}
    }

    fn call(&self, _: Dial, _: u64) -> Result<Native> {
        match *self {}
    }
}
