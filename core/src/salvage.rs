//! Reading around damage, and mending it.

use std::sync::Arc;

use crate::error::Result;
use crate::recovery::View;
use crate::storage::Storage;

pub(crate) fn view(storage: &Arc<dyn Storage>) -> Result<View> {
    View::open(storage)
}

