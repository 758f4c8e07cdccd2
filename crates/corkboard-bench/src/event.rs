//! corkboard's events, through their public interface only.

use std::sync::atomic::Ordering;

use anyhow::Result;
use corkboard::event::{Event, Reset};

use crate::board::shared_space;
use crate::link::{Link, SLICE, Side};
use crate::payload::Proof;
use crate::scratch::{Scratch, SharedPage};

/// Two of our events, one in each direction. As with others', what was sent is taken for received.
pub struct Events {
    out: Event,
    back: Event,
    page: SharedPage,
    lines: (usize, usize),
}

impl Events {
    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let space = shared_space(scratch, name)?;
        let event = |name: &str| Event::open_or_create(&space, name, Reset::Auto);
        let (out, back) = side.choose("there", "back");
        Ok(Self {
            out: event(out)?,
            back: event(back)?,
            page: SharedPage::open(&scratch.path().join(format!("{name}-page")))?,
            lines: side.choose(0, 1),
        })
    }
}

impl Link for Events {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &Proof) -> Result<()> {
        let (out, _) = self.lines;
        // Relaxed: the event orders it.
        self.page.word(out).store(value.number(), Ordering::Relaxed);
        Ok(self.out.set()?)
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        if !self.back.wait(Some(SLICE))? {
            return Ok(false);
        }
        let (_, back) = self.lines;
        *value = Proof::new(self.page.word(back).load(Ordering::Relaxed));
        Ok(true)
    }
}
