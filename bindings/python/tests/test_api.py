"""Every call, once in its plain form and at its edges."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import Self

import wal
from wal import _wal


def test_a_log_is_what_was_appended(path: Path) -> None:
    with wal.open(path) as log:
        first = log.append(b"one")
        assert first == 0
        assert log.append_many([]) == []
        lsns = log.append_many([b"two", b"", b"three"])
        assert [first, *lsns] == sorted({first, *lsns})
        assert list(log) == list(zip([first, *lsns], [b"one", b"two", b"", b"three"]))
        log.sync()
        assert log.durable_lsn >= log.tail - 64
    with wal.open(str(path)) as log:
        assert [data for _, data in log] == [b"one", b"two", b"", b"three"]
        assert log.stats().closed_cleanly
    with wal.open(os.fsencode(path)) as log:
        assert log.path == path


def test_a_derived_class_need_not_call_its_base(path: Path) -> None:
    class Forgetful(wal.Log):
        def __init__(self, path: Path, nick: str) -> None:
            self.nick = nick

        def __new__(cls, path: Path, nick: str) -> Forgetful:
            return super().__new__(cls, path)

    with Forgetful(path, "short") as log:
        lsn = log.append(b"x")
    assert log.closed and log.nick == "short"
    with wal.open(path, read_only=True) as reader:
        assert reader.read(lsn) == b"x"
    with pytest.raises(wal.ClosedError):
        reader.append(b"y")


def test_a_derived_class_may_make_logs_equal(path: Path) -> None:
    @dataclasses.dataclass  # which takes the hash away
    class Named(wal.Log):
        name: str

        def __new__(cls, path: str, name: str) -> Self:
            return super().__new__(cls, path)

        def __init__(self, _path: str, name: str) -> None:
            self.name = name

    with Named(f"{path}-1", "same") as one, Named(f"{path}-2", "same") as other:
        assert one == other and one.append(b"1") == other.append(b"2") == 0


def test_append_is_a_method_like_any_other(path: Path) -> None:
    class Journal(wal.Log):
        """Somebody's own."""

    class Word(bytes):
        """Not exactly `bytes`."""

    with Journal(os.fspath(path)) as log:
        append: Any = log.append
        assert [append(b"one"), wal.Log.append(log, Word(b"two"))] == [lsn for lsn, _ in log]
        assert [data for _, data in log] == [b"one", b"two"]
        for arguments, named in (((), {}), ((b"x", b"y"), {}), ((), {"data": b"x"})):
            with pytest.raises(TypeError):
                append(*arguments, **named)
        for stranger in (object(), wal.Log, None, log.read_from()):
            with pytest.raises(TypeError):
                wal.Log.append(stranger, b"x")  # type: ignore[arg-type]
        assert len(list(log)) == 2
    # The interpreter calls it by the shortest way only if it is of the object's own class.
    assert wal.Log.append.__objclass__ is wal.Log  # type: ignore[attr-defined]
    assert str(inspect.signature(wal.Log.append)) == "(self, data, /)"
    for other in (object, wal.Reader, type("Other", (), {})):
        with pytest.raises(TypeError):
            _wal._with_append(other)
        assert not hasattr(other, "append")


def test_positions(log: wal.Log) -> None:
    assert (log.head, log.tail, log.durable_lsn) == (0, 0, 0)
    lsn = log.append(b"x" * 10)
    assert log.tail == lsn + 24
    assert log.durable_lsn == 0
    log.sync_to(lsn)
    assert log.durable_lsn > lsn
    assert log.append_and_sync(b"y") < log.durable_lsn
    assert log.wait_durable(lsn) is True
    with pytest.raises(wal.InvalidArgumentError):
        log.sync_to(lsn + 8)
    with pytest.raises(wal.InvalidArgumentError):
        log.wait_durable(1 << 40)
    with pytest.raises(OverflowError):
        log.sync_to(-1)


def test_wait_durable_does_not_sync_by_itself(log: wal.Log) -> None:
    lsn = log.append(b"x")
    assert log.wait_durable(lsn, 0) is False
    assert log.wait_durable(lsn, timeout=0.12) is False
    assert log.durable_lsn == 0
    with pytest.raises(ValueError):
        log.wait_durable(lsn, float("nan"))
    log.sync()
    assert log.wait_durable(lsn, 0) is True


def test_sync_interval_syncs(path: Path) -> None:
    with wal.open(path, sync_interval=0.005) as log:
        assert log.wait_durable(log.append(b"x"), float("inf"))


def test_flush_makes_it_visible_to_another_reader(path: Path, log: wal.Log) -> None:
    log.append(b"one")
    log.flush()
    with wal.open(path, read_only=True) as other:
        assert [data for _, data in other] == [b"one"]
        assert other.read_only
        for refused in (other.sync, other.flush, lambda: other.append(b"x"), lambda: other.checkpoint(b"x")):
            with pytest.raises(wal.InvalidArgumentError, match="reading only"):
                refused()


def test_checkpoint_and_truncate(log: wal.Log) -> None:
    assert log.last_checkpoint is None
    assert list(log.from_checkpoint()) == []
    for n in range(300):
        log.append(bytes([n % 256]) * 1000)
    at = log.checkpoint(b"state")
    after = log.append(b"after")
    assert log.last_checkpoint == at
    assert list(log.from_checkpoint()) == [(at, b"state"), (after, b"after")]
    head = log.truncate_before(at)
    assert head == log.head > 0
    with pytest.raises(wal.TruncatedError) as caught:
        log.read(0)
    assert caught.value.head == head
    assert [record.kind for record in log.from_checkpoint().records()] == [wal.Kind.CHECKPOINT, wal.Kind.DATA]


def test_read(log: wal.Log) -> None:
    one, two = log.append_many([b"one", b"two"])
    assert log.read(one) == b"one"
    view = log.read(two, view=True)
    assert isinstance(view, memoryview) and view.readonly and bytes(view) == b"two"
    assert log.read_record(two) == (two, b"two", wal.Kind.BATCH_END)
    for bad in (one + 8, log.tail, 1 << 40):
        with pytest.raises(wal.InvalidArgumentError):
            log.read(bad)


def test_atomic_batches_and_others(log: wal.Log) -> None:
    log.append_many([b"a", b"b", b"c"])
    log.append_many((data for data in [b"d", b"e"]), atomic=False)
    kinds = [record.kind.name for record in log.read_from().records()]
    assert kinds == ["BATCH", "BATCH", "BATCH_END", "DATA", "DATA"]
    big = [b"x" * 1000] * 100
    assert len(log.append_many(big)) == 100, "longer than the buffer"


def test_append_many_takes_a_record_as_the_iterable_gives_it(log: wal.Log) -> None:
    def lines() -> Iterator[bytearray]:
        buffer = bytearray(4)
        for n in range(3):
            buffer[:] = b"%04d" % n  # as `readinto` does
            yield buffer

    log.append_many(lines())
    log.append_many(lines(), atomic=False)
    assert [data for _, data in log] == 2 * [b"0000", b"0001", b"0002"]
    asked = iter([b"never"])
    log.close()
    with pytest.raises(wal.ClosedError):
        log.append_many(asked)
    assert next(asked) == b"never"


def test_append_many_says_what_it_had_appended(path: Path) -> None:
    with wal.open(path, max_record_size=100) as log:
        with pytest.raises(wal.TooLargeError) as caught:
            log.append_many([b"a", b"b", b"x" * 101, b"c"], atomic=False)
        assert [log.read(lsn) for lsn in caught.value.lsns] == [b"a", b"b"]
        with pytest.raises(wal.TooLargeError):
            log.append_many([b"a", b"x" * 101])
        assert len(list(log)) == 2, "a batch is refused as a whole"


def test_try_append_never_waits(path: Path) -> None:
    with wal.open(path, buffer_size=1 << 14, background=False) as log:
        with pytest.raises(wal.FullError):
            for _ in range(1000):
                log.try_append(b"x" * 100)
        with pytest.raises(wal.TooLargeError):
            log.try_append(b"x" * (1 << 14))
        tail = log.tail
        log.append(b"x" * 100)
        log.append(bytearray(b"y" * 100_000))
        assert log.tail > tail + 100_000
        log.flush()
        assert log.try_append(bytearray(b"z")) > tail


def test_options(path: Path) -> None:
    with wal.open(path, segment_size=4096, buffer_size=1 << 20, first_lsn=800, recycle=0, retain_segments=2) as log:
        assert log.append(b"x") == 800
        stats = log.stats()
        assert (stats.segment_size, stats.buffer_size, stats.head) == (4096, 4096, 800)
        log.checkpoint(b"")
        for _ in range(200):
            log.append_and_sync(b"x" * 100)
        assert log.head == 800, "retention keeps the checkpoint"
    with wal.open(path, retain_segments=2, retain_checkpoint=False) as log:
        for _ in range(100):
            log.append_and_sync(b"x" * 100)
            log.checkpoint(b"")
        assert log.head > 800
    wrongs: list[dict[str, Any]] = [
        {"segment_size": 1000},
        {"buffer_size": 3},
        {"first_lsn": 3},
        {"sync_interval": 0.0},
        {"sync_interval": float("nan")},
        {"sync_interval": 0.01, "background": False},
        {"recovery": "hope"},
        {"retain_bytes": 1, "retain_segments": 1},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError):
            wal.open(path, **wrong)
    with pytest.raises(TypeError):
        wal.open(path, segmnt_size=4096)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        wal.open(17)  # type: ignore[arg-type]


def test_not_created(path: Path) -> None:
    both: list[dict[str, Any]] = [{"create": False}, {"read_only": True}]
    for options in both:
        with pytest.raises(FileNotFoundError) as caught:
            wal.open(path, **options)
        assert isinstance(caught.value, wal.WalIOError) and caught.value.code == -1
        assert str(path) in str(caught.value)
    assert not path.exists()


def test_a_second_opener_is_refused(path: Path, log: wal.Log) -> None:
    with pytest.raises(wal.LockedError) as caught:
        wal.open(path)
    assert (caught.value.code, caught.value.path) == (-4, str(path))


def test_closing(path: Path) -> None:
    log = wal.open(path)
    log.append(b"one")
    reader = log.read_from()
    log.close()
    log.close()
    assert log.closed
    assert list(reader) == [(0, b"one")], "a reader reads on"
    for refused in (
        lambda: log.append(b"x"),
        lambda: log.try_append(b"x"),
        lambda: log.append_many([b"x"]),
        lambda: log.append_and_sync(b"x"),
        log.sync,
        log.flush,
        log.stats,
        lambda: list(log),
        lambda: log.read(0),
        lambda: log.tail,
        lambda: log.head,
        lambda: log.durable_lsn,
        lambda: log.wait_durable(0),
        lambda: log.damage,
    ):
        with pytest.raises(wal.ClosedError) as caught:
            refused()
        assert isinstance(caught.value, ValueError) and caught.value.code == -6
    with wal.open(path):
        pass


def test_a_read_only_log_closes_too(path: Path, log: wal.Log) -> None:
    log.append(b"x")
    other = wal.open(path, read_only=True)
    other.close()
    with pytest.raises(wal.ClosedError):
        list(other)


def test_the_body_s_exception_passes_through_a_close(path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with wal.open(path) as log:
            log.append(b"one")
            raise ZeroDivisionError
    with wal.open(path) as log:
        assert len(list(log)) == 1


def test_a_log_that_is_forgotten_is_closed_with_a_warning(path: Path) -> None:
    log = wal.open(path)
    log.append(b"one")
    with pytest.warns(ResourceWarning, match="unclosed log"):
        del log
    with wal.open(path) as log:
        assert log.stats().closed_cleanly and len(list(log)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del log


def test_a_warning_that_is_an_error_keeps_no_log_from_being_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Noted(wal.Log):
        def close(self) -> None:
            super().close()
            closed.append(repr(self))

    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: closed.append(unraisable.exc_type.__name__))
    log = Noted(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del log
        gc.collect()
    assert closed == [f"<wal.Log {str(path)!r} closed>", "ResourceWarning"]


def test_repr(path: Path) -> None:
    log = wal.open(path)
    log.append(b"one")
    assert repr(log) == f"<wal.Log {str(path)!r} head=0 durable=0 tail=16>"
    log.flush()
    with wal.open(path, read_only=True) as other:
        assert repr(other).startswith(f"<wal.Log {str(path)!r} read-only head=0 durable=")
    log.close()
    assert repr(log) == f"<wal.Log {str(path)!r} closed>"


def test_pickling_and_copying_are_refused_with_an_explanation(log: wal.Log) -> None:
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="read_only=True"):
            refused(log)
    with pytest.raises(TypeError):
        pickle.dumps(log.read_from())


def test_stats(log: wal.Log) -> None:
    log.append_many([b"x" * 100] * 50)
    log.sync()
    stats = log.stats()
    assert stats.syncs == 1 and stats.records_per_sync >= 50
    assert stats.durable == stats.flushed >= 50 * 104
    (bound, count), *_ = stats.sync_latency
    assert count == 1 and 0 < bound < 60
    with pytest.raises(AttributeError):
        stats.syncs = 2  # type: ignore[misc]
    assert wal.Stats(**{**vars(stats), "syncs": 0}).records_per_sync == 0.0
