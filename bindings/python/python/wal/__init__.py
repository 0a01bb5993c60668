"""A write-ahead log: append records in order, make them durable, replay exactly those after a crash.

>>> with wal.open("log") as log:
...     lsn = log.append(b"set x = 1")              # ordered, in memory
...     lsns = log.append_many([b"y = 2", b"z = 3"])  # all or nothing across a crash
...     log.sync()                                  # on stable storage, with what other threads appended
>>> with wal.open("log") as log:
...     for lsn, data in log:
...         print(data.decode())
set x = 1
y = 2
z = 3

What survives what is a property of the call:

- `append`: ordered; survives the process once the appends before it have returned too, where the buffer does (on
  Linux; `stats().shared_buffer`), and elsewhere after `flush`; a loss of power only after `sync`;
- `flush`: everything appended before is with the operating system, and survives this process;
- `sync`, `sync_to`, `append_and_sync`, `checkpoint`, and for asyncio `commit` and `synced`: those records are on
  stable storage.

One process writes a log, with any number of threads and tasks; others may read and follow it.
"""

from ._errors import (
    AccessError,
    ClosedError,
    CorruptError,
    ForkedError,
    FullError,
    InvalidArgumentError,
    LockedError,
    NoSpaceError,
    NotFoundError,
    PoisonedError,
    TooLargeError,
    TruncatedError,
    UnsupportedVersionError,
    WalError,
    WalIOError,
)
from ._log import Log, Reader, open, repair, verify
from ._types import Damage, FileDamage, Kind, Record, Report, Stats
from ._wal import __version__

__all__ = [
    "AccessError",
    "ClosedError",
    "CorruptError",
    "Damage",
    "FileDamage",
    "ForkedError",
    "FullError",
    "InvalidArgumentError",
    "Kind",
    "LockedError",
    "Log",
    "NoSpaceError",
    "NotFoundError",
    "PoisonedError",
    "Reader",
    "Record",
    "Report",
    "Stats",
    "TooLargeError",
    "TruncatedError",
    "UnsupportedVersionError",
    "WalError",
    "WalIOError",
    "__version__",
    "open",
    "repair",
    "verify",
]
