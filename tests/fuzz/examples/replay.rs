//! Judges inputs of `decode` or `recover` without a fuzzer: `cargo run --release --example replay -- TARGET FILE...` says for
//! each one that fails what it does and why.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arbitrary::{Arbitrary, Unstructured};
use fuzzing::step::Case;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().expect("decode or recover");
    let mut failed = 0;
    for file in arguments {
        let bytes = std::fs::read(&file).expect("a file");
        let judged = catch_unwind(AssertUnwindSafe(|| match target.as_str() {
            "decode" => fuzzing::decoding::judge(&bytes),
            "recover" => fuzzing::judge::judge(&Case::arbitrary(&mut Unstructured::new(&bytes)).expect("a case")),
            other => panic!("{other} is no target that is replayed here"),
        }));
        if judged.is_err() {
            failed += 1;
            eprintln!("{file}: {:?}\n", Case::arbitrary(&mut Unstructured::new(&bytes)));
        }
    }
    assert!(failed == 0, "{failed} inputs fail");
}
