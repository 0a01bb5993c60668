//! smoke
use libwal::*;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let open = || Options::new().segment_size(1 << 16).buffer_size(1 << 14).open(&path).unwrap();
    let mut all = Vec::new();
    for round in 0..5u32 {
        let log = open();
        for n in 0..500u32 {
            let data = vec![(n + round) as u8; (n as usize * 37) % 3000];
            all.push((log.append(&data).unwrap(), data));
            if n % 50 == 0 { log.sync().unwrap(); }
        }
        let big = vec![round as u8; 300_000];
        all.push((log.append(&big).unwrap(), big));
        let b: Vec<_> = (0..5u8).map(|n| vec![n; 100]).collect();
        all.extend(log.append_batch(&b).unwrap().into_iter().zip(b));
        let got: Vec<_> = log.iter().unwrap().map(|r| { let r = r.unwrap(); (r.lsn, r.data) }).collect();
        assert!(got == all, "{} {}", got.len(), all.len());
        if round % 2 == 0 { log.close().unwrap() } else { std::mem::forget(log); std::process::Command::new("true").status().unwrap();
            // same-process second open is Locked: use a copy
            let copy = dir.path().join(format!("copy{round}"));
            std::fs::create_dir(&copy).unwrap();
            for e in std::fs::read_dir(&path).unwrap() { let e = e.unwrap(); std::fs::copy(e.path(), copy.join(e.file_name())).unwrap(); }
            let log = Options::new().segment_size(1 << 16).open(&copy).unwrap();
            let got: Vec<_> = log.iter().unwrap().map(|r| { let r = r.unwrap(); (r.lsn, r.data) }).collect();
            assert!(got == all, "copy {} {}", got.len(), all.len());
            println!("{:?}", log.stats().unwrap());
            break;
        }
    }
}
