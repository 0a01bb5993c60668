//! ROTATE: the end of a segment inside what several threads reserve.

use super::{Log, check, start};

/// Room for one more record in the first segment, and the next one not prepared.
const LAST: u64 = 4096 - 32 - 40;

#[test]
fn the_stream_crosses_into_a_segment_that_is_prepared_on_the_way() {
    check("the end of a segment", 1, || {
        let log = Log::quiet(LAST);
        let other = start(&log, |log| log.append(1, 0).map(drop));
        log.append(0, 0).expect("there is space");
        log.append_and_sync(0, 1).expect("the disk works");
        other.join().expect("no panic").expect("there is space");
        log.check_live();
        log.check_crashes();
    });
}
