//! Which handle each thread is using right now, so that closing a log can wait for those that are inside a call.
//!
//! Each thread has a slot that only it writes: the handle it uses, or 0. An append pays two plain stores for it and no
//! shared counter. The argument that a log is not freed under a thread that uses it:
//!
//!     using thread                          closing thread
//!     1. slot = handle                      1. entry's state = CLOSING
//!     2. light fence                        2. heavy fence
//!     3. entry's state == OPEN?             3. slot == handle?
//!
//! If the heavy fence falls between the using thread's 1 and 3, or after, the closing thread sees the slot and waits; if
//! before, the using thread sees CLOSING. The heavy fence is `membarrier(2)`, which makes every running thread of the
//! process pass a full barrier, so the light one has to stop the compiler only. Where there is no such call, both are
//! ordinary full fences, and a call costs as much more. The same scheme is in liburcu and folly, under the names
//! "membarrier" and "asymmetric memory barrier".

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, compiler_fence, fence};
use std::thread;
use std::time::Duration;

/// How often a closing thread yields before it sleeps.
const YIELDS: u32 = 64;
const NAP: Duration = Duration::from_micros(100);

/// One thread's slot, on cache lines of its own. Never freed; a thread that ends leaves it to another.
#[repr(align(128))]
struct Slot {
    handle: AtomicUsize,
    taken: AtomicBool,
    /// Whether it goes back when the stay ends. Its owner's.
    borrowed: AtomicBool,
    next: *const Slot,
}

/// All slots, as a list that only grows. No lock: a forked child may come here.
static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// Whether the light fence must be a full one. Decided once, before the first handle is given out.
static FENCES: AtomicU8 = AtomicU8::new(UNDECIDED);
const UNDECIDED: u8 = 0;
const FULL: u8 = 1;
const LIGHT_AND_HEAVY: u8 = 2;

fn slots() -> impl Iterator<Item = &'static Slot> {
    // Acquire: pairs with the release in `acquire`; a slot is seen initialised.
    let mut next: *const Slot = SLOTS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or a slot of the list, which was leaked initialised.
        let slot = unsafe { next.as_ref() }?;
        next = slot.next;
        Some(slot)
    })
}

// SAFETY: `next` is written before the slot is shared and points to another slot; the rest are atomics.
unsafe impl Sync for Slot {}

impl Slot {
    /// A slot for this thread: one that another has left, or a new one.
    fn acquire() -> &'static Slot {
        let free = |slot: &&Slot| {
            // Acquire: pairs with the release in `release`.
            !slot.taken.load(Ordering::Relaxed) && !slot.taken.swap(true, Ordering::Acquire)
        };
        if let Some(slot) = slots().find(free) {
            return slot;
        }
        let mut first = SLOTS.load(Ordering::Acquire);
        let slot = Box::leak(Box::new(Slot {
            handle: AtomicUsize::new(0),
            taken: AtomicBool::new(true),
            borrowed: AtomicBool::new(false),
            next: first,
        }));
        loop {
            // Release: pairs with the acquire in `slots`.
            match SLOTS.compare_exchange(first, slot, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return slot,
                Err(newer) => {
                    slot.next = newer;
                    first = newer;
                }
            }
        }
    }

    fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

/// Leaves the slot to others when its thread ends.
struct Owner(&'static Slot);

impl Drop for Owner {
    fn drop(&mut self) {
        current::set(ptr::null());
        self.0.release();
    }
}

thread_local! {
    static OWNER: Owner = Owner(Slot::acquire());
}

/// The thread's slot, where the light fence is enough; null before its first call and while it ends. Not `OWNER` itself: a
/// variable without a destructor is read without a look at whether it was destroyed.
///
/// In a shared library the compiler reads a thread's variable through a function of the dynamic linker (`__tls_get_addr`):
/// with it an append takes a tenth longer (19 and 21.5 ns in `make bench-c`). Where the variable is known to be in the thread's
/// first block (the model "initial-exec"), two instructions do. All thread variables of the library lie there then, those of
/// Rust's standard library too: 208 bytes, of some 1,600 that glibc keeps there for all libraries that are loaded late. So no
/// variable may be long (`message.rs`); tests/c/check looks.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", target_env = "gnu"))]
mod current {
    use super::Slot;
    use std::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tbss.libwal_slot, \"awT\", @nobits",
        ".globl libwal_slot",
        ".hidden libwal_slot",
        ".type libwal_slot, @object",
        ".size libwal_slot, 8",
        ".p2align 3",
        "libwal_slot: .zero 8",
        ".popsection",
    );

    #[inline]
    pub(super) fn get() -> *const Slot {
        let slot;
        // SAFETY: reads the calling thread's variable, defined above.
        unsafe {
            asm!(
                "mov {slot}, qword ptr [rip + libwal_slot@GOTTPOFF]",
                "mov {slot}, qword ptr fs:[{slot}]",
                slot = out(reg) slot,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        slot
    }

    pub(super) fn set(slot: *const Slot) {
        // SAFETY: writes the calling thread's variable, defined above.
        unsafe {
            asm!(
                "mov {at}, qword ptr [rip + libwal_slot@GOTTPOFF]",
                "mov qword ptr fs:[{at}], {slot}",
                at = out(reg) _,
                slot = in(reg) slot,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", target_env = "gnu")))]
mod current {
    use super::Slot;
    use std::cell::Cell;

    thread_local! {
        static CURRENT: Cell<*const Slot> = const { Cell::new(std::ptr::null()) };
    }

    #[inline]
    pub(super) fn get() -> *const Slot {
        CURRENT.get()
    }

    pub(super) fn set(slot: *const Slot) {
        CURRENT.set(slot);
    }
}

/// A thread's stay inside a call.
pub(crate) struct InCall {
    slot: &'static Slot,
}

/// Says that this thread uses `handle` until the result is dropped. The entry's state must be looked at after this. No call
/// that uses a handle calls back into the program, so a thread is inside one at most.
#[inline]
pub(crate) fn enter(handle: usize) -> InCall {
    // SAFETY: null, or this thread's slot, which is never freed.
    let Some(slot) = (unsafe { current::get().as_ref() }) else { return enter_slowly(handle) };
    debug_assert_eq!(slot.handle.load(Ordering::Relaxed), 0);
    slot.handle.store(handle, Ordering::Relaxed);
    // The light fence; see the module.
    compiler_fence(Ordering::SeqCst);
    InCall { slot }
}

/// The first call of a thread, every call where the fence must be a full one, and those of a thread that is ending.
#[cold]
fn enter_slowly(handle: usize) -> InCall {
    let (slot, borrowed) = match OWNER.try_with(|owner| owner.0) {
        Ok(slot) => (slot, false),
        // The thread is ending, and its other destructors still use a log.
        Err(_) => (Slot::acquire(), true),
    };
    slot.borrowed.store(borrowed, Ordering::Relaxed);
    // Relaxed: whoever has a handle knows what was decided before it was made.
    if !borrowed && FENCES.load(Ordering::Relaxed) == LIGHT_AND_HEAVY {
        current::set(slot);
    }
    slot.handle.store(handle, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    InCall { slot }
}

impl Drop for InCall {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the acquire in `wait_until_unused`: what this thread did with the value comes before.
        self.slot.handle.store(0, Ordering::Release);
        if self.slot.borrowed.load(Ordering::Relaxed) {
            give_back(self.slot);
        }
    }
}

#[cold]
fn give_back(slot: &Slot) {
    slot.borrowed.store(false, Ordering::Relaxed);
    slot.release();
}

/// Waits until no thread's slot names `handle`, whose entry was moved to CLOSING before. `false` if it cannot be told.
pub(crate) fn wait_until_unused(handle: usize) -> bool {
    if !heavy_fence() {
        return false;
    }
    for slot in slots() {
        let mut looks = 0;
        // Acquire: pairs with the release when a stay ends.
        while slot.handle.load(Ordering::Acquire) == handle {
            looks += 1;
            if looks < YIELDS { thread::yield_now() } else { thread::sleep(NAP) }
        }
    }
    true
}

/// Decides on the fences. Called before a handle is made; each time, since a forked child has to register anew.
pub(crate) fn prepare() {
    let decision = if membarrier::register() { LIGHT_AND_HEAVY } else { FULL };
    // Relaxed: the handle that is given out next carries the news. If another thread decided otherwise, its word stands;
    // if that is for heavy fences and they fail, `heavy_fence` notices.
    let _ = FENCES.compare_exchange(UNDECIDED, decision, Ordering::Relaxed, Ordering::Relaxed);
}

fn heavy_fence() -> bool {
    fence(Ordering::SeqCst);
    FENCES.load(Ordering::Relaxed) != LIGHT_AND_HEAVY || membarrier::run()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod membarrier {
    /// Says that this process will use the barrier. `false` if the kernel (before 4.14), or a filter, does not let it.
    pub(super) fn register() -> bool {
        call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    /// A full barrier on every processor that runs a thread of this process.
    pub(super) fn run() -> bool {
        call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    fn call(command: libc::c_int) -> bool {
        // SAFETY: the call takes two integers more and touches no memory.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod membarrier {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn run() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The argument at the top as a race, run many times: never may both sides miss each other.
    #[test]
    fn a_thread_that_enters_sees_the_close_or_is_seen_by_it() {
        const ROUNDS: usize = 30_000;
        const HANDLE: usize = 1;
        prepare();
        let (round, closing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let met = |number| {
            round.fetch_add(1, Ordering::AcqRel);
            let mut looks = 0_u32;
            while round.load(Ordering::Acquire) < 2 * number {
                looks += 1;
                if looks % 1000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
            }
        };
        let seen: Vec<AtomicBool> = (0..=ROUNDS).map(|_| AtomicBool::new(false)).collect();
        let mut missed = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                for (number, seen) in seen.iter().enumerate().skip(1) {
                    met(number * 2 - 1);
                    let in_call = enter(HANDLE);
                    seen.store(closing.load(Ordering::Acquire) == number, Ordering::Relaxed);
                    met(number * 2);
                    drop(in_call);
                }
            });
            for (number, seen) in seen.iter().enumerate().skip(1) {
                met(number * 2 - 1);
                closing.store(number, Ordering::Release);
                missed += usize::from(!heavy_fence());
                let sees = slots().any(|slot| slot.handle.load(Ordering::Acquire) == HANDLE);
                met(number * 2);
                missed += usize::from(!sees && !seen.load(Ordering::Relaxed));
            }
        });
        assert_eq!(missed, 0, "both missed each other");
    }
}
