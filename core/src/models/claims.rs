//! RESERVE by itself: additions that overrun the limit, while it is raised and while the stream is shut.

use super::check;
use crate::primitive::{Arc, thread};
use crate::reserve::{Refused, Reserve};

/// Claims until it has `wanted` or is refused for good; what it got, as pairs of a beginning and an end.
fn claim(reserve: &Reserve, size: u64, wanted: usize) -> Vec<(u64, u64)> {
    let mut claims = Vec::new();
    while claims.len() < wanted {
        match reserve.claim(size) {
            Ok(claim) => claims.push((claim.position(), claim.end())),
            Err(Refused::NeedSpace) => thread::yield_now(),
            Err(Refused::Shut) => return claims,
            Err(Refused::Full) => unreachable!("`claim` waits"),
        }
    }
    claims
}

fn assert_contiguous(mut claims: Vec<(u64, u64)>) -> u64 {
    claims.sort_unstable();
    claims.into_iter().fold(0, |end, (from, to)| {
        assert_eq!(from, end, "claims are disjoint and leave no gap");
        to
    })
}

#[test]
fn claims_are_contiguous_while_the_limit_rises() {
    check("claims and a rising limit", 2, || {
        let reserve = Arc::new(Reserve::new(0, 8));
        let others = [8, 16].map(|size| {
            let reserve = Arc::clone(&reserve);
            thread::spawn(move || claim(&reserve, size, 1))
        });
        reserve.raise(16, 0);
        assert!(reserve.reserved() <= 16, "nothing is claimed beyond the limit");
        reserve.raise(32, 0);
        let claims = others.into_iter().flat_map(|other| other.join().expect("no panic")).collect();
        assert_eq!(assert_contiguous(claims), reserve.reserved());
    });
}

#[test]
fn nothing_is_claimed_behind_where_the_stream_was_shut() {
    check("claims and a shut stream", 2, || {
        let reserve = Arc::new(Reserve::new(0, 16));
        let others = [8, 24].map(|size| {
            let reserve = Arc::clone(&reserve);
            thread::spawn(move || claim(&reserve, size, 2))
        });
        let end = reserve.shut();
        let claims = others.into_iter().flat_map(|other| other.join().expect("no panic")).collect();
        assert_eq!(assert_contiguous(claims), end);
        assert_eq!(reserve.reserved(), end);
    });
}
