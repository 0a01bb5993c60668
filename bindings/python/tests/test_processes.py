"""Other processes: forks, readers beside a writer, and what an interpreter's end leaves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import python

import wal

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


def in_child(child: Callable[[], object]) -> str:
    """What `child` returns in a forked child, or what it raises, as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            text = repr(child())
        except BaseException as error:
            text = type(error).__name__
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@forks
def test_the_child_s_use_raises_and_the_parent_is_unharmed(path: Path) -> None:
    log = wal.open(path, segment_size=1 << 20)
    log.append_many(b"%d" % n for n in range(10))
    reader, fresh, batches = log.read_from(), log.read_from(), log.read_from().batches(2)
    next(reader)  # the rest is read ahead, and not the child's either
    next(batches)
    uses: list[Callable[[], object]] = [
        lambda: log.append(b"x"),
        lambda: log.append(bytearray(b"x")),
        lambda: log.try_append(b"x"),
        lambda: log.append_many([b"x"]),
        lambda: log.append_and_sync(b"x"),
        lambda: log.flush(),
        lambda: log.sync(),
        lambda: log.sync_to(0),
        lambda: log.wait_durable(0),
        lambda: log.checkpoint(b"x"),
        lambda: log.truncate_before(0),
        lambda: log.read(0),
        lambda: log.head,
        lambda: log.tail,
        lambda: log.durable_lsn,
        lambda: log.last_checkpoint,
        lambda: log.damage,
        lambda: log.stats(),
        lambda: log.close(),
        lambda: list(log),
        lambda: next(reader),
        lambda: next(fresh),
        lambda: next(batches),
        lambda: reader.read_batch(),
        lambda: next(reader.records()),
        lambda: reader.position,
        lambda: asyncio.run(commit(log)),
        lambda: asyncio.run(synced(log)),
    ]
    for nth, use in enumerate(uses):
        assert in_child(use) == "ForkedError", f"use {nth}"
    with log._guard:  # as another thread may at the fork
        assert in_child(lambda: asyncio.run(commit(log))) == "ForkedError"
    assert "of the parent process" in in_child(lambda: repr(log))
    assert in_child(lambda: log.__del__()) == "None", "no warning, no close"
    assert next(reader)[1] == b"1" and log.append_and_sync(b"still") > 0
    with pytest.raises(wal.LockedError):
        wal.open(path, segment_size=1 << 20)
    log.close()
    with wal.open(path, segment_size=1 << 20) as log:
        assert log.stats().closed_cleanly and len(list(log)) == 11


async def commit(log: wal.Log) -> int:
    return await log.commit(b"x")


async def synced(log: wal.Log) -> int:
    return await log.synced()


@forks
def test_a_child_that_exits_as_programs_do_leaves_the_log_alone(path: Path) -> None:
    code = """
        import os, sys, wal
        log = wal.open(sys.argv[1], segment_size=1 << 20)
        log.append_and_sync(b"before")
        pid = os.fork()
        if pid == 0:
            sys.exit(0)  # runs the exit handlers and collects the log
        assert os.waitpid(pid, 0)[1] == 0
        log.append_and_sync(b"after")
        try:
            wal.open(sys.argv[1], segment_size=1 << 20)
        except wal.LockedError:
            print("still locked")
    """
    done = python(code, path)
    assert (done.returncode, done.stdout) == (0, "still locked\n"), done.stderr
    # Newer interpreters warn of the fork itself.
    assert "Error" not in done.stderr and "ignored" not in done.stderr, done.stderr
    with wal.open(path, segment_size=1 << 20) as log:
        assert [data for _, data in log] == [b"before", b"after"] and log.stats().closed_cleanly


@forks
def test_forks_while_other_threads_and_a_loop_are_at_work(path: Path) -> None:
    stop = threading.Event()
    with wal.open(path, segment_size=1 << 16, buffer_size=1 << 14) as log:

        def append() -> None:
            while not stop.is_set():
                log.append_and_sync(b"thread" * 10)

        async def commit() -> None:
            while not stop.is_set():
                await asyncio.gather(*(log.commit(b"task") for _ in range(20)))

        reader = log.follow()
        threads = [threading.Thread(target=append) for _ in range(2)]
        threads.append(threading.Thread(target=lambda: asyncio.run(commit())))
        threads.append(threading.Thread(target=lambda: [None for _ in reader]))
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                time.sleep(0.01)
                assert in_child(lambda: log.append(b"child")) == "ForkedError"
                assert in_child(lambda: next(reader)) == "ForkedError"
                assert in_child(lambda: asyncio.run(synced(log))) == "ForkedError"
        finally:
            stop.set()
            for thread in threads[:3]:
                thread.join(30)
    threads[3].join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert wal.verify(path).is_sound
    with wal.open(path, segment_size=1 << 20) as log:
        assert b"child" not in {data for _, data in log}


def use_in_a_pool(_nth: int) -> str:
    try:
        SHARED.append(b"x")
    except wal.ForkedError as error:
        return f"{type(error).__name__} {error.code}"
    return "appended"


SHARED: wal.Log


@forks
def test_a_pool_of_forked_workers(path: Path) -> None:
    global SHARED
    with wal.open(path, segment_size=1 << 20) as SHARED:
        SHARED.append_and_sync(b"one")
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert set(pool.map(use_in_a_pool, range(20))) == {"ForkedError -11"}
        SHARED.append_and_sync(b"two")
        assert len(list(SHARED)) == 2


def read_along(path: str, wanted: int, results: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    with wal.open(path, read_only=True) as log:
        seen = 0
        for lsn, data in log.follow(timeout=20):
            assert data == b"%d" % seen * 10
            seen += 1
            if seen == wanted:
                break
        results.put((seen, log.tail > lsn))


def test_a_reader_in_another_process_beside_the_writer(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[int, bool]] = context.Queue()
    with wal.open(path, segment_size=1 << 16, buffer_size=1 << 14) as log:
        readers = [context.Process(target=read_along, args=(str(path), 3000, results)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for n in range(3000):
            log.append(b"%d" % n * 10)
            if n % 50 == 0:
                log.flush()
                time.sleep(0.001)
        log.flush()
        assert [results.get(timeout=60) for _ in readers] == [(3000, True)] * 2
        for reader in readers:
            reader.join(30)
            assert reader.exitcode == 0


def test_a_log_is_not_sent_to_another_process(log: wal.Log) -> None:
    with pytest.raises(TypeError, match="another process can read the same log"):
        pickle.dumps({"log": log})


def ended(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs a program that leaves a log open at its end."""
    prologue = "import asyncio, sys, threading, time\nimport wal\nlog = wal.open(sys.argv[1], segment_size=1 << 20)\n"
    begun = time.monotonic()
    done = python(prologue + textwrap.dedent(code), path, timeout=60)
    assert time.monotonic() - begun < 30
    assert done.returncode == 0, done.stderr
    return done


def records(path: Path) -> list[bytes]:
    with wal.open(path, segment_size=1 << 20) as log:
        assert log.stats().closed_cleanly
        return [data for _, data in log]


def test_an_open_log_is_closed_at_exit(path: Path) -> None:
    done = ended(path, "log.append(b'one')\nprint(log.append(b'two'))")
    assert done.stdout == "16\n" and done.stderr == ""
    assert records(path) == [b"one", b"two"]


def test_a_daemon_thread_appends_into_the_exit(path: Path) -> None:
    code = """
        def work(sync):
            while True:
                (log.append_and_sync if sync else log.append)(b"x" * 100)
        for nth in range(4):
            threading.Thread(target=work, args=(nth % 2,), daemon=True).start()
        time.sleep(0.3)
        print(log.append_and_sync(b"the last word"))
    """
    done = ended(path, code)
    assert "Fatal" not in done.stderr and "panicked" not in done.stderr, done.stderr
    lsn = int(done.stdout)
    with wal.open(path, segment_size=1 << 20) as log:
        assert log.stats().closed_cleanly
        assert log.read(lsn) == b"the last word"
    assert wal.verify(path).is_sound


def test_a_daemon_thread_follows_into_the_exit(path: Path) -> None:
    code = """
        for target in (lambda: list(log.follow()), lambda: log.wait_durable(log.append(b"never"))):
            threading.Thread(target=target, daemon=True).start()
        time.sleep(0.2)
    """
    ended(path, code)
    assert records(path) == [b"never"]


@pytest.mark.parametrize(
    "call",
    [
        "log.read(3)",
        "log.append_and_sync(b'x')",
        "log.append_many(time.sleep(0.001) or b'x' for _ in range(10_000))",
        "wal.verify(sys.argv[1], progress=lambda done, total: time.sleep(0.001))",
    ],
)
def test_a_daemon_thread_that_goes_on_for_ever_ends_with_the_process(path: Path, call: str) -> None:
    # Whatever a call raises, it calls again: also once the log was closed, and while the interpreter is taken down.
    code = f"""
        log.append(b"x")
        def work():
            while True:
                try:
                    {call}
                except Exception:
                    pass
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
    """
    for _ in range(3):
        done = ended(path, code)
        assert done.stderr == "", done.stderr


def test_commits_are_pending_at_the_exit(path: Path) -> None:
    code = """
        loop = asyncio.new_event_loop()
        async def main():
            return [log.commit(b"%d" % n) for n in range(1000)]
        pending = loop.run_until_complete(main())
    """
    ended(path, code)
    assert records(path) == [b"%d" % n for n in range(1000)]


def test_a_loop_in_a_daemon_thread_commits_into_the_exit(path: Path) -> None:
    code = """
        async def main():
            while True:
                await asyncio.gather(*(log.commit(b"x") for _ in range(50)))
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        time.sleep(0.3)
        print(log.append_and_sync(b"the last word"))
    """
    done = ended(path, code)
    assert "Fatal" not in done.stderr and "panicked" not in done.stderr, done.stderr
    assert records(path)[-1:] != [] and wal.verify(path).is_sound


def test_an_exit_reports_what_a_close_failed_with(path: Path) -> None:
    code = """
        import os, resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        log.append(b"x" * 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    """
    if sys.platform != "linux":
        pytest.skip("limits the size of a file as Linux does")
    done = python("import sys, wal\nlog = wal.open(sys.argv[1], segment_size=1 << 20)\n" + textwrap.dedent(code), path)
    assert "PoisonedError" in done.stderr and "File too large" in done.stderr


def test_os_exit_is_a_kill(path: Path) -> None:
    ended(path, "import os\nlog.append_and_sync(b'synced')\nlog.append(b'appended')\nos._exit(0)")
    with wal.open(path, segment_size=1 << 20) as log:
        # What was only appended is in the buffer, where that outlives the process.
        found = [data for _, data in log]
        assert found == [b"synced", b"appended"] or (found == [b"synced"] and not log.stats().shared_buffer)
        assert not log.stats().closed_cleanly
    with wal.open(path, shared_buffer=False) as log:
        assert not log.stats().shared_buffer and len(list(log)) == 2
