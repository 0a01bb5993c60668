"""The exceptions: their tree, their codes, what they carry."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest

import wal

# As Error::code() in Rust, and in C.
CODES = {
    "WalIOError": -1,
    "NoSpaceError": -2,
    "CorruptError": -3,
    "LockedError": -4,
    "PoisonedError": -5,
    "ClosedError": -6,
    "TooLargeError": -7,
    "FullError": -8,
    "InvalidArgumentError": -9,
    "TruncatedError": -10,
    "ForkedError": -11,
    "UnsupportedVersionError": -12,
}


def test_the_tree() -> None:
    for name, code in CODES.items():
        kind = getattr(wal, name)
        assert issubclass(kind, wal.WalError) and kind.code == code
        assert kind.__module__ == "wal" and kind.__doc__
    assert issubclass(wal.NoSpaceError, OSError) and issubclass(wal.WalIOError, OSError)
    assert issubclass(wal.NotFoundError, FileNotFoundError) and issubclass(wal.AccessError, PermissionError)
    for name in ("ClosedError", "TooLargeError", "InvalidArgumentError"):
        assert issubclass(getattr(wal, name), ValueError)
    errors = {name for name in wal.__all__ if name.endswith("Error")}
    assert errors == {*CODES, "WalError", "NotFoundError", "AccessError"}


@pytest.mark.parametrize(
    "error",
    [
        wal.CorruptError("text", 8, "/file"),
        wal.WalIOError(5, "reason", "/file", "read"),
        wal.NotFoundError(2, "reason", "/file", "open"),
        wal.NoSpaceError(28, "reason", "/file"),
        wal.TooLargeError("text", 2, 1),
        wal.TruncatedError("text", 8),
        wal.UnsupportedVersionError("text", "/file", 2, 1),
        wal.ClosedError("text"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_go_to_other_processes(error: wal.WalError) -> None:
    error.lsns = [1, 2]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.code, vars(again)) == (str(error), error.code, vars(error))


def damaged(path: Path, at: int) -> None:
    with wal.open(path, segment_size=1 << 16) as log:
        log.append_many([b"x" * 100] * 100, atomic=False)
        log.append_and_sync(b"last")
    with segments(path)[0].open("r+b") as file:
        file.seek(4096 + at)
        byte = file.read(1)
        file.seek(4096 + at)
        file.write(bytes([byte[0] ^ 1]))


def segments(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.name != "LOCK")


def test_corruption_says_where(path: Path, tmp_path: Path) -> None:
    damaged(path, 1000)
    with wal.open(path) as log:
        with pytest.raises(wal.CorruptError) as caught:
            list(log)
        reader = log.read_from()
        before = []
        with pytest.raises(wal.CorruptError):
            before.extend(reader.read_batch(5))
            while True:
                before.append(next(reader))
        assert next(reader, None) is None, "after an error a reader yields nothing more"
    error = caught.value
    assert len(before) == 8 and error.lsn == before[-1][0] + 112
    assert error.path == str(segments(path)[0]) and error.code == -3
    assert str(error.lsn) in str(error)

    report = wal.verify(path)
    assert not report.is_sound and [damage.start for damage in report.damage] == [error.lsn]
    with wal.open(path, recovery="salvage") as log:
        assert log.read_only and [damage.start for damage in log.damage] == [error.lsn]
        salvaged = len(list(log))
    mended = wal.repair(path, tmp_path / "kept")
    assert mended == report and any((tmp_path / "kept").iterdir())
    assert wal.verify(path).is_sound
    with wal.open(path) as log:
        assert log.damage == () and len(list(log)) == salvaged


def test_verify_reports_progress_and_stops_for_an_exception(path: Path) -> None:
    with wal.open(path, segment_size=4096) as log:
        log.append_many([b"x" * 100] * 1000)
    seen: list[tuple[int, int]] = []
    report = wal.verify(path, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert report.is_sound and report.records == 1000 and report.payload_bytes == 100_000
    assert seen and all(done <= total for done, total in seen) and max(seen)[0] == seen[0][1]

    def stop(_done: int, _total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        wal.verify(path, progress=stop)
    with pytest.raises(FileNotFoundError):
        wal.verify(path / "nothing")


def test_a_newer_version_is_refused(path: Path) -> None:
    wal.open(path).close()
    first = segments(path)[0]
    golden = first.read_bytes()
    at = next(at for at in range(0, 64) if golden[at : at + 4] == (1).to_bytes(4, "little"))
    # The version stands in front of the checksum's reach, so that older libraries can read it.
    first.write_bytes(golden[:at] + (9).to_bytes(4, "little") + golden[at + 4 :])
    with pytest.raises((wal.UnsupportedVersionError, wal.CorruptError)) as caught:
        wal.open(path)
    if isinstance(caught.value, wal.UnsupportedVersionError):
        assert (caught.value.found, caught.value.supported) == (9, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file as Linux does")
def test_a_refused_write_is_an_oserror(path: Path) -> None:
    import resource
    import signal

    with wal.open(path, segment_size=1 << 16, background=False) as log:
        log.append(b"x")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
        try:
            with pytest.raises(OSError) as caught:
                for _ in range(10_000):
                    log.append(b"x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert isinstance(caught.value, wal.WalError)
        assert caught.value.errno == errno.EFBIG and str(path) in str(caught.value.filename)
        assert os.strerror(errno.EFBIG) in str(caught.value)


def fill(path: Path) -> None:
    with wal.open(path, segment_size=1 << 18) as log:
        lsns = []
        with pytest.raises(wal.NoSpaceError) as caught:
            for n in range(20_000):
                lsns.append(log.append(b"%0100d" % n))
        assert caught.value.code == -2 and caught.value.errno == errno.ENOSPC
        assert isinstance(caught.value, OSError)
        log.sync()
        log.truncate_before(log.checkpoint(b"") if log.tail < lsns[-1] else lsns[-1])
        lsn = log.append_and_sync(b"again")
        assert log.read(lsn) == b"again"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small file system")
def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("skipped: mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs '{disk}' 2>/dev/null") != 0:
        pytest.skip("skipped: no file system can be mounted here")
    try:
        fill(disk / "log")
    finally:
        # A log that was closed keeps its directory open until it is collected.
        gc.collect()
        assert os.system(f"umount '{disk}'") == 0
