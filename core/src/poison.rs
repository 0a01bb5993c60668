//! The first failure of a write or a sync, latched: after it nothing may appear to work.

use crate::error::{Error, Result};
use crate::primitive::{Arc, OnceLock};
use crate::reserve::Reserve;

/// Empty until the first failure.
#[derive(Default)]
pub(crate) struct Poison {
    first: OnceLock<Arc<Error>>,
    reserve: OnceLock<Arc<Reserve>>,
}

impl Poison {
    /// Names the reservation that a failure shuts: appends then fail without looking here on their fast path.
    pub(crate) fn shuts(&self, reserve: Arc<Reserve>) {
        if self.reserve.set(reserve).is_err() {
            unreachable!("a log has one reservation");
        }
    }

    /// Latches `error`, unless an earlier one is there already, and returns what every later call will return.
    pub(crate) fn set(&self, error: Error) -> Error {
        let cause = self.first.get_or_init(|| Arc::new(error));
        if let Some(reserve) = self.reserve.get() {
            reserve.shut();
        }
        Error::Poisoned { cause: Arc::clone(cause) }
    }

    /// Fails if a failure was latched.
    pub(crate) fn check(&self) -> Result<()> {
        match self.first.get() {
            None => Ok(()),
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays() {
        let poison = Poison::default();
        assert!(poison.check().is_ok());
        poison.set(Error::io("sync", "a", std::io::Error::from_raw_os_error(5)));
        poison.set(Error::io("sync", "b", std::io::Error::from_raw_os_error(28)));
        assert_eq!(poison.check().unwrap_err().errno(), Some(5));
    }
}
