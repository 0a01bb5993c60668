"""Reading: iteration in all its forms, batches, following."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import wal


def fill(log: wal.Log, count: int, size: int = 20) -> list[int]:
    return log.append_many((b"%0*d" % (size, n) for n in range(count)), atomic=False)


def test_every_way_to_read_gives_the_same(path: Path) -> None:
    with wal.open(path, segment_size=1 << 16) as log:
        lsns = fill(log, 20_000)
        everything = [(lsn, b"%020d" % n) for n, lsn in enumerate(lsns)]
        assert list(log) == everything
        assert list(log.read_from()) == everything
        assert list(log.read_from(lsns[0])) == everything
        assert list(log.from_checkpoint()) == everything
        assert [(record.lsn, record.data) for record in log.read_from().records()] == everything
        for size in (1, 7, 1000, 5000, 10**6):
            assert [pair for batch in log.read_from().batches(size) for pair in batch] == everything
        assert list(log.read_from(lsns[12_345])) == everything[12_345:]
        assert list(log.follow(timeout=0)) == everything
        assert list(log.read_from(log.tail)) == []
        assert [log.read(lsn) for lsn in lsns[::997]] == [data for _, data in everything[::997]]
        for bad in (lsns[5] + 8, log.tail + 8):
            with pytest.raises(wal.InvalidArgumentError):
                log.read_from(bad)
        with pytest.raises(ValueError):
            next(log.read_from().batches(0))
        assert log.read_from().read_batch(0) == []


def test_mixed_forms_lose_nothing(log: wal.Log) -> None:
    lsns = fill(log, 100)
    reader = log.read_from()
    seen = [next(reader)[0], *(lsn for lsn, _ in reader.read_batch(10))]
    seen.append(next(reader.records()).lsn)
    assert reader.position == lsns[12]
    seen.extend(lsn for lsn, _ in reader)
    assert seen == lsns
    assert reader.position == log.tail
    assert next(reader, None) is None


def test_a_reader_sees_what_the_log_held(log: wal.Log) -> None:
    fill(log, 10)
    reader = iter(log)
    fill(log, 10)
    assert len(list(reader)) == 10
    assert len(list(log)) == 20


def test_records_longer_than_everything(log: wal.Log) -> None:
    sizes = [0, 1, 1 << 14, 1 << 16, 300_000, 5]
    lsns = [log.append(b"z" * size) for size in sizes]
    assert [(lsn, len(data)) for lsn, data in log] == list(zip(lsns, sizes))
    assert [len(data) for _, data in log.read_from(view=True)] == sizes


def test_following_gives_what_comes(path: Path, log: wal.Log) -> None:
    fill(log, 5)

    def write() -> None:
        for n in range(100):
            log.append(b"later %d" % n)
            time.sleep(0.001)

    with wal.open(path, read_only=True) as other:
        for reader in (log.follow(timeout=1.0), other.follow(timeout=1.0)):
            writer = threading.Thread(target=write)
            writer.start()
            seen = [data for _, data in reader]
            writer.join()
            assert seen[-1] == b"later 99" and seen[:5] == [b"%020d" % n for n in range(5)]
            log.flush()
        batch = log.follow(log.tail - 16, timeout=0).read_batch()
        assert [data for _, data in batch] == [b"later 99"]


def test_following_ends_with_the_timeout_or_the_log(path: Path) -> None:
    log = wal.open(path, segment_size=1 << 20)
    begun = time.monotonic()
    assert list(log.follow(timeout=0.2)) == []
    assert 0.19 < time.monotonic() - begun < 5

    def close() -> None:
        time.sleep(0.1)
        log.append(b"last")
        log.close()

    closer = threading.Thread(target=close)
    closer.start()
    assert [data for _, data in log.follow()] == [b"last"], "what came before the close is not missed"
    closer.join()


def test_a_reader_belongs_to_one_thread_at_a_time(log: wal.Log) -> None:
    reader = log.follow()
    waiting = threading.Thread(target=lambda: next(reader, None))
    waiting.start()
    time.sleep(0.2)
    with pytest.raises(RuntimeError, match="another thread"):
        next(reader)
    log.append(b"x")
    waiting.join(10)
    assert not waiting.is_alive()


def test_truncation_under_a_reader(log: wal.Log) -> None:
    lsns = fill(log, 20_000)
    log.sync()
    reader = log.read_from()
    next(reader)
    log.truncate_before(lsns[-1])
    with pytest.raises(wal.TruncatedError):
        list(reader)
