"""Python, C and Rust read each other's logs byte for byte.

The C side is libwal.so, called through ctypes; the Rust side is the `wal` command. `LIBWAL_SO` and `LIBWAL_COMMAND`
name them, and `LIBWAL_GOLDEN` the logs that the format is frozen with.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import wal

Found = list[tuple[int, str, bytes]]
KINDS = {1: "data", 2: "checkpoint", 3: "batch", 4: "batch_end"}


def needed(variable: str) -> str:
    """The path in an environment variable, or a skip."""
    if not os.environ.get(variable):
        if os.environ.get("LIBWAL_NO_SKIP") == "1":
            pytest.fail(f"{variable} is not set")
        pytest.skip(f"skipped: {variable} is not set")
    return os.environ[variable]


class Slice(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class RecordOfC(ctypes.Structure):
    _fields_ = [
        ("lsn", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("kind", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class C:
    """The C library."""

    def __init__(self, path: Path) -> None:
        self.so = ctypes.CDLL(needed("LIBWAL_SO"))
        self.so.wal_last_error.restype = ctypes.c_char_p
        self.log = ctypes.c_void_p()
        options = ctypes.c_void_p(self.call_pointer("wal_options_new"))
        self.check(self.so.wal_options_set_segment_size(options, ctypes.c_uint64(1 << 16)))
        self.check(self.so.wal_open(os.fsencode(path), options, ctypes.byref(self.log)))
        self.so.wal_options_free(options)

    def call_pointer(self, name: str) -> int:
        function = getattr(self.so, name)
        function.restype = ctypes.c_void_p
        pointer = function()
        assert isinstance(pointer, int)
        return pointer

    def check(self, code: int) -> None:
        assert code == 0, (code, self.so.wal_last_error())

    def append(self, data: bytes, call: str = "wal_append") -> int:
        lsn = ctypes.c_uint64()
        function = getattr(self.so, call)
        self.check(function(self.log, ctypes.c_char_p(data), ctypes.c_size_t(len(data)), ctypes.byref(lsn)))
        return lsn.value

    def append_batch(self, records: list[bytes]) -> list[int]:
        slices = (Slice * len(records))(*(Slice(data, len(data)) for data in records))
        lsns = (ctypes.c_uint64 * len(records))()
        self.check(self.so.wal_append_batch(self.log, slices, ctypes.c_size_t(len(records)), lsns))
        return list(lsns)

    def records(self) -> Iterator[tuple[int, str, bytes]]:
        iterator, record = ctypes.c_void_p(), RecordOfC()
        self.check(self.so.wal_iter_from_head(self.log, ctypes.byref(iterator)))
        while (code := self.so.wal_iter_next(iterator, ctypes.byref(record))) == 0:
            yield record.lsn, KINDS[record.kind], ctypes.string_at(record.data, record.len)
        assert code == 1, (code, self.so.wal_last_error())
        self.so.wal_iter_close(iterator)

    def close(self) -> None:
        self.check(self.so.wal_close(self.log))


def payloads(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    sizes = [0, 1, 7, 8, 9, 200_000, *(rng.randrange(3000) for _ in range(200))]
    return [rng.randbytes(size) for size in sizes]


def read_by_python(path: Path) -> Found:
    with wal.open(path, read_only=True) as log:
        return [(record.lsn, record.kind.value, bytes(record.data)) for record in log.read_from().records()]


def read_by_c(path: Path) -> Found:
    log = C(path)
    found = list(log.records())
    log.close()
    return found


def read_by_rust(path: Path) -> Found:
    command = [needed("LIBWAL_COMMAND"), "dump", "--format", "json", str(path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = []
    for line in map(json.loads, lines):
        data = line["data"].encode() if "data" in line else base64.b64decode(line["data_base64"])
        assert len(data) == line["len"]
        found.append((line["lsn"], line["kind"], data))
    return found


def write_by_python(path: Path) -> Found:
    with wal.open(path, segment_size=1 << 16) as log:
        written = [(log.append(data), "data", data) for data in payloads(1)]
        batch = payloads(2)[:5]
        kinds = ["batch"] * 4 + ["batch_end"]
        written += zip(log.append_many(batch), kinds, batch)
        written.append((log.checkpoint(b"state"), "checkpoint", b"state"))
    return written


def write_by_c(path: Path) -> Found:
    log = C(path)
    written = [(log.append(data), "data", data) for data in payloads(3)]
    batch = payloads(4)[:5]
    written += zip(log.append_batch(batch), ["batch"] * 4 + ["batch_end"], batch)
    written.append((log.append(b"state", "wal_checkpoint"), "checkpoint", b"state"))
    log.close()
    return written


def acknowledged(output: bytes) -> list[int]:
    return [int(line) for line in output.splitlines() if line.isdigit()]


def write_by_rust(path: Path) -> Found:
    records = payloads(5)
    framed = b"".join(len(data).to_bytes(4, "little") + data for data in records)
    command = [needed("LIBWAL_COMMAND"), "append", "--input", "length", "--sync", "each", "--acks", str(path)]
    done = subprocess.run(command, input=framed, check=True, capture_output=True)
    lsns = acknowledged(done.stdout)
    assert len(lsns) == len(records)
    return [(lsn, "data", data) for lsn, data in zip(lsns, records)]


@pytest.mark.parametrize("reader", [read_by_python, read_by_c, read_by_rust])
@pytest.mark.parametrize("writer", [write_by_python, write_by_c, write_by_rust])
def test_who_writes_and_who_reads(writer: object, reader: object, path: Path) -> None:
    assert callable(writer) and callable(reader)
    written = writer(path)
    assert written == reader(path)


def test_one_after_the_other_in_one_log(path: Path) -> None:
    written: Found = []
    for _ in range(2):
        with wal.open(path, segment_size=1 << 16) as log:
            written.append((log.append(b"of Python"), "data", b"of Python"))
        of_c = C(path)
        written.append((of_c.append(b"of C"), "data", b"of C"))
        of_c.close()
        command = [needed("LIBWAL_COMMAND"), "append", "--acks", "--sync", "each", str(path)]
        done = subprocess.run(command, input=b"of Rust\n", check=True, capture_output=True)
        written.append((acknowledged(done.stdout)[0], "data", b"of Rust"))
    assert read_by_python(path) == read_by_c(path) == read_by_rust(path) == written


def test_a_python_reader_follows_what_c_writes(path: Path) -> None:
    of_c = C(path)
    with wal.open(path, read_only=True) as log:
        follower = log.follow(timeout=10)
        for n in range(100):
            lsn = of_c.append(b"%d" % n, "wal_append_and_sync")
            assert next(follower) == (lsn, b"%d" % n)
        with pytest.raises(wal.LockedError):
            wal.open(path)
    of_c.close()


def test_a_lock_of_python_s_is_one_for_c(path: Path) -> None:
    with wal.open(path):
        so = ctypes.CDLL(needed("LIBWAL_SO"))
        log = ctypes.c_void_p()
        assert so.wal_open(os.fsencode(path), None, ctypes.byref(log)) == wal.LockedError.code


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def test_the_golden_logs(tmp_path: Path) -> None:
    assert crc32c(b"123456789") == 0xE3069283
    golden = sorted(Path(needed("LIBWAL_GOLDEN")).iterdir())
    assert golden
    for directory in golden:
        # Opening a log may change it.
        copy = tmp_path / directory.name
        shutil.copytree(directory / "log", copy)
        with wal.open(copy, read_only=True) as log:
            found = [f"head {log.head}", f"tail {log.tail}"]
            for lsn, data, kind in log.read_from().records():
                found.append(f"{lsn} {kind.value} {len(data)} {crc32c(data):08x}")
            records = list(log)
        assert (directory / "expected.txt").read_text().splitlines()[1:] == found
        with wal.open(copy) as log:
            assert list(log) == records
        assert wal.verify(copy).is_sound
