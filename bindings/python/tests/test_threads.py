"""Threads: nothing that waits holds the interpreter, and appends from many threads are one ordered stream."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wal


def together(count: int, work: Callable[[int], object]) -> None:
    failures: list[BaseException] = []

    def one(nth: int) -> None:
        try:
            work(nth)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(nth,)) for nth in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_many_threads_make_one_stream(path: Path) -> None:
    given: dict[int, list[int]] = {}
    with wal.open(path, segment_size=1 << 16, buffer_size=1 << 14) as log:

        def work(nth: int) -> None:
            lsns = []
            for n in range(500):
                data = b"%d %d " % (nth, n) + b"." * (n * 7 % 900)
                match_ = n % 10
                if match_ == 0:
                    lsns.append(log.append_and_sync(data))
                elif match_ == 1:
                    lsns.extend(log.append_many([data], atomic=False))
                elif match_ == 2:
                    lsns.append(log.append(bytearray(data)))
                else:
                    lsns.append(log.append(data))
            given[nth] = lsns

        together(6, work)
        found = list(log)
    assert sorted(lsn for lsns in given.values() for lsn in lsns) == [lsn for lsn, _ in found]
    for nth, lsns in given.items():
        assert lsns == sorted(lsns)
        mine = [data for _, data in found if data.split(b" ", 1)[0] == b"%d" % nth]
        assert [int(data.split(b" ", 2)[1]) for data in mine] == list(range(500)), "a thread's order is kept"


def test_threads_that_commit_share_syncs(path: Path) -> None:
    with wal.open(path, segment_size=1 << 20) as log:
        together(8, lambda _: [log.append_and_sync(b"x") for _ in range(100)])
        stats = log.stats()
    assert stats.syncs < 600, f"{stats.syncs} syncs for 800 commits"


def ticks_during(call: Callable[[], object]) -> tuple[int, float]:
    """How often another thread ran while the call was made, and how long the call took."""
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begun = time.monotonic()
    call()
    took = time.monotonic() - begun
    seen = ticks
    stop.set()
    ticker.join()
    return seen, took


def test_nothing_that_waits_holds_the_interpreter(path: Path) -> None:
    log = wal.open(path, segment_size=1 << 22, buffer_size=1 << 16)
    big = os.urandom(60 << 20)
    lsn = log.append(b"x")
    calls: dict[str, Callable[[], object]] = {
        "wait_durable": lambda: log.wait_durable(lsn, 0.3),
        "follow": lambda: list(log.follow(log.tail, timeout=0.3)),
        "append": lambda: log.append(big),
        "append_many": lambda: log.append_many([big[: 1 << 20]] * 30),
        "append_and_sync": lambda: log.append_and_sync(big),
        "read": lambda: wal.verify(path),
        "close": lambda: log.close(),
        "open": lambda: wal.open(path, segment_size=1 << 20).close(),
    }
    for name, call in calls.items():
        if name == "close":
            log.append(big)
        ticks, took = ticks_during(call)
        # Held throughout, the interpreter would have let the other thread run once or twice at the most.
        if took > 0.05:
            assert ticks > 5, f"{name} took {took:.3f} s, in which another thread ran {ticks} times"


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_interrupts_a_wait(log: wal.Log) -> None:
    # A process in the background of a shell is born with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_each_wait(log)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_each_wait(log: wal.Log) -> None:
    lsn = log.append(b"x")
    reader = log.follow(log.tail)
    waits: list[Callable[[], object]] = [
        lambda: log.wait_durable(lsn),
        lambda: log.wait_durable(lsn, 30),
        lambda: next(reader),
        lambda: reader.read_batch(),
        lambda: next(reader.records()),
    ]
    for wait in waits:
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert time.monotonic() - begun < 10
        timer.join()
    log.append(b"y")
    assert next(reader)[1] == b"y", "the reader is as good as before"


def test_every_close_returns_when_the_log_is_closed(path: Path) -> None:
    log = wal.open(path, segment_size=1 << 22)
    log.append_many([b"x" * (1 << 20)] * 100, atomic=False)

    def work(_nth: int) -> None:
        log.close()
        with wal.open(path, read_only=True) as other:
            assert other.stats().closed_cleanly

    together(4, work)


def test_closing_under_appending_threads(path: Path) -> None:
    log = wal.open(path, segment_size=1 << 16, buffer_size=1 << 14)
    appended: list[int] = []

    def work(nth: int) -> None:
        if nth == 0:
            time.sleep(0.2)
            log.close()
            return
        try:
            while True:
                appended.append(log.append(b"x" * 50))
        except wal.ClosedError:
            pass

    together(4, work)
    with wal.open(path, segment_size=1 << 20) as log:
        assert [lsn for lsn, _ in log] == sorted(appended), "what was accepted is durable after a close"
