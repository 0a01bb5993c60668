//! `docs/benchmarks.md` and its plots, from the results.

use std::fmt::Write;
use std::path::Path;

use crate::goals::{bytes, goals, threaded};
use crate::job::{Outcome, TAILS_RATE};
use crate::limits;
use crate::peers::{ALL, Result};
use crate::plan::{APPENDERS, COMMITTERS, REPLAYED, SIZES, TASKS, Workload};
use crate::plot::{self, Line};
use crate::results::{Measured, Results};

pub(crate) fn write(results: &Results, docs: &Path) -> Result<()> {
    let plots = docs.join("benchmarks");
    std::fs::create_dir_all(&plots)?;
    let mut page = introduction(results);
    page += &goal_table(results);
    page += &peers();
    let had = |workload| results.of(workload).next().is_some();
    if had(Workload::Append) {
        page += &appends(results, &plots)?;
    }
    if had(Workload::Commit) {
        page += &commits(results, &plots)?;
        page += &costs(results);
    }
    if had(Workload::Replay) {
        page += &replays(results);
    }
    if had(Workload::OpenClean) || had(Workload::OpenKilled) {
        page += &opens(results);
    }
    if had(Workload::Tails) {
        page += &tails(results, &plots)?;
    }
    page += &missing(results);
    std::fs::write(docs.join("benchmarks.md"), page)?;
    Ok(())
}

fn introduction(results: &Results) -> String {
    let machine = &results.machine;
    let versions = results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>();
    let repetitions = |found: &Measured| found.outcomes.len();
    let fewest = results.measured.iter().filter(|found| found.failure.is_none()).map(repetitions).min().unwrap_or(0);
    let most = results.measured.iter().map(repetitions).max().unwrap_or(0);
    let mut page =
        "# Side by side\n\nMeasured anew by `make bench-peers`, which takes about twenty minutes and writes this page"
            .to_owned();
    page +=
        ", its plots, and every\nsingle figure to `target/bench-peers.json`. `make bench-peers BENCH=--quick` takes ";
    page +=
        "about 90 seconds; `BENCH=\"--only commit\"` measures\none part; `BENCH=--instructions` counts instructions. ";
    page += "Do it on a quiet machine: take the ratios from here, and absolute\nfigures from your own.\n\n";
    if results.quick {
        page += "**This run was a quick one: one short repetition of each figure. It proves nothing.**\n\n";
    }
    let _ = write!(
        page,
        "Figures are medians of {fewest} to {most} repetitions, with the least and the greatest in brackets. All systems take turns \
         within each\nrepetition. Each measurement is a process of its own, on a new log unless it says otherwise, after a few \
         calls to warm up;\nall write the same bytes to the same file system. Ratios are medians of the ratios of single \
         repetitions.\n\n"
    );
    let _ = writeln!(
        page,
        "- {}, {} cores, {:.0} GiB; Linux {}; {}; a write of 4 KiB with `fdatasync` into written blocks takes {:.0} us.\n\
         - Load when the run began: {} (above 0.3, other work ran beside, and the figures are only good for ratios). Rust {}.\n\
         - {}.\n",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.sync_micros,
        machine.load,
        machine.rust,
        versions.join(", "),
    );
    page
}

fn goal_table(results: &Results) -> String {
    let mut page =
        "## Goals\n\nlibwal's rate divided by the other's; for an open, 2 ms divided by its time.\n\n".to_owned();
    page += "| | against | ratio | at least | |\n|---|---|---|---|---|\n";
    for goal in goals(results) {
        let mark = if goal.reached() { "reached" } else { "**missed**" };
        let _ = writeln!(page, "| {} | {} | {:.2} | {:.2} | {mark} |", goal.name, goal.against, goal.ratio, goal.least);
    }
    page + "\n"
}

fn peers() -> String {
    let mut page = "## What each promises\n\nFigures of different promises are not comparable as such.\n\n".to_owned();
    page += "| | when `append` returns the record is | durable by | a replay checks |\n|---|---|---|---|\n";
    for peer in ALL {
        let commit = peer.commit.unwrap_or_else(|reason| reason);
        let _ = writeln!(page, "| {} | {} | {commit} | {} |", peer.name, peer.append, peer.checks.unwrap_or("nothing"));
    }
    page + "\n"
}

/// The value of a cell: the median and its spread, or a dash that `missing` explains.
fn cell(found: Option<&Measured>, scale: f64, of: impl Fn(&Outcome) -> f64) -> String {
    match found.and_then(|found| found.spread(of)) {
        Some([median, least, most]) => {
            let show = |value: f64| significant(value / scale);
            format!("{} ({}-{})", show(median), show(least), show(most))
        }
        None => "-".to_owned(),
    }
}

/// Three significant digits.
fn significant(value: f64) -> String {
    let digits = if value > 0.0 { (2 - value.log10().floor() as i32).clamp(0, 6) } else { 0 };
    format!("{value:.*}", digits as usize)
}

fn systems(results: &Results, workload: Workload) -> Vec<&'static str> {
    let names = ALL.iter().map(|peer| peer.name).chain(limits::ALL);
    names.filter(|name| results.of(workload).any(|found| found.system == *name)).collect()
}

fn count(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M/s", significant(value / 1e6)),
        value if value >= 1e3 => format!("{} k/s", significant(value / 1e3)),
        value => format!("{}/s", significant(value)),
    }
}

fn nanos(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} ms", significant(value / 1e6)),
        value if value >= 1e3 => format!("{} us", significant(value / 1e3)),
        value => format!("{value:.0} ns"),
    }
}

fn head(columns: &[String]) -> String {
    format!("| | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn appends(results: &Results, plots: &Path) -> Result<String> {
    let mut page = "## Append, no sync\n\nThousands of records a second. A burst of at most 112 MiB or 0.4 s into a new log. libwal's \
                    disk space was prepared before\n(which is what it does in the background while it runs); the others \
                    have no such step or do it within.\n\n"
        .to_owned();
    let names = systems(results, Workload::Append);
    let columns = APPENDERS.map(threaded);
    for len in SIZES {
        let _ = write!(page, "### {}\n\n{}", bytes(len), head(&columns));
        let mut lines = Vec::new();
        for &system in &names {
            let found = APPENDERS.map(|threads| results.find(Workload::Append, len, threads, system));
            let cells = found.map(|found| cell(found, 1e3, Outcome::rate));
            let _ = writeln!(page, "| {system} | {} |", cells.join(" | "));
            let values = found.map(|found| found.and_then(|found| found.median(Outcome::rate)));
            lines.push(Line { name: system.to_owned(), values: values.to_vec() });
        }
        let name = format!("append-{len}.svg");
        let title = format!("Append {}, no sync: records a second", bytes(len));
        std::fs::write(plots.join(&name), plot::lines(&title, &columns, &lines, count))?;
        let _ = write!(page, "\n![{title}](benchmarks/{name})\n\n");
    }
    Ok(page)
}

fn commits(results: &Results, plots: &Path) -> Result<String> {
    let mut page = "## Commit: append 100 B, durable on return\n\nThousands a second".to_owned();
    page += "; then the median and the 99th percentile of one commit, and records for each sync of any file.\n";
    page += "1,000 tasks: commits under way that block no thread (libwal `append_async`, WriteAhead futures); for logs without\n";
    page += "such a call 1,000 threads stand in.\n\n";
    let names = systems(results, Workload::Commit);
    let all: Vec<usize> = COMMITTERS.into_iter().chain([TASKS]).collect();
    let columns: Vec<String> =
        all.iter().map(|&number| if number == TASKS { "1,000 tasks".to_owned() } else { threaded(number) }).collect();
    let table = |page: &mut String, show: &dyn Fn(&Measured) -> Option<String>| {
        *page += &head(&columns);
        for &system in &names {
            let found = |threads: &usize| results.find(Workload::Commit, 100, *threads, system);
            let text = |found: Option<&Measured>| found.and_then(show).unwrap_or("-".to_owned());
            let cells: Vec<String> = all.iter().map(found).map(text).collect();
            let _ = writeln!(page, "| {system} | {} |", cells.join(" | "));
        }
        *page += "\n";
    };
    table(&mut page, &|found| found.spread(Outcome::rate).map(|_| cell(Some(found), 1e3, Outcome::rate)));
    let latency = |found: &Measured| {
        let all = found.latencies();
        (all.count() > 0).then(|| format!("{} / {}", nanos(all.quantile(0.5) as f64), nanos(all.quantile(0.99) as f64)))
    };
    table(&mut page, &latency);
    let synced = |found: &Measured| {
        let ratio = found.median(|outcome| outcome.records as f64 / outcome.syncs as f64)?;
        ratio.is_finite().then(|| significant(ratio))
    };
    table(&mut page, &synced);
    let line = |system: &&'static str| {
        let value = |threads: &usize| results.find(Workload::Commit, 100, *threads, system)?.median(Outcome::rate);
        Line { name: (*system).to_owned(), values: all.iter().map(value).collect() }
    };
    let lines: Vec<Line> = names.iter().map(line).collect();
    let title = "Commit 100 B: durable records a second";
    std::fs::write(plots.join("commit.svg"), plot::lines(title, &columns, &lines, count))?;
    let _ = write!(page, "![{title}](benchmarks/commit.svg)\n\n");
    Ok(page)
}

fn costs(results: &Results) -> String {
    let mut page = "### What a commit costs\n\nProcessor time of all threads for each commit; bytes sent to the disk for each \
                    byte of payload, until the log is closed; the\nmost memory resident at once, the program's own 5 MiB or so \
                    included.\n\n"
        .to_owned();
    page += "| | us of processor, 8 threads | 128 threads | bytes to disk, 8 threads | 128 threads | memory, 8 threads | 128 threads |\n";
    page += "|---|---|---|---|---|---|---|\n";
    for peer in ALL.iter().filter(|peer| peer.commit.is_ok()) {
        let found = [8, 128].map(|threads| results.find(Workload::Commit, 100, threads, peer.name));
        let median = |of: fn(&Outcome) -> f64| {
            found.map(|found| found.and_then(|found| found.median(of)).map_or("-".to_owned(), significant)).join(" | ")
        };
        let cpu = median(|outcome| outcome.cpu_seconds * 1e6 / outcome.records as f64);
        let disk = median(|outcome| outcome.written as f64 / (outcome.records * 100) as f64);
        let memory = median(|outcome| outcome.peak_memory_kib as f64 / 1024.0);
        let _ = writeln!(page, "| {} | {cpu} | {disk} | {memory} |", peer.name);
    }
    page + "\n"
}

fn replays(results: &Results) -> String {
    let mut page = "## Replay\n\nThousands of records a second out of the page cache, from a log of 160 MiB (a quick run: 32) that was closed. \
                    okaywal reads while it opens;\nfor the others the open is not in the figure. nano-wal cannot find its \
                    records: it is told where they are.\n\n"
        .to_owned();
    page += &head(&REPLAYED.map(bytes));
    for system in systems(results, Workload::Replay) {
        let cells = REPLAYED.map(|len| cell(results.find(Workload::Replay, len, 1, system), 1e3, Outcome::rate));
        let _ = writeln!(page, "| {system} | {} |", cells.join(" | "));
    }
    page + "\n"
}

fn opens(results: &Results) -> String {
    let mut lens: Vec<u64> = results.of(Workload::OpenClean).map(|found| found.len).collect();
    lens.sort_unstable();
    lens.dedup();
    let killed = results.of(Workload::OpenKilled).map(|found| found.len).next().unwrap_or(0);
    let mut page = "## Open\n\nMilliseconds. After a clean close; and after SIGKILL, with a quarter as much appended since the last sync \
                    and handed to\nthe operating system (WriteAhead and okaywal have it on the disk already).\n\n"
        .to_owned();
    let mut columns: Vec<String> = lens.iter().map(|&len| format!("closed, {}", bytes(len))).collect();
    columns.push(format!("killed, {} synced", bytes(killed)));
    page += &head(&columns);
    for peer in ALL {
        let cells = lens.iter().map(|&len| results.find(Workload::OpenClean, len, 1, peer.name));
        let cells = cells.chain([results.find(Workload::OpenKilled, killed, 1, peer.name)]);
        let cells: Vec<String> = cells.map(|found| cell(found, 1e-3, |outcome| outcome.open_seconds)).collect();
        let _ = writeln!(page, "| {} | {} |", peer.name, cells.join(" | "));
    }
    page + "\n"
}

fn tails(results: &Results, plots: &Path) -> Result<String> {
    const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];
    let mut page = format!(
        "## Pauses\n\nOne thread appends {TAILS_RATE} records of 100 B a second while segments rotate and are dropped and another \
         thread syncs every\n20 ms. The time from when an append was due until it returned, so a pause is told by every append \
         that it delayed.\n\n"
    );
    let columns: Vec<String> = ["p50", "p90", "p99", "p99.9", "p99.99", "max"].into_iter().map(str::to_owned).collect();
    let wide: Vec<String> = columns.iter().cloned().chain(["rate kept".to_owned(), "meanwhile".to_owned()]).collect();
    page += &head(&wide);
    let mut lines = Vec::new();
    for peer in ALL {
        let Some(found) = results.find(Workload::Tails, 100, 1, peer.name) else { continue };
        let all = found.latencies();
        let values = QUANTILES.iter().map(|&quantile| all.quantile(quantile)).chain([all.max()]);
        let values: Vec<Option<f64>> = values.map(|value| (all.count() > 0).then_some(value as f64)).collect();
        let cells: Vec<String> = values.iter().map(|value| value.map_or("-".to_owned(), nanos)).collect();
        let kept = found.median(|outcome| outcome.rate() / TAILS_RATE as f64);
        let kept = kept.map_or("-".to_owned(), |kept| format!("{:.0} %", 100.0 * kept));
        let _ = writeln!(page, "| {} | {} | {kept} | {} |", peer.name, cells.join(" | "), peer.tails);
        lines.push(Line { name: peer.name.to_owned(), values });
    }
    let title = "An append while the log rotates and syncs: latency by percentile";
    std::fs::write(plots.join("pauses.svg"), plot::lines(title, &columns, &lines, nanos))?;
    let _ = write!(page, "\n![{title}](benchmarks/pauses.svg)\n\n");
    Ok(page)
}

/// Whatever is not in the tables, and why.
fn missing(results: &Results) -> String {
    let mut page = "## What is missing, and why\n\n".to_owned();
    let failed = results.measured.iter().filter_map(|found| Some((found, found.failure.as_ref()?)));
    let mut any = false;
    for (Measured { workload, len, threads, system, .. }, failure) in failed {
        let _ = writeln!(page, "- {workload:?} {}, {threads}: {system}: {failure}.", bytes(*len));
        any = true;
    }
    if any { page } else { page + "Nothing.\n" }
}
