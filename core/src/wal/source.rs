//! A log that this process writes, as its readers see it.

use super::writer::Writer;
use crate::error::Result;
use crate::primitive::Arc;
use crate::reader::{Input, Source};

impl Source for Writer {
    fn input(&self) -> Input {
        Input::new(Arc::clone(self.segments.storage()), self.segments.id, self.segments.shift)
    }

    fn head_index(&self) -> Result<u64> {
        Ok(self.segments.head())
    }

    fn checkpoint(&self) -> Result<Option<u64>> {
        Ok(self.segments.checkpoint())
    }

    fn failure(&self) -> Result<()> {
        self.flush.poison.check()
    }

    fn ended(&self) -> bool {
        // A close sets the first and then does the second, which a failure does too, of a log that is still open.
        self.is_closed() && self.reserve.is_shut()
    }

    fn end(&self) -> Result<(u64, u32)> {
        // A poisoned log can still be read as far as it was flushed.
        if self.flush.poison.check().is_ok() {
            self.flush.flush_to(self.reserve.reserved())?;
        }
        Ok((self.flush.watermarks.flushed.load(), self.flush.seal.epoch()))
    }
}
