//! Handles: what C holds in place of a pointer, so that nothing it passes is ever trusted as an address.
//!
//! A handle is a number: the kind of the object, the index of its entry in a table, and the generation of the entry.
//! Entries are never freed, so any number can be looked up, and one that was closed, of another kind, or never a handle
//! is told from a good one.
//!
//! An entry's `state` is its generation and a phase:
//!
//!     FREE -> SETUP -> OPEN -> CLOSING -> FREE, one generation later
//!                      OPEN -> BUSY -> OPEN          [`Table::exclusive`] only
//!
//! - H1. Whoever moves an entry into SETUP, BUSY or CLOSING (by compare-and-swap) is alone in changing its state until it
//!   moves it on.
//! - H2. `value` is initialised in OPEN, BUSY and CLOSING. It is written in SETUP and taken out in CLOSING, by its owner
//!   of H1.
//! - H3. Of one table either only [`Table::exclusive`] is used, or only [`Table::shared`]. In BUSY the owner alone touches
//!   the value. Under `shared` it is only read, by threads whose slot names the handle (`in_call.rs`), and it is taken out
//!   only after every such slot was seen to name something else.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use crate::in_call;

/// Bits of a handle, from the lowest: kind, index, generation.
const KIND_BITS: u32 = 4;
const INDEX_BITS: u32 = if usize::BITS == 64 { 20 } else { 12 };
const GENERATION_SHIFT: u32 = KIND_BITS + INDEX_BITS;
const GENERATIONS: usize = 1 << (usize::BITS - GENERATION_SHIFT);
/// Not 0, so that small numbers are no handles; on 64 bits one can see in a debugger what it is: `wal` in ASCII.
const FIRST_GENERATION: usize = if usize::BITS == 64 { 0x77_616c_0000 } else { 0x7700 };

const _: () = assert!(FIRST_GENERATION < GENERATIONS);

/// The first chunk of a table has this many entries, and is part of it; each further one has twice as many as the one
/// before.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = (INDEX_BITS - FIRST_CHUNK.trailing_zeros()) as usize - 1;
const CAPACITY: usize = FIRST_CHUNK * ((2 << CHUNKS) - 1);

const _: () = assert!(CAPACITY < 1 << INDEX_BITS);

const FREE: usize = 0;
const SETUP: usize = 1;
const OPEN: usize = 2;
const BUSY: usize = 3;
const CLOSING: usize = 4;
const PHASE_BITS: u32 = 3;

const _: () = assert!(PHASE_BITS < GENERATION_SHIFT);

const fn state(generation: usize, phase: usize) -> usize {
    generation << PHASE_BITS | phase
}

/// Why a handle was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// NULL.
    Null,
    /// No handle of this kind.
    Wrong,
    /// It was closed.
    Closed,
    /// Another thread uses it right now, and it belongs to one thread at a time.
    Busy,
    /// It was in use in the parent when this process was forked.
    Forked,
}

/// Another open object would be more than a table holds.
#[derive(Debug)]
pub(crate) struct TableFull;

struct Entry<T> {
    state: AtomicUsize,
    /// The process that opened it. Relaxed: written before the handle is given out.
    process: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Entry<T> {
    const fn free() -> Entry<T> {
        Entry {
            state: AtomicUsize::new(state(FIRST_GENERATION, FREE)),
            process: AtomicU32::new(0),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// All objects of one kind.
pub(crate) struct Table<T: 'static> {
    kind: usize,
    first: [Entry<T>; FIRST_CHUNK],
    /// Those behind the first.
    chunks: [AtomicPtr<Entry<T>>; CHUNKS],
}

// SAFETY: by H1 to H3 a value is reached by one thread alone (exclusive), or read by several (shared), and `T` allows
// either.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// Where the entry with this index, which is not in the first chunk, is: in which of `chunks`, and where in that.
const fn place(index: usize) -> (usize, usize) {
    let number = index + FIRST_CHUNK;
    let chunk = (number / FIRST_CHUNK).ilog2();
    (chunk as usize - 1, number - (FIRST_CHUNK << chunk))
}

/// How many entries this one of `chunks` has.
const fn length(chunk: usize) -> usize {
    FIRST_CHUNK << (chunk + 1)
}

impl<T: Send + Sync> Table<T> {
    /// The table of the objects of `kind`, 1 to 15: no handle is 0, nor the address of an aligned object.
    pub(crate) const fn new(kind: usize) -> Table<T> {
        assert!(kind > 0 && kind < 1 << KIND_BITS && kind % 8 != 0);
        let chunks = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];
        Table { kind, first: [const { Entry::free() }; FIRST_CHUNK], chunks }
    }

    /// The entry with this index; `None` if its chunk was never needed.
    #[inline]
    fn entry(&self, index: usize) -> Option<&Entry<T>> {
        if index < FIRST_CHUNK { Some(&self.first[index]) } else { self.later_entry(index) }
    }

    fn later_entry(&self, index: usize) -> Option<&Entry<T>> {
        let (chunk, offset) = place(index);
        // Acquire: pairs with the release in `grow`; the entries are seen initialised.
        let first = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: a chunk that is not null has `length` entries, initialised and never freed, and `place` gives an offset
        // below that.
        (!first.is_null()).then(|| unsafe { &*first.add(offset) })
    }

    /// The entry with this index, below `CAPACITY`. Makes its chunk where there is none yet.
    fn grow(&self, index: usize) -> &Entry<T> {
        if self.entry(index).is_none() {
            let (chunk, _) = place(index);
            let made: Box<[Entry<T>]> = (0..length(chunk)).map(|_| Entry::free()).collect();
            let made = Box::into_raw(made);
            // AcqRel: the release pairs with the acquire in `entry`, the acquire with the release of whoever was faster.
            let swapped = self.chunks[chunk].compare_exchange(
                ptr::null_mut(),
                made.cast::<Entry<T>>(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if swapped.is_err() {
                // SAFETY: it came from `Box::into_raw` just now, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
        self.entry(index).expect("the chunk was made, by this thread or by another")
    }

    /// Stores `value` and returns its handle. Takes no lock: a forked child may do it.
    pub(crate) fn insert(&self, value: T) -> Result<usize, TableFull> {
        for index in 0..CAPACITY {
            let entry = self.grow(index);
            let free = entry.state.load(Ordering::Relaxed);
            let generation = free >> PHASE_BITS;
            let setup = state(generation, SETUP);
            // Acquire: pairs with the release in `take`; the last value was moved out before.
            if free != state(generation, FREE)
                || entry.state.compare_exchange(free, setup, Ordering::Acquire, Ordering::Relaxed).is_err()
            {
                continue;
            }
            // SAFETY: H1: this thread moved the entry into SETUP.
            unsafe { (*entry.value.get()).write(value) };
            entry.process.store(std::process::id(), Ordering::Relaxed);
            // Release: pairs with the acquires in `shared`, `exclusive` and `begin_close`.
            entry.state.store(state(generation, OPEN), Ordering::Release);
            return Ok(generation << GENERATION_SHIFT | index << KIND_BITS | self.kind);
        }
        Err(TableFull)
    }

    /// The entry and the generation that a handle names, whatever its state is.
    #[inline]
    fn find(&self, handle: usize) -> Result<(&Entry<T>, usize), Refused> {
        if handle & ((1 << KIND_BITS) - 1) != self.kind {
            return Err(if handle == 0 { Refused::Null } else { Refused::Wrong });
        }
        let index = handle >> KIND_BITS & ((1 << INDEX_BITS) - 1);
        match self.entry(index) {
            Some(entry) => Ok((entry, handle >> GENERATION_SHIFT)),
            None => Err(Refused::Wrong),
        }
    }

    /// Why an entry that was met in this state cannot be used with a handle of `generation`.
    #[cold]
    fn why(entry: &Entry<T>, found: usize, generation: usize) -> Refused {
        let (now, phase) = (found >> PHASE_BITS, found & ((1 << PHASE_BITS) - 1));
        let own = entry.process.load(Ordering::Relaxed) == std::process::id();
        match phase {
            BUSY | CLOSING if now == generation && !own => Refused::Forked,
            BUSY if now == generation => Refused::Busy,
            CLOSING if now == generation => Refused::Closed,
            _ if (FIRST_GENERATION..now).contains(&generation) => Refused::Closed,
            _ => Refused::Wrong,
        }
    }

    /// Calls `use_it` with a value that other threads may read at the same time.
    #[inline]
    pub(crate) fn shared<R>(&self, handle: usize, use_it: impl FnOnce(&T) -> R) -> Result<R, Refused> {
        let (entry, generation) = self.find(handle)?;
        let _in_call = in_call::enter(handle);
        // Acquire: pairs with the release in `insert`.
        let found = entry.state.load(Ordering::Acquire);
        if found != state(generation, OPEN) {
            return Err(Self::why(entry, found, generation));
        }
        // SAFETY: H2: OPEN was seen after the slot was set, so by H3 the value stays until the slot is cleared, when
        // `_in_call` is dropped; and `shared` values are only read.
        Ok(use_it(unsafe { (*entry.value.get()).assume_init_ref() }))
    }

    /// Calls `use_it` with a value that this thread has for itself meanwhile.
    #[inline]
    pub(crate) fn exclusive<R>(&self, handle: usize, use_it: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        struct Leave<'a>(&'a AtomicUsize, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                // Release: pairs with the acquire of whoever uses it next.
                self.0.store(self.1, Ordering::Release);
            }
        }
        let (entry, generation) = self.find(handle)?;
        let (open, busy) = (state(generation, OPEN), state(generation, BUSY));
        if let Err(found) = entry.state.compare_exchange(open, busy, Ordering::Acquire, Ordering::Relaxed) {
            return Err(Self::why(entry, found, generation));
        }
        let _leave = Leave(&entry.state, open);
        // SAFETY: H1 and H3: this thread moved the entry into BUSY, and `_leave` moves it back after the last use.
        Ok(use_it(unsafe { (*entry.value.get()).assume_init_mut() }))
    }

    /// Takes out a value that one thread has for itself.
    pub(crate) fn remove(&self, handle: usize) -> Result<T, Refused> {
        // H3: in this table nobody uses the value of an entry that is not BUSY.
        self.begin_close(handle).map(Closing::take)
    }

    /// Refuses all further use of a handle. Of several threads that close it, one succeeds.
    pub(crate) fn begin_close(&self, handle: usize) -> Result<Closing<'_, T>, Refused> {
        let (entry, generation) = self.find(handle)?;
        let (open, closing) = (state(generation, OPEN), state(generation, CLOSING));
        // AcqRel: acquires the value; the release is one half of the argument in `in_call.rs`.
        match entry.state.compare_exchange(open, closing, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(Closing { entry, handle, generation }),
            Err(found) => Err(Self::why(entry, found, generation)),
        }
    }
}

/// An object that is being closed: nobody begins to use it any more, but some may still be at it.
pub(crate) struct Closing<'a, T> {
    entry: &'a Entry<T>,
    handle: usize,
    generation: usize,
}

impl<T> Closing<'_, T> {
    /// The value, which others may still read.
    pub(crate) fn value(&self) -> &T {
        // SAFETY: H2: the entry is in CLOSING. It is borrowed no longer than `self`, and `take` consumes that.
        unsafe { (*self.entry.value.get()).assume_init_ref() }
    }

    /// Opens the handle again, as if nothing had been.
    pub(crate) fn undo(self) {
        self.entry.state.store(state(self.generation, OPEN), Ordering::Release);
    }

    /// Waits until nobody uses the value, takes it out, and frees the entry for another. `None` if the kernel no longer
    /// tells whether somebody does; the value then stays where it is, for good.
    pub(crate) fn take_unused(self) -> Option<T> {
        in_call::wait_until_unused(self.handle).then(|| self.take())
    }

    fn take(self) -> T {
        // SAFETY: H1 to H3: the entry is in CLOSING by this thread, and no thread reads the value or will.
        let value = unsafe { (*self.entry.value.get()).assume_init_read() };
        let next = (self.generation + 1) % GENERATIONS;
        // Release: pairs with the acquire in `insert`; the value was moved out before.
        self.entry.state.store(state(next, FREE), Ordering::Release);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn what_is_no_handle_is_refused() {
        static TABLE: Table<u32> = Table::new(1);
        static OTHER: Table<u32> = Table::new(2);
        let handle = TABLE.insert(7).unwrap();
        let other = OTHER.insert(8).unwrap();
        assert_eq!(TABLE.shared(handle, |&value| value), Ok(7));
        assert_eq!(TABLE.shared(0, |_| ()), Err(Refused::Null));
        for wrong in
            [1, other, handle + (1 << KIND_BITS), handle + (1 << GENERATION_SHIFT), usize::MAX, 0x7fff_0000_1230]
        {
            assert_eq!(TABLE.shared(wrong, |_| ()), Err(Refused::Wrong), "{wrong:x}");
        }
        assert_eq!(TABLE.begin_close(handle).unwrap().take_unused(), Some(7));
        assert_eq!(TABLE.shared(handle, |_| ()), Err(Refused::Closed));
        assert_eq!(TABLE.begin_close(handle).map(|_| ()), Err(Refused::Closed));
        let again = TABLE.insert(9).unwrap();
        assert_ne!(again, handle, "the entry is used again under another handle");
        assert_eq!(again & ((1 << GENERATION_SHIFT) - 1), handle & ((1 << GENERATION_SHIFT) - 1));
        assert_eq!(TABLE.shared(handle, |_| ()), Err(Refused::Closed));
    }

    #[test]
    fn a_table_grows() {
        static TABLE: Table<usize> = Table::new(1);
        let handles: Vec<_> = (0..1000).map(|number| TABLE.insert(number).unwrap()).collect();
        for (number, &handle) in handles.iter().enumerate() {
            assert_eq!(TABLE.exclusive(handle, |value| std::mem::replace(value, 0)), Ok(number));
        }
    }

    #[test]
    fn an_exclusive_object_is_used_by_one_at_a_time() {
        static TABLE: Table<u32> = Table::new(3);
        let handle = TABLE.insert(1).unwrap();
        let inner =
            TABLE.exclusive(handle, |_| (TABLE.exclusive(handle, |_| ()), TABLE.begin_close(handle).map(|_| ())));
        assert_eq!(inner, Ok((Err(Refused::Busy), Err(Refused::Busy))));
        assert_eq!(TABLE.exclusive(handle, |&mut value| value), Ok(1));
    }

    #[test]
    fn a_value_is_dropped_only_when_nobody_uses_it() {
        struct Watched(Arc<AtomicBool>);
        impl Drop for Watched {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        static TABLE: Table<Watched> = Table::new(1);
        in_call::prepare();
        for round in 0..50 {
            let dropped = Arc::new(AtomicBool::new(false));
            let handle = TABLE.insert(Watched(Arc::clone(&dropped))).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(move || {
                        let used = |value: &Watched| {
                            for _ in 0..1000 {
                                assert!(!value.0.load(Ordering::SeqCst), "used after it was dropped");
                                std::hint::spin_loop();
                            }
                        };
                        while TABLE.shared(handle, used).is_ok() {}
                        assert_eq!(TABLE.shared(handle, |_| ()), Err(Refused::Closed));
                    });
                }
                for _ in 0..round % 8 {
                    std::thread::yield_now();
                }
                drop(TABLE.begin_close(handle).unwrap().take_unused().unwrap());
            });
            assert!(dropped.load(Ordering::SeqCst));
        }
    }
}
