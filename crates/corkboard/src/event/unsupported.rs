//! Events where there are none: see `crate::unsupported`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Reset;
use crate::error::Result;
use crate::object::Identity;
use crate::space::Space;
use crate::sys::file::File;
use crate::unsupported::unsupported;
use crate::wait::sealed::Sleeper;

pub(super) struct Shared {
    pub(super) space: Space,
    pub(super) name: String,
    pub(super) reset: Reset,
    pub(super) identity: Identity,
    pub(super) is_deleted: AtomicBool,
    never: Infallible,
}

impl Shared {
    pub(super) fn open(space: &Space, _: &str) -> Result<Self> {
        unsupported("open", space.path())
    }

    pub(super) fn sets(&self) -> u64 {
        match self.never {}
    }

    pub(super) fn set(&self) {}

    pub(super) fn unset(&self) {}

    pub(super) fn wait(&self, _: Option<Duration>) -> Result<bool> {
        match self.never {}
    }

    pub(super) fn passes(&self, _: u64) -> bool {
        match self.never {}
    }

    pub(super) fn is_live(&self) -> bool {
        match self.never {}
    }

    pub(super) fn pass_on(&self) {}

    pub(super) fn watching(self: &Arc<Self>, _: u64) -> Box<dyn Sleeper> {
        match self.never {}
    }
}

pub(super) fn is_signalled(_: &Space, _: &str, _: &File, _: u64) -> bool {
    false
}

pub(super) fn sets(word: u64) -> u64 {
    word
}
