//! The watermarks: monotonic half-open byte positions in the stream, `durable <= flushed <= published`.
//!
//! Each is stored by exactly one file, `sync.rs`, `flush.rs` and `publish.rs` in this order; everybody else only loads
//! it (a test reads the sources for that). The fourth one, `reserved`, lives packed with other bits in `reserve.rs`.

use crate::primitive::{AtomicU64, Ordering, Padded};

/// One watermark.
pub(crate) struct Watermark(Padded<AtomicU64>);

impl Watermark {
    fn new(position: u64) -> Watermark {
        Watermark(Padded(AtomicU64::new(position)))
    }

    /// The position. Acquire: pairs with the release in [`Watermark::advance`], so whoever sees the position also sees
    /// all that was done to reach it.
    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Moves the watermark to `position`. Called by its one owner only, under that owner's lock, so a plain store
    /// suffices. Release: pairs with [`Watermark::load`].
    pub(crate) fn advance(&self, position: u64) {
        debug_assert!(self.0.load(Ordering::Relaxed) <= position, "a watermark never goes back");
        self.0.store(position, Ordering::Release);
    }
}

/// The three watermarks behind the reservation.
pub(crate) struct Watermarks {
    /// Every record below is on stable storage. Stored by `sync.rs`.
    pub(crate) durable: Watermark,
    /// Every record below is with the operating system, and its ring space is free again. Stored by `flush.rs`.
    pub(crate) flushed: Watermark,
    /// Every record below is complete in the ring. Stored by `publish.rs`.
    pub(crate) published: Watermark,
}

impl Watermarks {
    /// All three at `position`: nothing is under way.
    pub(crate) fn at(position: u64) -> Watermarks {
        Watermarks {
            durable: Watermark::new(position),
            flushed: Watermark::new(position),
            published: Watermark::new(position),
        }
    }
}
