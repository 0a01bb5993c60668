//! Two faults that a sanitizer must speak up about, or it is not in force. Run by tests/sanitizers/check alone.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;

struct Shared(UnsafeCell<u64>);

// SAFETY: there is none: two threads write at once, which is what ThreadSanitizer must see.
unsafe impl Sync for Shared {}

#[test]
fn race() {
    let shared = Shared(UnsafeCell::new(0));
    let shared = &shared;
    // So that neither write is ordered before the other by the end and the start of a thread.
    let both = std::sync::Barrier::new(2);
    let both = &both;
    std::thread::scope(|scope| {
        for n in 0..2 {
            scope.spawn(move || {
                both.wait();
                // SAFETY: as above.
                unsafe { shared.0.get().write_volatile(n) };
            });
        }
    });
}

#[test]
fn overflow() {
    let block = vec![1_u8; 16];
    let beyond = std::hint::black_box(block.len());
    // SAFETY: there is none: the byte behind the block is read, which is what AddressSanitizer must see.
    let byte = unsafe { block.as_ptr().add(beyond).read_volatile() };
    std::hint::black_box(byte);
}
