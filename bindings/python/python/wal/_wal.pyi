"""The native half of `wal`. Import `wal`, not this."""

import sys
from collections import deque
from typing import (
    Any,
    Generic,
    Literal,
    Optional,
    TypedDict,
    TypeVar,
    Union,
    final,
    overload,
    type_check_only,
)

from typing_extensions import Self, disjoint_base

if sys.version_info >= (3, 12):
    from collections.abc import Buffer as Buffer
else:
    from typing_extensions import Buffer as Buffer

_Log = TypeVar("_Log", bound=Log)
_Data = TypeVar("_Data", bytes, memoryview, Union[bytes, memoryview])

__all__ = ["Channel", "Log", "Reader", "Verification", "__version__", "_bytes", "_count_fork", "_repair", "_with_append"]

__version__: str

@type_check_only
class ReportDict(TypedDict):
    head: int
    tail: int
    segments: int
    records: int
    payload_bytes: int
    closed_cleanly: bool
    checkpoint: Optional[int]
    torn_tail: Optional[int]
    files: list[tuple[str, str]]
    damage: list[tuple[int, int, str, str]]

@disjoint_base
class Log:
    """A log that is open."""
    def __new__(
        cls,
        path: str,
        *,
        segment_size: Optional[int] = None,
        buffer_size: Optional[int] = None,
        shared_buffer: bool = True,
        max_record_size: Optional[int] = None,
        recycle: Optional[int] = None,
        retain_bytes: Optional[int] = None,
        retain_segments: Optional[int] = None,
        retain_checkpoint: bool = True,
        sync_interval: Optional[float] = None,
        background: bool = True,
        read_only: bool = False,
        create: bool = True,
        recovery: str = "strict",
        first_lsn: int = 0,
    ) -> Self: ...
    def try_append(self, data: Buffer) -> int:
        """Append one record if that needs no waiting, neither for room in the buffer nor for disk space.

        Raises `FullError` if it would have to wait.
        """
    def _check(self) -> None:
        """Raises if the log is closed, or the parent's."""
    def _append_many(self, records: list[bytes], atomic: bool) -> list[int]:
        """Appends all of `records`, which are `bytes`, and returns their LSNs: as one batch, or each on its own."""
    def append_and_sync(self, data: Buffer) -> int:
        """Append one record, make it durable together with everything appended before it, and return its LSN.

        Threads that wait at the same time share one sync. If the sync fails, the record may or may not be in the log
        when it is opened again.
        """
    def flush(self) -> None:
        """Hand every record appended before to the operating system: they survive this process."""
    def sync(self) -> None:
        """Make every record appended before durable: they survive a loss of power."""
    def sync_to(self, lsn: int) -> None:
        """Make every record up to and including the one that begins at `lsn` durable."""
    def wait_durable(self, lsn: int, timeout: Optional[float] = None) -> bool:
        """Wait until the record that begins at `lsn` is durable by the syncs of others, at most `timeout` seconds.

        Returns whether it is. It does not sync by itself. Ctrl-C interrupts it.
        """
    def checkpoint(self, state: Buffer) -> int:
        """Append a checkpoint record that holds `state`, make it durable, and return its LSN.

        `from_checkpoint` begins with it from then on, and the log may be truncated before it. Everything that the state
        does not contain must be appended after this call.

        >>> with wal.open("log") as log:
        ...     _ = log.append(b"x = 1")
        ...     lsn = log.checkpoint(b"all so far")
        ...     _ = log.append(b"x = 2")
        ...     [data for lsn, data in log.from_checkpoint()]
        [b'all so far', b'x = 2']
        """
    def truncate_before(self, lsn: int) -> int:
        """Drop the records below `lsn`, as far as they fill whole segments and are durable. Returns the new head."""
    @overload
    def read(self, lsn: int, *, view: Literal[False] = False) -> bytes:
        """The payload of the record that begins at `lsn`, as `bytes` or, with `view`, as a memoryview without a copy.

        >>> with wal.open("log") as log:
        ...     log.read(log.append(b"one"))
        b'one'
        """
    @overload
    def read(self, lsn: int, *, view: Literal[True]) -> memoryview: ...
    @overload
    def read(self, lsn: int, *, view: bool) -> Union[bytes, memoryview]: ...
    @property
    def durable_lsn(self) -> int:
        """Everything below this position is durable. For a log that is open read-only: is known to be."""
    @property
    def head(self) -> int:
        """The position of the first record that can be read; the tail, if there is none."""
    @property
    def tail(self) -> int:
        """The end of the log: the next record will begin here or later."""
    @property
    def last_checkpoint(self) -> Optional[int]:
        """The LSN of the last durable checkpoint, or `None`."""
    @property
    def _path(self) -> str:
        """The log's directory."""
    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
    @property
    def read_only(self) -> bool:
        """Whether the log is open for reading only."""
    def close(self) -> None:
        """Close the log: wait for appends under way, make everything durable, release the lock.

        Raises the first failure of the log's life if there was one. A second close does nothing.
        """
    def _read_record(self, lsn: int, *, view: bool) -> tuple[Any, int]:
        """The same as `read`, and the record's kind as a number."""
    def _forked(self) -> bool: ...
    def _damage(self) -> list[tuple[int, int, str, str]]: ...
    def _stats(self) -> dict[str, Any]: ...
    def _append_now(self, data: Buffer) -> Optional[int]:
        """Appends a record and returns its LSN. `None`: it would have to wait, and nothing was appended."""
    def _when_durable(self, channel: Channel, records: list[tuple[int, int]]) -> None:
        """Tells the channel under each of the ids when the record at the LSN beside it, which was appended, is durable; also
        if the log was closed since. Empties the list, in one step for whoever may be interrupted.
        """
    def _commit_waiting(self, channel: Channel, id: int, data: bytes) -> None:
        """Appends a record that has to wait. Its durability is told to the channel under `id`."""
    def _synced(self, channel: Channel, id: int, lsn: Optional[int]) -> None:
        """Tells the channel when the record at `lsn`, or everything appended before, is durable."""
    def _noop(self, data: bytes) -> int:
        """Takes what `append` takes, and does nothing: what a call of a method that pyo3 makes costs. For bench.py only."""

@disjoint_base
class Reader(Generic[_Data]):
    """An iterator over the records of a log."""
    def __new__(
        cls,
        log: Log,
        start: Optional[int] = None,
        *,
        checkpoint: bool = False,
        view: bool = False,
        follow: bool = False,
        timeout: Optional[float] = None,
    ) -> Self: ...
    @classmethod
    def __class_getitem__(cls, _item: object) -> type[Self]:
        """For type checkers: `Reader[bytes]` is a `Reader` all the same."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> tuple[int, _Data]: ...
    def read_batch(self, size: int = 1000) -> list[tuple[int, _Data]]:
        """Up to `size` records at once, as a list of `(lsn, data)`; an empty list at the end.

        It waits only for the first one, and only if the reader follows the log.
        """
    @property
    def position(self) -> int:
        """Where the reader stands: at the record that comes next, or at the end."""
    def _next_record(self) -> Optional[tuple[int, _Data, int]]:
        """The next record with its kind as a number, or `None` at the end."""
    def _ready(self) -> Optional[tuple[int, _Data]]:
        """What was read ahead, or `None` if there is nothing."""
    def _fill(self) -> bool:
        """Reads ahead without waiting for an append. Returns whether there is something now."""
    def _last(self) -> bool:
        """Whether looking for more is in vain from now on."""
    def _idle(self) -> bool:
        """Whether looking for more is in vain right now, as far as can be told without asking the disk."""
    def _patience(self) -> Optional[float]:
        """How many seconds a follower waits for a record, or `None`."""

@final
class Channel:
    """Where the completions of one log for one event loop arrive."""
    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """The file descriptor that is readable when something has arrived."""
    def take(self, arrived: deque[tuple[int, Optional[int], Optional[BaseException]]]) -> None:
        """Appends to `arrived`, a deque, all that has arrived: ids with an LSN or an exception. What this returned would be lost if
        an interrupt came before it is kept.
        """

@final
class Verification:
    """A check of the log at `path` in a thread of its own. The thread reads on to its end even if nobody waits for it any more; it
    changes nothing.
    """
    def __new__(cls, path: str, threads: int) -> Self: ...
    def next(self) -> Union[tuple[int, int], ReportDict]:
        """Waits for what is new: bytes done and bytes in all, or the report, after which nothing comes. Ctrl-C interrupts it."""

def _repair(path: str, keep: str) -> ReportDict:
    """Mends the log at `path`; the damaged bytes go to `keep`."""
def _count_fork() -> None: ...
def _bytes(data: Buffer, /) -> bytes:
    """The record that `data` holds, as it is now. `bytes` are given back as they are."""
def _with_append(class_: type[_Log], /) -> type[_Log]:
    """Gives a class that is derived from `Log` the method `append`, and returns the class."""
