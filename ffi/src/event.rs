//! A descriptor that becomes readable when something is done: an `eventfd` on Linux, a pipe on other Unix systems.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Made when it is first asked for.
#[derive(Default)]
pub(crate) struct Event {
    ends: OnceLock<sys::Ends>,
    /// Whether it is readable, or about to be: most requests then need no system call.
    raised: AtomicBool,
}

impl Event {
    pub(crate) fn descriptor(&self) -> io::Result<i32> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends.readable());
        }
        // Of two threads that come here at once one keeps its own; the other's is closed.
        let made = sys::Ends::new()?;
        let ends = self.ends.get_or_init(|| made);
        Ok(ends.readable())
    }

    /// AcqRel: pairs with the swap in `clear`. What was done before the event was raised is seen by whoever clears it,
    /// whether this wrote to the descriptor or found it raised.
    pub(crate) fn raise(&self) {
        if let Some(ends) = self.ends.get() {
            if !self.raised.swap(true, Ordering::AcqRel) {
                ends.write();
            }
        }
    }

    /// The descriptor first: were the flag lowered before, an event raised in between would be taken off the descriptor
    /// with the flag still up, and no later one would ever be written.
    pub(crate) fn clear(&self) {
        if let Some(ends) = self.ends.get() {
            ends.drain();
            self.raised.swap(false, Ordering::AcqRel);
        }
    }
}

#[cfg(unix)]
mod sys {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    pub(super) struct Ends {
        read: OwnedFd,
        /// `None`: the same.
        write: Option<OwnedFd>,
    }

    impl Ends {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        pub(super) fn new() -> io::Result<Ends> {
            // SAFETY: the call takes two integers.
            let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: it was opened just now, and nobody else knows it.
            Ok(Ends { read: unsafe { OwnedFd::from_raw_fd(descriptor) }, write: None })
        }

        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        pub(super) fn new() -> io::Result<Ends> {
            let mut ends = [0; 2];
            // SAFETY: the pointer leads to two integers.
            if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: both were opened just now, and nobody else knows them.
            let [read, write] = ends.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
            for end in [&read, &write] {
                // SAFETY: the descriptor is open; the commands take an integer.
                let set = unsafe {
                    libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) >= 0
                        && libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) >= 0
                };
                if !set {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(Ends { read, write: Some(write) })
        }

        pub(super) fn readable(&self) -> RawFd {
            self.read.as_raw_fd()
        }

        /// Both ends are ours and open, so there is no broken pipe; a full one is readable, which is all that is wanted.
        pub(super) fn write(&self) {
            let one = 1_u64.to_ne_bytes();
            let end = self.write.as_ref().unwrap_or(&self.read);
            // SAFETY: the descriptor is open, and the pointer leads to that many bytes.
            unsafe { libc::write(end.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }

        /// Reads until there is nothing more.
        pub(super) fn drain(&self) {
            let mut bytes = [0_u8; 64];
            // SAFETY: the descriptor is open, and the pointer leads to that many bytes.
            while unsafe { libc::read(self.read.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
        }
    }
}

#[cfg(not(unix))]
mod sys {
    use std::io;

    pub(super) struct Ends(std::convert::Infallible);

    impl Ends {
        pub(super) fn new() -> io::Result<Ends> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn readable(&self) -> i32 {
            match self.0 {}
        }

        pub(super) fn write(&self) {
            match self.0 {}
        }

        pub(super) fn drain(&self) {
            match self.0 {}
        }
    }
}
