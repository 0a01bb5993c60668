"""Completions on an event loop.

The log's commit thread does not touch the interpreter: it leaves results in a queue and rings through a socket that the
loop watches. One channel serves all commits of one log on one loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Optional, Union

from . import _wal

if TYPE_CHECKING:
    from ._wal import Buffer

# How many waiting records one trip to a worker thread takes along.
_TRIP = 256

_Waiting = tuple[int, "asyncio.Future[int]", bytes]


class Channel:
    """The commits of one log that wait on one loop. Used by the loop's thread only."""

    __slots__ = ("__weakref__", "_appended", "_ids", "_native", "_pending", "_pump", "_retired", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._native = _wal.Channel()
        self._ids = itertools.count()
        self._pending: dict[int, asyncio.Future[int]] = {}
        # Ids and LSNs of what was appended in this turn of the loop. Its durability is asked for at the turn's end, in one
        # go: if each call asked, the first would set off a sync that the others just miss.
        self._appended: list[tuple[int, int]] = []
        # Records that could not be appended at once, and the task that appends them in a worker thread, in order.
        self._waiting: deque[_Waiting] = deque()
        self._pump: Optional[asyncio.Task[None]] = None
        self._retired = False
        try:
            loop.add_reader(self._native.fileno(), self.deliver)
        except NotImplementedError:
            raise RuntimeError(f"{type(loop).__name__} cannot watch a socket; use a selector event loop") from None

    def commit(self, loop: asyncio.AbstractEventLoop, log: _wal.Log, data: Buffer) -> asyncio.Future[int]:
        """Append now, or as soon as there is room; the future has the LSN once the record is durable."""
        future: asyncio.Future[int] = loop.create_future()
        id = next(self._ids)
        # Once one has to wait, those behind it must, or they would overtake it.
        if self._pump is None:
            lsn = log._append_now(data)
            if lsn is not None:
                self._pending[id] = future
                if not self._appended:
                    loop.call_soon(self._ask, log)
                self._appended.append((id, lsn))
                return future
            self._pump = loop.create_task(self._append_waiting(loop, log))
        self._waiting.append((id, future, _bytes(data)))
        return future

    def _ask(self, log: _wal.Log) -> None:
        appended, self._appended = self._appended, []
        log._when_durable(self._native, appended)
        # Another thread may have closed the log between an append and the call that put this off.
        if self._retired:
            self.deliver()

    def synced(self, loop: asyncio.AbstractEventLoop, log: _wal.Log, lsn: Optional[int]) -> asyncio.Future[int]:
        """A future that is done once the record at `lsn`, or everything appended before, is durable."""
        future: asyncio.Future[int] = loop.create_future()
        id = next(self._ids)
        log._synced(self._native, id, lsn)
        self._pending[id] = future
        return future

    def deliver(self) -> None:
        """Hand out what has arrived. Whoever was cancelled meanwhile is passed over; its record stays appended."""
        for id, lsn, error in self._native.take():
            future = self._pending.pop(id, None)
            if future is None or future.done():
                continue
            if error is not None:
                future.set_exception(error)
            elif lsn is not None:
                future.set_result(lsn)

    def retire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out the rest and stop watching: the log was closed, which told of all that was pending."""
        self._retired = True
        self.deliver()
        loop.remove_reader(self._native.fileno())

    async def _append_waiting(self, loop: asyncio.AbstractEventLoop, log: _wal.Log) -> None:
        trip: list[_Waiting] = []
        try:
            while self._waiting:
                # One that was cancelled in time is not appended at all.
                trip = [self._waiting.popleft() for _ in range(min(_TRIP, len(self._waiting)))]
                trip = [waiting for waiting in trip if not waiting[1].cancelled()]
                self._pending.update((id, future) for id, future, _ in trip)
                failed = await loop.run_in_executor(None, self._append, log, trip)
                for id, error in failed:
                    future = self._pending.pop(id)
                    if not future.done():
                        future.set_exception(error)
        finally:
            # Set back in the same step that saw that nothing waits, so that no commit is left behind. If this task is
            # cancelled, as all are when a loop is shut down, those that wait behind it are too.
            self._pump = None
            for _, future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()

    def _append(self, log: _wal.Log, trip: list[_Waiting]) -> list[tuple[int, Exception]]:
        failed: list[tuple[int, Exception]] = []
        for id, future, data in trip:
            if future.cancelled():
                continue
            try:
                log._commit_waiting(self._native, id, data)
            except Exception as error:
                failed.append((id, error))
        return failed


def _bytes(data: Union[bytes, Buffer]) -> bytes:
    """What the record was when it was handed over."""
    return data if isinstance(data, bytes) else bytes(memoryview(data))
