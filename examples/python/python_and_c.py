"""One process, two languages: Python threads append to one log while a thread of C's appends to another.

The C thread is C code (`python_and_c.c`) that calls libwal.so; it never asks for the interpreter. The two logs are the
same format, so in the end Python reads both.

Run with `LIBWAL_SO=target/release/libwal.so python examples/python/python_and_c.py`, with the wheel installed. Needs a C
compiler (`CC`, or cc).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import wal

RECORDS = 20_000
THREADS = 3


def build(directory: Path, library: Path) -> ctypes.CDLL:
    """Compiles the C side and loads it."""
    source = Path(__file__).with_suffix(".c")
    include = source.parents[2] / "include"
    out = directory / "python_and_c.so"
    compiler = os.environ.get("CC", "cc")
    # Found by its name from then on, wherever it lies.
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{include}"]
    link = [str(library), "-lpthread"]
    subprocess.run([compiler, *options, "-o", str(out), str(source), *link], check=True)
    return ctypes.CDLL(str(out))


def main() -> None:
    library = os.environ.get("LIBWAL_SO")
    if not library or not Path(library).exists() or not shutil.which(os.environ.get("CC", "cc")):
        if os.environ.get("LIBWAL_NO_SKIP") == "1":
            sys.exit("LIBWAL_SO does not name libwal.so, or there is no C compiler")
        print("skipped: LIBWAL_SO does not name libwal.so, or there is no C compiler")
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        side = build(directory, Path(library).resolve())
        of_c = directory / "of C"

        with wal.open(directory / "of Python") as log:
            assert side.start(os.fsencode(of_c), ctypes.c_uint64(RECORDS)) == 0

            def append(nth: int) -> None:
                for n in range(RECORDS):
                    log.append(b"thread %d record %d" % (nth, n))
                    if n % 1000 == 0:
                        log.sync()

            threads = [threading.Thread(target=append, args=(nth,)) for nth in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert side.finish() == 0, "the C thread appended and synced everything"
            assert sum(len(batch) for batch in log.read_from().batches(10_000)) == THREADS * RECORDS

        with wal.open(of_c) as log:
            assert [data for _, data in log] == [b"C record %d" % n for n in range(RECORDS)]
            assert log.stats().closed_cleanly
        print(f"{THREADS} Python threads and one of C's appended {(THREADS + 1) * RECORDS} records to two logs")


if __name__ == "__main__":
    main()
