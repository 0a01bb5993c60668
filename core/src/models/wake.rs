//! Who sleeps until the ring has room is woken by the flush that makes it: with no clock, a wake-up that is lost is a
//! deadlock.

use super::{RING, check};
use crate::flush::Flush;
use crate::format::{Control, Kind, LogId};
use crate::primitive::{Arc, never_time_out, thread};
use crate::reserve::Reserve;
use crate::segment::{LOCK_NAME, Segments};
use crate::storage::{Memory, Mode, SimStorage, Storage};
use crate::watermark::Watermarks;

const RECORD: u64 = 32;

/// The stages from the ring to the disk, with one segment.
fn stages() -> Flush {
    let storage = SimStorage::new();
    storage.create_dir().expect("the disk works");
    let lock = storage.open(LOCK_NAME, Mode::CreateNew).expect("the disk works");
    let control = Control::first(LogId::from_bytes([1; 16]), 12, 0);
    let watermarks = Arc::new(Watermarks::at(0));
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let segments = Segments::new(storage, control, lock, Vec::new(), 0, Arc::clone(&watermarks), Arc::default());
    segments.prepare_to(RECORD).expect("the disk works");
    let memory = Memory::allocate(RING as usize).expect("there is memory");
    Flush::new(memory, 0, 0, Arc::new(segments), watermarks, Arc::default())
}

#[test]
fn a_thread_that_waits_for_room_is_woken() {
    check("waiting for room", 4, || {
        never_time_out();
        let flush = Arc::new(stages());
        let reserve = Reserve::new(0, 4000);
        while reserve.reserved() < RING {
            let mut claim = reserve.claim(RECORD).expect("there is space");
            flush.ring.write_record(&mut claim, flush.seal, Kind::Data, &[0; RECORD as usize - 8]);
            flush.publish.publish(claim);
        }
        let other = Arc::clone(&flush);
        let other = thread::spawn(move || other.wait_room(RING + RECORD));
        flush.flush_to(RECORD).expect("the disk works");
        other.join().expect("no panic").expect("the disk works");
    });
}
