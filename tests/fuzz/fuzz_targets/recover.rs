//! A log whose files were tampered with, on a simulated disk: opened, read, verified, salvaged, mended, appended to.
#![no_main]

use fuzzing::judge::judge;
use fuzzing::step::Case;

libfuzzer_sys::fuzz_target!(|case: Case| judge(&case));
