"""Completions on an event loop.

The log's commit thread does not touch the interpreter: it leaves results in a queue and rings through a socket that the
loop watches. One channel serves all commits of one log on one loop.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from . import _wal

if TYPE_CHECKING:
    from ._wal import Buffer

# How many waiting records one trip to a worker thread takes along.
_TRIP = 256

_Waiting = tuple[int, "asyncio.Future[int]", bytes]
# The ids of records that a trip did not append, and why; `None` if because they were cancelled.
_Failed = Sequence[tuple[int, Optional[BaseException]]]


class Channel:
    """The commits of one log that wait on one loop. Used by the loop's thread only."""

    __slots__ = ("__weakref__", "_appended", "_arrived", "_ids", "_native", "_pending", "_retired", "_trip", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._native = _wal.Channel()
        self._ids = itertools.count()
        self._pending: dict[int, asyncio.Future[int]] = {}
        # Ids and LSNs of what was appended in this turn of the loop. Its durability is asked for at the turn's end, in one
        # go: if each call asked, the first would set off a sync that the others just miss.
        self._appended: list[tuple[int, int]] = []
        # What was told and not handed out yet. Here, for a Ctrl-C may come at any time, and what it interrupts is done later.
        self._arrived: deque[tuple[int, Optional[int], Optional[BaseException]]] = deque()
        # Records that could not be appended at once, and the trip to a worker thread that appends those before them.
        self._waiting: deque[_Waiting] = deque()
        self._trip: Optional[asyncio.Future[_Failed]] = None
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
        if self._trip is None:
            lsn = log._append_now(data)
            if lsn is not None:
                self._pending[id] = future
                if not self._appended:
                    loop.call_soon(self._ask, log)
                self._appended.append((id, lsn))
                return future
        # What the record is when it is handed over.
        self._waiting.append((id, future, _wal._bytes(data)))
        if self._trip is None:
            self._send(loop, log)
        return future

    def _ask(self, log: _wal.Log) -> None:
        try:
            log._when_durable(self._native, self._appended)
        finally:
            if self._appended:
                asyncio.get_running_loop().call_soon(self._ask, log)
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
        arrived = self._arrived
        try:
            self._native.take(arrived)
            while arrived:
                id, lsn, error = arrived[0]
                future = self._pending.get(id)
                if future is None or future.done():
                    pass
                elif error is not None:
                    future.set_exception(error)
                elif lsn is not None:
                    future.set_result(lsn)
                self._pending.pop(id, None)
                arrived.popleft()
        finally:
            if arrived:
                asyncio.get_running_loop().call_soon(self.deliver)

    def retire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out the rest and stop watching: the log was closed, which told of all that was pending."""
        self._retired = True
        self.deliver()
        loop.remove_reader(self._native.fileno())

    # No task does this: when a loop is shut down all tasks are cancelled, also the library's; and those who wait for their
    # records must be told what became of them.
    def _send(self, loop: asyncio.AbstractEventLoop, log: _wal.Log) -> None:
        """Have a worker thread append the next of those that wait."""
        self._trip = None
        while self._waiting:
            waiting = [self._waiting.popleft() for _ in range(min(_TRIP, len(self._waiting)))]
            # One that was cancelled in time is not appended at all.
            records = [(id, future, data) for id, future, data in waiting if not future.cancelled()]
            self._pending.update((id, future) for id, future, _ in records)
            try:
                self._trip = loop.run_in_executor(None, self._append, log, records)
            except RuntimeError as error:  # The loop's executor was shut down.
                self._fail([(id, error) for id, _, _ in records])
            else:
                self._trip.add_done_callback(functools.partial(self._sent, loop, log, records))
                return

    def _sent(
        self,
        loop: asyncio.AbstractEventLoop,
        log: _wal.Log,
        records: list[_Waiting],
        trip: asyncio.Future[_Failed],
    ) -> None:
        if trip.cancelled():  # Before it began.
            for _, future, _ in records:
                future.cancel()
            self._fail([(id, None) for id, _, _ in records])
        elif (error := trip.exception()) is not None:
            self._fail([(id, error) for id, _, _ in records])
        else:
            self._fail(trip.result())
        self._send(loop, log)

    def _fail(self, failed: _Failed) -> None:
        for id, error in failed:
            future = self._pending.pop(id)
            if error is not None and not future.done():
                future.set_exception(error)

    def _append(self, log: _wal.Log, records: list[_Waiting]) -> _Failed:
        failed: list[tuple[int, Optional[BaseException]]] = []
        for id, future, data in records:
            if future.cancelled():
                failed.append((id, None))
                continue
            try:
                log._commit_waiting(self._native, id, data)
            except Exception as error:
                failed.append((id, error))
        return failed
