//! How the values of options are written: sizes, times and policies.

use std::time::Duration;

use libwal::Lsn;

/// When `append` syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncWhen {
    /// After each record, or each batch.
    Each,
    /// Once, behind the last record.
    End,
    /// In the background, whenever this much time has passed.
    Every(Duration),
}

/// A number of bytes, perhaps with a binary suffix: `4096`, `4K`, `64MiB`, `1g`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("a size is a whole number with K, M, G or T behind it (1024 each) or nothing".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a size begins with a whole number below 2^64".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| "the size is above 2^64 bytes".into())
}

/// `each`, `end` or a number of milliseconds.
pub(crate) fn sync(text: &str) -> Result<SyncWhen, String> {
    match text {
        "each" => Ok(SyncWhen::Each),
        "end" => Ok(SyncWhen::End),
        _ => match text.strip_suffix("ms").unwrap_or(text).parse() {
            Ok(0) => Err("the time between syncs is at least 1 ms".into()),
            Ok(millis) => Ok(SyncWhen::Every(Duration::from_millis(millis))),
            Err(_) => Err("this is \"each\", \"end\" or a number of milliseconds".into()),
        },
    }
}

/// A position in the log.
pub(crate) fn lsn(text: &str) -> Result<Lsn, String> {
    match text.parse().map(Lsn::new) {
        Ok(lsn) if lsn <= Lsn::MAX => Ok(lsn),
        _ => Err(format!("an LSN is a whole number up to {}", Lsn::MAX)),
    }
}

/// A number of seconds, perhaps with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "this is a number of seconds, such as 10 or 0.5".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("4k", 4096),
            ("64M", 64 << 20),
            ("1GiB", 1 << 30),
            ("1t", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "4KB", "1.5M", "4 K", "18446744073709551616", "16777216T", "4ü"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_policies() {
        assert_eq!(sync("each"), Ok(SyncWhen::Each));
        assert_eq!(sync("end"), Ok(SyncWhen::End));
        assert_eq!(sync("20"), Ok(SyncWhen::Every(Duration::from_millis(20))));
        assert_eq!(sync("20ms"), Ok(SyncWhen::Every(Duration::from_millis(20))));
        assert!(["", "0", "-1", "never", "ms"].iter().all(|text| sync(text).is_err()));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["", "-1", "nan", "inf", "1e300", "x"].iter().all(|text| seconds(text).is_err()));
        let beyond = (Lsn::MAX.get() + 1).to_string();
        assert!(lsn(&Lsn::MAX.to_string()).is_ok() && lsn(&beyond).is_err() && lsn("x").is_err());
    }
}
