"""The smallest program: append, sync, read again after a restart.

Run with `python examples/python/hello.py`, with the wheel installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import wal


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"

        with wal.open(path) as log:
            first = log.append(b"set x = 1")  # ordered, in memory
            log.append_many([b"set y = 2", b"set z = 3"])  # all or nothing across a crash
            log.sync()  # on stable storage
            print(log)

        with wal.open(path) as log:
            for lsn, data in log:
                print(f"{lsn:4} {data.decode()}")
            assert log.read(first) == b"set x = 1"
            assert [data for _, data in log] == [b"set x = 1", b"set y = 2", b"set z = 3"]


if __name__ == "__main__":
    main()
