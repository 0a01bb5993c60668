"""The four ratios that the Python interface is held to, measured side by side in one run.

    python bench.py            # prints them
    python bench.py --check    # and fails if one is missed
    python bench.py --quick    # a short run that only shows that it runs

Each pair is measured in turns, many times, and the median of each side counts, so that a machine that is busy with other
things slows both. The figures still want a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import wal

RECORD = b"x" * 100


def in_turns(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """The median of what each side measures."""
    seen: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, measured in zip(sides, seen):
            measured.append(side())
    return [statistics.median(measured) for measured in seen]


def call_cost(path: Path, quick: bool) -> float:
    """An append beside a method of the same object that takes the same bytes and does nothing: one as pyo3 makes them, of
    which a third is spent on what `append` goes without (src/append.rs)."""
    count = 2000

    with wal.open(path) as log:

        def append() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                log.append(RECORD)
            took = time.perf_counter() - begun
            log.flush()  # room for the next round: this is about the call, not about the disk
            return took / count

        def nothing() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                log._noop(RECORD)
            return (time.perf_counter() - begun) / count

        for _ in range(10):
            append(), nothing()
        appended, called = in_turns(20 if quick else 2000, append, nothing)
    print(f"append {appended * 1e9:.0f} ns, a call that does nothing {called * 1e9:.0f} ns")
    return appended / called


def file_write(path: Path, quick: bool) -> float:
    """A write and a flush of an unbuffered file for each record, beside an append."""
    count = 2000
    with wal.open(path / "log") as log, open(path / "file", "wb", buffering=0) as file:

        def append() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                log.append(RECORD)
            took = time.perf_counter() - begun
            log.flush()
            return took / count

        def write() -> float:
            begun = time.perf_counter()
            for _ in range(count):
                file.write(RECORD)
                file.flush()
            return (time.perf_counter() - begun) / count

        appended, written = in_turns(10 if quick else 200, append, write)
    print(f"append {appended * 1e9:.0f} ns, file.write and flush {written * 1e9:.0f} ns")
    return written / appended


def threads_commit(path: Path, quick: bool) -> float:
    """Durable commits of four threads beside one thread's, each for the same time."""
    seconds = 0.1 if quick else 0.5
    with wal.open(path) as log:
        for _ in range(50):
            log.append_and_sync(RECORD)

        def rate(threads: int) -> float:
            until = time.perf_counter() + seconds
            done = [0] * threads

            def work(nth: int) -> None:
                while time.perf_counter() < until:
                    log.append_and_sync(RECORD)
                    done[nth] += 1

            workers = [threading.Thread(target=work, args=(nth,)) for nth in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return sum(done) / seconds

        one, four = in_turns(2 if quick else 9, lambda: rate(1), lambda: rate(4))
    print(f"durable commits a second: one thread {one:.0f}, four threads {four:.0f}")
    return four / one


def asyncio_commits(path: Path, _quick: bool) -> float:
    """Commits for each sync, of a thousand at the same time."""

    async def main() -> int:
        with wal.open(path) as log:
            await log.commit(RECORD)
            before = log.stats().syncs
            await asyncio.gather(*(log.commit(RECORD) for _ in range(1000)))
            return log.stats().syncs - before

    syncs = asyncio.run(main())
    print(f"1000 concurrent asyncio commits: {syncs} syncs")
    return 1000 / syncs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a ratio is missed")
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    arguments = parser.parse_args()
    missed = 0
    ratios: list[tuple[str, Callable[[Path, bool], float], float, str]] = [
        ("append / pyo3 call that does nothing", call_cost, 1.5, "at most"),
        ("file.write + flush / append", file_write, 10, "at least"),
        ("commits of 4 threads / 1 thread", threads_commit, 2.5, "at least"),
        ("asyncio commits / syncs", asyncio_commits, 20, "at least"),
    ]
    with tempfile.TemporaryDirectory(dir=os.environ.get("LIBWAL_BENCH_DIR")) as directory:
        for nth, (name, measure, bound, direction) in enumerate(ratios):
            path = Path(directory) / str(nth)
            path.mkdir()
            ratio = measure(path, arguments.quick)
            kept = ratio <= bound if direction == "at most" else ratio >= bound
            missed += not kept
            print(f"  {name}: {ratio:.2f} ({direction} {bound}{'' if kept else ', MISSED'})")
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
