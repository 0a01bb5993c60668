//! The text of the calling thread's last failure.
//!
//! It is too long for a variable of the thread: `in_call.rs` wants its own in the thread's first block, so all variables of
//! the library lie there, where the C library keeps little room for what is loaded late. The variable is a pointer to a buffer,
//! which the thread's first failure allocates. A key of POSIX threads frees it: the destructors of keys come after those of
//! variables, and in rounds, so that this one can put itself off, for others that still ask for the text.
//!
//! - T1. A buffer belongs to the thread that made it, and to its copy in a forked child. Nobody else touches it. Each text
//!   in it ends in NUL.
//! - T2. From `make` until `end_round` frees it, `PLACE` has it, and so has the key, or the running `end_round`, which took
//!   it from the key. Afterwards nobody has.

use std::ffi::c_char;

/// The longest text with its final NUL; a longer one is cut at a character.
pub(crate) const LONGEST: usize = 1024;

/// Keeps `message` in place of the one before.
pub(crate) fn keep(message: &str) {
    let mut end = message.len().min(LONGEST - 1);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    // A NUL inside (a path cannot hold one, a panic's message can) would end it early, which harms nobody.
    buffer::write(&message.as_bytes()[..end]);
}

/// The text that was kept last. `None`: there was none, or no memory for it, or the thread is all but gone.
pub(crate) fn kept() -> Option<*const c_char> {
    buffer::text()
}

#[cfg(unix)]
mod buffer {
    use super::LONGEST;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::cell::Cell;
    use std::ffi::{c_char, c_void};
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// In which round of destructors a buffer is freed, counted from its first. POSIX has four or more. The last one is left for
    /// a buffer that was made during the first, by another destructor with the thread's first failure: its own count may begin a
    /// round late.
    const ROUNDS: u32 = 3;

    #[repr(C)]
    struct Buffer {
        text: [u8; LONGEST],
        /// How many rounds of destructors it has seen.
        rounds: u32,
    }

    #[derive(Clone, Copy)]
    enum Place {
        /// Not made yet.
        Nowhere,
        At(NonNull<Buffer>),
        /// Freed: the thread ends.
        Gone,
    }

    thread_local! {
        // Constant and without a destructor: it can be used to the very end of a thread, and costs nothing to begin.
        static PLACE: Cell<Place> = const { Cell::new(Place::Nowhere) };
    }

    /// The key's number plus one, or 0 before there is one. No lock: a forked child may come here.
    static KEY: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn write(text: &[u8]) {
        let made = match PLACE.get() {
            Place::At(buffer) => Some(buffer),
            Place::Nowhere => make(),
            Place::Gone => None,
        };
        let Some(buffer) = made else { return };
        let to = buffer.cast::<u8>().as_ptr();
        debug_assert!(text.len() < LONGEST);
        // SAFETY: the buffer begins with LONGEST bytes, and `text` with its NUL is no longer. T1: nobody else is at it; nor does
        // `text` lie in it, which was made by `remember` or `panicked` just now.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
            to.add(text.len()).write(0);
        }
    }

    pub(super) fn text() -> Option<*const c_char> {
        match PLACE.get() {
            Place::At(buffer) => Some(buffer.cast::<c_char>().as_ptr().cast_const()),
            Place::Nowhere | Place::Gone => None,
        }
    }

    /// A buffer for this thread, unless there is no memory, or no key left for one that frees it.
    fn make() -> Option<NonNull<Buffer>> {
        let key = key()?;
        // SAFETY: the layout is not empty. Zeros are a buffer: an empty text, and no round seen.
        let buffer = NonNull::new(unsafe { alloc_zeroed(Layout::new::<Buffer>()) }.cast::<Buffer>())?;
        if !set(key, buffer) {
            // SAFETY: allocated just now with this layout, and nobody has heard of it.
            unsafe { dealloc(buffer.as_ptr().cast(), Layout::new::<Buffer>()) };
            return None;
        }
        PLACE.set(Place::At(buffer));
        Some(buffer)
    }

    /// The process's key; made when it is first asked for.
    fn key() -> Option<libc::pthread_key_t> {
        let number = |known: usize| libc::pthread_key_t::try_from(known - 1).ok();
        // Acquire: pairs with the release below; what makes the key came before its number.
        let known = KEY.load(Ordering::Acquire);
        if known != 0 {
            return number(known);
        }
        let mut made = 0;
        // SAFETY: a place for the key; the destructor keeps to what POSIX asks of one, and stays loaded (`-z nodelete`).
        if unsafe { libc::pthread_key_create(&raw mut made, Some(end_round)) } != 0 {
            return None;
        }
        let numbered = usize::try_from(made).ok()? + 1;
        match KEY.compare_exchange(0, numbered, Ordering::Release, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(known) => {
                // SAFETY: made just now; no thread has a value for it.
                unsafe { libc::pthread_key_delete(made) };
                number(known)
            }
        }
    }

    /// Has the key's destructor called with `buffer` in the next round, or when the thread ends. `false`: no memory for that.
    fn set(key: libc::pthread_key_t, buffer: NonNull<Buffer>) -> bool {
        // SAFETY: `key()` made the key, and one that was in use is never deleted.
        unsafe { libc::pthread_setspecific(key, buffer.as_ptr().cast::<c_void>()) == 0 }
    }

    /// The key's destructor: called once in each round in which the key has a value, which was taken away before.
    unsafe extern "C" fn end_round(value: *mut c_void) {
        let Some(buffer) = NonNull::new(value.cast::<Buffer>()) else { return };
        // SAFETY: T2: what the key had was made by `make`, and is freed below only. T1: it is this thread's.
        let rounds = unsafe { &mut (*buffer.as_ptr()).rounds };
        *rounds += 1;
        if *rounds < ROUNDS && key().is_some_and(|key| set(key, buffer)) {
            return;
        }
        PLACE.set(Place::Gone);
        // SAFETY: T2: `make` allocated it with this layout, the key has it no longer, and since the line above nor has PLACE.
        unsafe { dealloc(value.cast(), Layout::new::<Buffer>()) };
    }
}

/// Where there are no such keys the text is a variable of the thread after all.
#[cfg(not(unix))]
mod buffer {
    use super::LONGEST;
    use std::cell::RefCell;
    use std::ffi::c_char;

    thread_local! {
        // Constant and without a destructor: it can be used to the very end of a thread, and costs nothing to begin.
        static TEXT: RefCell<[u8; LONGEST]> = const { RefCell::new([0; LONGEST]) };
    }

    pub(super) fn write(text: &[u8]) {
        TEXT.with_borrow_mut(|kept| {
            kept[..text.len()].copy_from_slice(text);
            kept[text.len()] = 0;
        });
    }

    pub(super) fn text() -> Option<*const c_char> {
        // The pointer outlives the borrow: the variable is the thread's, and is written only by its own failing calls.
        TEXT.with(|kept| kept.try_borrow().map_or(None, |kept| Some(kept.as_ptr().cast())))
    }
}
