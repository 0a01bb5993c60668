"""What can be appended, and what comes back."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
from pathlib import Path
from typing import Any

import numpy
import pytest

import wal


class Bytes(bytes):
    """Subclasses are bytes."""


def samples() -> list[Any]:
    fortran = numpy.asfortranarray(numpy.arange(12, dtype="u1").reshape(3, 4))
    mapped = mmap.mmap(-1, 4096)
    mapped[:5] = b"hello"
    return [
        b"",
        b"one",
        Bytes(b"two"),
        bytearray(b"three"),
        bytearray(),
        memoryview(b"four"),
        memoryview(bytearray(b"xfivex"))[1:5],
        array.array("B", b"six"),
        array.array("I", [1, 2, 3]),
        array.array("B"),
        numpy.arange(256, dtype="u1"),
        numpy.arange(10, dtype="<f8"),
        numpy.arange(12, dtype="u1").reshape(3, 4),
        fortran.T,
        numpy.zeros(0, dtype="u1"),
        numpy.array([(1.5, 2)], dtype=[("Open", "<f8"), ("O", "u1")]),
        numpy.uint8(7),
        (ctypes.c_ubyte * 4)(1, 2, 3, 4),
        mapped,
    ]


@pytest.mark.parametrize("data", samples(), ids=lambda data: f"{type(data).__module__}.{type(data).__name__}")
def test_bytes_like_objects_are_their_bytes(log: wal.Log, data: Any) -> None:
    expected = memoryview(data).tobytes()
    lsns = [
        log.append(data),
        log.try_append(data),
        log.append_and_sync(data),
        *log.append_many([data, data]),
        *log.append_many([data], atomic=False),
        log.checkpoint(data),
    ]
    assert [log.read(lsn) for lsn in lsns] == [expected] * 7
    assert all(type(log.read(lsn)) is bytes for lsn in lsns)


def test_text_is_refused_with_advice(log: wal.Log) -> None:
    for refused in (
        lambda: log.append("text"),  # type: ignore[arg-type]
        lambda: log.append_and_sync("text"),  # type: ignore[arg-type]
        lambda: log.append_many(["text"]),  # type: ignore[list-item]
        lambda: log.checkpoint("text"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="encode"):
            refused()
    for one in (b"one", "one", bytearray(b"one"), memoryview(b"one")):
        with pytest.raises(TypeError, match="iterable of records"):
            log.append_many(one)  # type: ignore[arg-type]
    assert list(log) == []


@pytest.mark.parametrize("wrong", [None, 1, 1.5, [1, 2], object(), {}], ids=repr)
def test_other_objects_are_refused(log: wal.Log, wrong: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like object is required"):
        log.append(wrong)
    assert log.tail == 0


def test_what_is_not_contiguous_or_not_bytes_is_refused(log: wal.Log) -> None:
    scattered: Any
    for scattered in (memoryview(b"abcdef")[::2], numpy.arange(12, dtype="u1").reshape(3, 4).T):
        with pytest.raises(BufferError, match="not contiguous"):
            log.append(scattered)
    objects: Any = numpy.array([None, log], dtype=object)
    mixed: Any = numpy.zeros(2, dtype=[("Open", "u1"), ("b", object)])
    with pytest.raises(TypeError, match="references"):
        log.append(objects)
    with pytest.raises(TypeError, match="references"):
        log.append(mixed)
    assert log.tail == 0


def test_the_object_is_let_go_and_was_not_changed(log: wal.Log) -> None:
    data = bytearray(b"x" * 100_000)  # longer than the buffer, so the append detaches
    lsn = log.append(data)
    data.extend(b"more")  # a BufferError if its memory were still held
    data[:] = b"other"
    assert log.read(lsn) == b"x" * 100_000


def test_views_own_what_they_show(path: Path) -> None:
    with wal.open(path, segment_size=1 << 20) as log:
        lsns = log.append_many(b"%06d" % n for n in range(50_000))
        views = {lsn: data for lsn, data in log.read_from(view=True)}
        one = log.read(lsns[17], view=True)
    gc.collect()
    assert [bytes(views[lsn]) for lsn in lsns] == [b"%06d" % n for n in range(50_000)]
    assert bytes(one) == b"000017"
    with pytest.raises(TypeError):
        one[0] = 1
    assert numpy.frombuffer(one, dtype="u1").sum() == sum(b"000017")


def test_readers_give_bytes_or_views(log: wal.Log) -> None:
    log.append_many([b"one", b""])
    assert [type(data) for _, data in log] == [bytes, bytes]
    assert [type(data) for _, data in log.read_from(view=True)] == [memoryview, memoryview]
    assert [bytes(record.data) for record in log.read_from(view=True).records()] == [b"one", b""]
    assert [len(data) for _, data in log.read_from(view=True).read_batch()] == [3, 0]
    assert [type(data) for _, data in log.follow(timeout=0, view=True)] == [memoryview, memoryview]
