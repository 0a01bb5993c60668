"""`Log` and `Reader`: the native classes, with what is easier said in Python."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, Literal, NoReturn, Optional, TypeVar, Union, overload

from . import _wal
from ._asyncio import Channel
from ._errors import ClosedError, ForkedError, WalError
from ._types import KINDS, Damage, FileDamage, Kind, Record, Report, Stats

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._wal import Buffer

__all__ = ["Log", "Reader", "open", "repair", "verify"]

# How long an asynchronous follower sleeps between two looks: doubled from the one to the other while nothing comes.
_SHORTEST_NAP = 0.001
_LONGEST_NAP = 0.025


_Data = TypeVar("_Data", bytes, memoryview, Union[bytes, memoryview])


class Reader(_wal.Reader[_Data], Generic[_Data]):
    """The records of a log in order, as an iterator and an asynchronous iterator over `(lsn, data)`.

    It sees what the log held when it was made, or, if it follows the log, also what is appended later. It may outlive
    its log. After an error it yields nothing more. It belongs to one thread or task at a time.
    """

    __slots__ = ("_filling",)

    _filling: Optional[asyncio.Future[bool]]

    def batches(self, size: int = 1000) -> Iterator[list[tuple[int, _Data]]]:
        """Lists of up to `size` records, each made in one step: the fastest way to read a log.

        >>> with wal.open("log") as log:
        ...     _ = log.append_many(b"%d" % n for n in range(2500))
        ...     [len(batch) for batch in log.read_from().batches(1000)]
        [1000, 1000, 500]
        """
        if size < 1:
            raise ValueError("a batch has at least one record")
        while batch := self.read_batch(size):
            yield batch

    def records(self) -> Iterator[Record[_Data]]:
        """The records as `Record`, which has the kind too.

        >>> with wal.open("log") as log:
        ...     _ = log.append_many([b"one", b"two"])
        ...     [record.kind.name for record in log.read_from().records()]
        ['BATCH', 'BATCH_END']
        """
        while (record := self._next_record()) is not None:
            lsn, data, kind = record
            yield Record(lsn, data, KINDS[kind])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, _Data]:
        """The next record. If it is cancelled, no record is lost."""
        loop = asyncio.get_running_loop()
        patience = self._patience()
        until = None if patience is None else loop.time() + patience
        nap = _SHORTEST_NAP
        while True:
            # What an iteration that was cancelled left running goes on filling the reader, and is waited for.
            filling: Optional[asyncio.Future[bool]] = getattr(self, "_filling", None)
            last = False
            if filling is None or filling.get_loop() is not loop:
                ready = self._ready()
                if ready is not None:
                    return ready
                last = self._last()
                if last or not self._idle():
                    filling = self._filling = loop.run_in_executor(None, self._fill)
            if filling is not None:
                try:
                    found = await asyncio.shield(filling)
                finally:
                    if filling.done():
                        self._filling = None
                if found:
                    continue
            if last:
                raise StopAsyncIteration
            left = _LONGEST_NAP if until is None else until - loop.time()
            if left <= 0:
                raise StopAsyncIteration
            await asyncio.sleep(min(nap, left))
            nap = min(nap * 2, _LONGEST_NAP)


@_wal._with_append
class Log(_wal.Log):
    """A log that is open. `wal.open` makes it; a `with` block closes it.

    Any number of threads and tasks may use it at once. LSNs are ints, strictly increasing in the order of replay.
    """

    __slots__ = ("__weakref__", "_channels", "_guard")

    if TYPE_CHECKING:
        # Defined by the decorator.
        def append(self, data: Buffer, /) -> int:
            """Append one record and return its LSN.

            `data` is any contiguous bytes-like object. The record is ordered and its disk space is set aside. It survives
            this process where the buffer does (`stats().shared_buffer`), and else after `flush`; `sync` makes it survive a
            loss of power.

            >>> with wal.open("log") as log:
            ...     first = log.append(b"one")
            ...     second = log.append(bytearray(b"two"))
            >>> first < second
            True
            """

    _channels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Channel]
    _guard: threading.RLock

    # Here, so that a derived class that forgets its base's `__init__` can be closed.
    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        self = super().__new__(cls, *arguments, **options)
        # Loops are few; of each the log has one channel, for as long as the loop lives.
        self._channels = weakref.WeakKeyDictionary()
        # Reentrant: a signal handler, or a finalizer, may close the log in the middle of a commit of the same thread.
        self._guard = threading.RLock()
        _open_logs[id(self)] = self
        return self

    @property
    def path(self) -> Path:
        """The log's directory."""
        return Path(self._path)

    def append_many(self, records: Iterable[Buffer], *, atomic: bool = True) -> list[int]:
        """Append all records of an iterable and return their LSNs.

        With `atomic`, they are one batch: they stand directly one after the other, and after a crash either all of
        them are in the log or none. Without, each is appended on its own; if one fails, those before it stay, and the
        exception's `lsns` lists them. A record is what it is when the iterable gives it.

        >>> with wal.open("log") as log:
        ...     lsns = log.append_many([b"debit a 5", b"credit b 5"])
        ...     log.sync()
        >>> len(lsns)
        2
        """
        if isinstance(records, (bytes, bytearray, memoryview, str)):
            raise TypeError("append_many takes an iterable of records; append takes one")
        self._check()
        return self._append_many([_wal._bytes(record) for record in records], atomic)

    @overload
    def read_from(self, lsn: Optional[int] = None, *, view: Literal[False] = False) -> Reader[bytes]: ...
    @overload
    def read_from(self, lsn: Optional[int] = None, *, view: Literal[True]) -> Reader[memoryview]: ...
    @overload
    def read_from(self, lsn: Optional[int] = None, *, view: bool) -> Reader[Union[bytes, memoryview]]: ...
    def read_from(self, lsn: Optional[int] = None, *, view: bool = False) -> Reader[Any]:
        """The records from the one that begins at `lsn` on, or all of them.

        `lsn` may also be the end of the log. With `view`, payloads are read-only memoryviews of the reader's memory
        instead of copies; each keeps what was read with it alive, 128 KiB and the one record that goes beyond.

        >>> with wal.open("log") as log:
        ...     one, two = log.append_many([b"one", b"two"])
        ...     for lsn, data in log.read_from(two):
        ...         print(data)
        b'two'
        """
        return Reader(self, lsn, view=view)

    @overload
    def from_checkpoint(self, *, view: Literal[False] = False) -> Reader[bytes]: ...
    @overload
    def from_checkpoint(self, *, view: Literal[True]) -> Reader[memoryview]: ...
    @overload
    def from_checkpoint(self, *, view: bool) -> Reader[Union[bytes, memoryview]]: ...
    def from_checkpoint(self, *, view: bool = False) -> Reader[Any]:
        """The records from the last durable checkpoint on, it included; all records if there is none."""
        return Reader(self, checkpoint=True, view=view)

    @overload
    def follow(self, lsn: Optional[int] = None, *, timeout: Optional[float] = None, view: Literal[False] = False) -> Reader[bytes]: ...
    @overload
    def follow(self, lsn: Optional[int] = None, *, timeout: Optional[float] = None, view: Literal[True]) -> Reader[memoryview]: ...
    @overload
    def follow(self, lsn: Optional[int] = None, *, timeout: Optional[float] = None, view: bool) -> Reader[Union[bytes, memoryview]]: ...
    def follow(self, lsn: Optional[int] = None, *, timeout: Optional[float] = None, view: bool = False) -> Reader[Any]:
        """The records from `lsn` (or the head) on, and then those that are appended, as they come.

        It ends when none came for `timeout` seconds, or when this log is closed. Records are seen when they are
        flushed, which is before they are durable: compare with `durable_lsn` where that matters.

        >>> with wal.open("log") as log:
        ...     _ = log.append(b"one")
        ...     [data for lsn, data in log.follow(timeout=0.01)]
        [b'one']
        """
        return Reader(self, lsn, follow=True, timeout=timeout, view=view)

    @overload
    def read_record(self, lsn: int, *, view: Literal[False] = False) -> Record[bytes]: ...
    @overload
    def read_record(self, lsn: int, *, view: Literal[True]) -> Record[memoryview]: ...
    @overload
    def read_record(self, lsn: int, *, view: bool) -> Record[Union[bytes, memoryview]]: ...
    def read_record(self, lsn: int, *, view: bool = False) -> Record[Any]:
        """The record that begins at `lsn`, with its kind."""
        data, kind = self._read_record(lsn, view=view)
        return Record(lsn, data, KINDS[kind])

    def __iter__(self) -> Reader[bytes]:
        """All records, from the head to where the log ends now, as `(lsn, data)`.

        >>> with wal.open("log") as log:
        ...     _ = log.append(b"one")
        ...     for lsn, data in log:
        ...         print(lsn, data)
        0 b'one'
        """
        return Reader(self)

    def stats(self) -> Stats:
        """What the log has done since it was opened, and where it stands.

        >>> with wal.open("log") as log:
        ...     _ = log.append_and_sync(b"one")
        ...     log.stats().syncs
        1
        """
        stats = self._stats()
        stats["sync_latency"] = tuple(stats["sync_latency"])
        return Stats(**stats)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """The damaged ranges that a log opened with `recovery="salvage"` passes over."""
        return tuple(_damage(self._damage()))

    def commit(self, data: Buffer) -> asyncio.Future[int]:
        """Append one record; the result has its LSN once the record is durable. For asyncio.

        The record is appended when this is called, not when the result is awaited, unless the buffer is full: then
        in a worker thread, in the order of the calls. Its sync begins when control is back in the loop: all commits of one
        turn share it. Any number may be pending. If the awaiting task is cancelled, the record may still be in the log.
        If the commit fails, so may it.

        >>> async def main():
        ...     async with wal.open("log") as log:
        ...         return await asyncio.gather(*(log.commit(b"%d" % n) for n in range(3)))
        >>> lsns = asyncio.run(main())
        >>> lsns == sorted(lsns)
        True
        """
        loop = asyncio.get_running_loop()
        return self._channel(loop).commit(loop, self, data)

    def synced(self, lsn: Optional[int] = None) -> asyncio.Future[int]:
        """Make the record at `lsn`, or everything appended before, durable without blocking the event loop.

        The result is `lsn`, or the position below which everything is durable.

        >>> async def main():
        ...     async with wal.open("log") as log:
        ...         lsns = [log.append(b"%d" % n) for n in range(3)]
        ...         await log.synced()
        ...         return lsns[-1] < log.durable_lsn
        >>> asyncio.run(main())
        True
        """
        loop = asyncio.get_running_loop()
        return self._channel(loop).synced(loop, self, lsn)

    def _channel(self, loop: asyncio.AbstractEventLoop) -> Channel:
        # Before the lock: at a fork another thread may have held it.
        if self._forked():
            raise ForkedError("the log was opened before a fork; the child cannot use it")
        if self.closed:
            raise ClosedError("the log is closed")
        with self._guard:
            channel = self._channels.get(loop)
            if channel is None:
                # A channel that somebody still waited on refers to its loop, and would keep it for as long as the log is open.
                channels = self._channels
                for ended in [known for known in channels if known.is_closed()]:
                    channels.pop(ended, None)
                channel = self._channels[loop] = Channel(loop)
                # Whoever closed the log since it was asked above did not find this channel.
                if self.closed:
                    self._channels.pop(loop, None)
                    channel.retire(loop)
                    raise ClosedError("the log is closed")
            return channel

    def close(self) -> None:
        """Close the log: wait for appends under way, make everything durable, release the lock.

        Raises the first failure of the log's life if there was one. Pending commits get their results. A second close
        does nothing. A log that is never closed is closed when it is collected, with a `ResourceWarning`, and at the
        latest when the interpreter exits.
        """
        try:
            super().close()
        finally:
            # An interrupt may have come before `__new__` set them.
            if not self._forked() and hasattr(self, "_guard"):
                # Taken as a whole, not emptied: whoever this interrupts may be walking over it.
                with self._guard:
                    channels, self._channels = self._channels, weakref.WeakKeyDictionary()
                for loop, channel in channels.items():
                    # A loop that is closed takes no calls, and nobody waits on it any more.
                    with contextlib.suppress(RuntimeError):
                        loop.call_soon_threadsafe(channel.retire, loop)

    async def aclose(self) -> None:
        """Close the log without blocking the event loop. If it is cancelled, the log is closed all the same when it ends."""
        closing = asyncio.get_running_loop().run_in_executor(None, self.close)
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            while not closing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([closing])
            closing.result()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self.closed or self._forked():
            return
        try:
            if hasattr(self, "_guard"):
                warnings.warn(f"unclosed log {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self.close()

    def __repr__(self) -> str:
        if self._forked():
            where = "of the parent process"
        elif self.closed:
            where = "closed"
        else:
            try:
                where = f"head={self.head} durable={self.durable_lsn} tail={self.tail}"
            except WalError as error:
                where = str(error)
            if self.read_only:
                where = f"read-only {where}"
        return f"<wal.Log {self._path!r} {where}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a wal.Log cannot be pickled or copied: it is a lock and threads of this process; "
            "another process can read the same log with wal.open(path, read_only=True)"
        )


# Everything that is open, for the end of the interpreter. By identity: a derived class may make logs equal, or not hashable.
_open_logs: weakref.WeakValueDictionary[int, Log] = weakref.WeakValueDictionary()


def _close_all() -> None:
    """Close what is still open before the interpreter goes, while threads can still run.

    Daemon threads that still append get `ClosedError`. A child of a fork leaves its parent's logs alone.
    """
    failure: Optional[Exception] = None
    for log in list(_open_logs.values()):
        try:
            if not log._forked():
                log.close()
        except Exception as error:  # A derived class may raise others; the logs behind it are closed too.
            failure = failure or error
    if failure is not None:
        raise failure


atexit.register(_close_all)


def open(
    path: Union[str, bytes, os.PathLike[str], os.PathLike[bytes]],
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
    recovery: Literal["strict", "salvage"] = "strict",
    first_lsn: int = 0,
) -> Log:
    """Open the log in the directory `path`, or create it.

    segment_size: bytes of the stream in each file, a power of two from 4 KiB to 4 GiB (64 MiB); fixed at creation.
    buffer_size: memory between appends and the operating system, a power of two from 4 KiB to 1 GiB (4 MiB).
    shared_buffer: let what is appended survive this process, where the system has memory that does (Linux).
    max_record_size: the longest record accepted, up to 256 MiB - 1 (64 MiB).
    recycle: how many freed segments are kept for reuse (2).
    retain_bytes, retain_segments: drop old segments while the others hold this much; nothing is dropped by default.
    retain_checkpoint: keep everything from the last checkpoint on, and everything if there is none.
    sync_interval: sync in the background this often, in seconds, at least 0.001.
    background: keep one thread that prepares segments, flushes, and serves sync_interval.
    read_only: take no lock and change nothing; the log may be written by another process meanwhile.
    create: make a log where there is none; otherwise that is a FileNotFoundError.
    recovery: "strict", or "salvage" to read around damage, read-only.
    first_lsn: where a new log begins, a multiple of 8.

    >>> with wal.open("log") as log:
    ...     lsn = log.append(b"set x = 1")
    ...     log.sync()
    >>> with wal.open("log", read_only=True) as log:
    ...     list(log)
    [(0, b'set x = 1')]
    """
    return Log(
        os.fsdecode(path),
        segment_size=segment_size,
        buffer_size=buffer_size,
        shared_buffer=shared_buffer,
        max_record_size=max_record_size,
        recycle=recycle,
        retain_bytes=retain_bytes,
        retain_segments=retain_segments,
        retain_checkpoint=retain_checkpoint,
        sync_interval=sync_interval,
        background=background,
        read_only=read_only,
        create=create,
        recovery=recovery,
        first_lsn=first_lsn,
    )


def verify(
    path: Union[str, bytes, os.PathLike[str], os.PathLike[bytes]],
    *,
    threads: Optional[int] = None,
    progress: Optional[Callable[[int, int], object]] = None,
) -> Report:
    """Check every byte of the log in the directory `path`, and change nothing.

    `progress(done, total)` is called now and then in this thread, in bytes; what it raises ends the call. Damage is
    no error: it is reported. A log that is being written can be verified as far as it reaches.

    >>> with wal.open("log") as log:
    ...     _ = log.append(b"one")
    >>> report = wal.verify("log")
    >>> report.records, report.is_sound
    (1, True)
    """
    verification = _wal.Verification(os.fsdecode(path), threads or os.cpu_count() or 1)
    while isinstance(news := verification.next(), tuple):
        if progress is not None:
            progress(*news)
    return _report(news)


def repair(
    path: Union[str, bytes, os.PathLike[str], os.PathLike[bytes]],
    keep: Union[str, bytes, os.PathLike[str], os.PathLike[bytes]],
) -> Report:
    """Mend the log in the directory `path`, so that it can be opened again, and return what was found.

    The bytes of every damaged range and file are first copied to the directory `keep`, which must be empty or not
    exist. A log that is sound is left alone. The positions of lost records are not used again. If this is
    interrupted, or fails, the log can be opened for salvage only, until it was called again (with another `keep`).

    >>> with wal.open("log") as log:
    ...     _ = log.append(b"one")
    >>> wal.repair("log", "kept").is_sound, os.path.exists("kept")
    (True, False)
    """
    return _report(_wal._repair(os.fsdecode(path), os.fsdecode(keep)))


def _damage(ranges: list[tuple[int, int, str, str]]) -> Iterator[Damage]:
    for start, end, path, reason in ranges:
        yield Damage(start, end, path, reason)


def _report(found: _wal.ReportDict) -> Report:
    files = tuple(FileDamage(path, reason) for path, reason in found["files"])
    return Report(
        head=found["head"],
        tail=found["tail"],
        segments=found["segments"],
        records=found["records"],
        payload_bytes=found["payload_bytes"],
        closed_cleanly=found["closed_cleanly"],
        checkpoint=found["checkpoint"],
        torn_tail=found["torn_tail"],
        files=files,
        damage=tuple(_damage(found["damage"])),
    )


for _class in (Log, Reader, Kind, Record, Damage, FileDamage, Report, Stats):
    _class.__module__ = "wal"
