//! PUBLISH: the link table beside the ring, and the watermark `published`.
//!
//! One u32 for each 8 bytes of ring: the size of the record that begins there, zero while it is not complete. A writer
//! publishes with one release store into the slot of its own record; nobody shares a counter. The flusher follows the
//! links from `published` on, which gives the exact contiguous prefix, and clears each slot as it passes. (The structure
//! is InnoDB's `Link_buf`.) Sizes are multiples of 8, so the lowest bit is free: it marks a member of an atomic batch
//! that is not the last, and the walk never stops behind one, so no watermark ever stands inside a batch.

use crate::format::HEADER_WORD;
use crate::primitive::{Arc, AtomicU32, Ordering};
use crate::reserve::Claim;
use crate::watermark::Watermarks;

const CONTINUES: u32 = 1;

/// The link table.
pub(crate) struct Publish {
    links: Box<[AtomicU32]>,
    watermarks: Arc<Watermarks>,
}

/// The right to follow the links: there is one for each log, inside the flusher's lock.
pub(crate) struct Walker {
    position: u64,
}

/// A published part of the stream that the flusher has walked and not yet released.
pub(crate) struct Run {
    start: u64,
    end: u64,
    /// How many records begin in it.
    pub(crate) records: u64,
    /// If the run crosses into another segment: the position of the first record that begins there or later.
    pub(crate) entered: Option<u64>,
}

impl Run {
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    #[cfg(test)]
    pub(crate) fn for_test(start: u64, end: u64) -> Run {
        Run { start, end, records: 1, entered: None }
    }
}

impl Publish {
    /// The link table for a ring of `capacity` bytes, and the one walker.
    pub(crate) fn new(capacity: u64, start: u64, watermarks: Arc<Watermarks>) -> (Publish, Walker) {
        let links = (0..capacity / HEADER_WORD as u64).map(|_| AtomicU32::new(0)).collect();
        (Publish { links, watermarks }, Walker { position: start })
    }

    /// Publishes a claim that holds one complete record.
    ///
    /// Release: pairs with the acquire in [`Publish::walk`]. Without it the flusher could write bytes to the file that the
    /// record's writer has not stored yet.
    #[inline]
    pub(crate) fn publish(&self, claim: Claim) {
        self.slot(claim.position()).store(claim.size() as u32, Ordering::Release);
    }

    /// Publishes a claim that holds the complete records of a batch, whose sizes are `sizes`, all at once: the links
    /// behind the first are stored first (relaxed), and become visible with the release store of the first.
    pub(crate) fn publish_batch(&self, claim: Claim, sizes: impl DoubleEndedIterator<Item = u64>) {
        let mut end = claim.end();
        for (nth_last, size) in sizes.rev().enumerate() {
            let position = end - size;
            let link = size as u32 | if nth_last == 0 { 0 } else { CONTINUES };
            let order = if position == claim.position() { Ordering::Release } else { Ordering::Relaxed };
            self.slot(position).store(link, order);
            end = position;
        }
        debug_assert_eq!(end, claim.position(), "the sizes add up to the claim");
    }

    /// Follows the links from `published` on, over about `most` bytes at most, and not beyond the first record that
    /// reaches the next multiple of `1 << segment_shift`: a run touches two segments at most, and what it has to say of
    /// the second one is where its first record begins.
    ///
    /// Acquire: pairs with the release in [`Publish::publish`]. The slots are cleared relaxed: the writers that use them
    /// next see the zeros by the release of `flushed`, which follows, and their acquire load of it.
    pub(crate) fn walk(&self, walker: &mut Walker, most: u64, segment_shift: u32) -> Run {
        let start = walker.position;
        let boundary = ((start >> segment_shift) + 1) << segment_shift;
        let mut run = Run { start, end: start, records: 0, entered: None };
        let mut continues = false;
        while continues || (run.end < boundary && run.end - start < most) {
            let slot = self.slot(run.end);
            let link = slot.load(Ordering::Acquire);
            if link == 0 {
                debug_assert!(!continues, "a batch is published as one");
                break;
            }
            slot.store(0, Ordering::Relaxed);
            run.records += 1;
            run.end += u64::from(link & !CONTINUES);
            continues = link & CONTINUES != 0;
            if run.end >= boundary && run.entered.is_none() {
                run.entered = Some(run.end);
            }
        }
        self.moved(walker, run.end);
        run
    }

    /// Moves on to `end` over a record that went to the file directly: there are no links in it.
    pub(crate) fn skip(&self, walker: &mut Walker, end: u64) {
        self.moved(walker, end);
    }

    fn moved(&self, walker: &mut Walker, end: u64) {
        if walker.position != end {
            walker.position = end;
            self.watermarks.published.advance(end);
        }
    }

    #[inline]
    fn slot(&self, position: u64) -> &AtomicU32 {
        &self.links[(position / HEADER_WORD as u64) as usize & (self.links.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Publish, Walker, Arc<Watermarks>) {
        let watermarks = Arc::new(Watermarks::at(0));
        let (publish, walker) = Publish::new(4096, 0, Arc::clone(&watermarks));
        (publish, walker, watermarks)
    }

    #[test]
    fn only_the_contiguous_prefix_is_walked() {
        let (publish, mut walker, watermarks) = table();
        publish.publish(Claim::for_test(24, 16));
        assert_eq!(publish.walk(&mut walker, 4096, 12).end(), 0);
        publish.publish(Claim::for_test(0, 24));
        let run = publish.walk(&mut walker, 4096, 12);
        assert_eq!((run.start(), run.end(), run.records), (0, 40, 2));
        assert_eq!(watermarks.published.load(), 40);
    }

    #[test]
    fn a_walk_ends_with_the_record_that_reaches_the_boundary() {
        let (publish, mut walker, _) = table();
        for position in (0..4096).step_by(64) {
            publish.publish(Claim::for_test(position, 64));
        }
        assert_eq!(publish.walk(&mut walker, 4000, 10).end(), 1024);
        walker.position = 1024;
        let run = publish.walk(&mut walker, 100, 10);
        assert_eq!((run.end(), run.entered), (1152, None));
    }

    #[test]
    fn a_walk_never_stops_inside_a_batch() {
        let (publish, mut walker, _) = table();
        publish.publish_batch(Claim::for_test(0, 96), [32, 40, 24].into_iter());
        publish.publish(Claim::for_test(96, 8));
        let run = publish.walk(&mut walker, 8, 12);
        assert_eq!((run.end(), run.records), (96, 3));
        // Also where the batch crosses into the next segment: the first member that begins there is named.
        let (publish, mut walker, _) = table();
        publish.publish(Claim::for_test(0, 1000));
        publish.publish_batch(Claim::for_test(1000, 96), [32, 40, 24].into_iter());
        let run = publish.walk(&mut walker, 4096, 10);
        assert_eq!((run.end(), run.entered), (1096, Some(1032)));
    }
}
