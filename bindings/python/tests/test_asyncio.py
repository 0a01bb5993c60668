"""Commits on event loops: durable when told, few syncs, no threads, sound when cancelled."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

import pytest

import wal

Run = Callable[..., Any]
# One record of 3,000 bytes fits; and nothing makes room but an append that waits.
CROWDED: dict[str, Any] = {"segment_size": 1 << 20, "buffer_size": 1 << 12, "background": False}


def test_a_commit_is_durable_when_it_is_told(path: Path, run: Run) -> None:
    async def main() -> None:
        async with wal.open(path, segment_size=1 << 20) as log:
            for n in range(20):
                lsn = await log.commit(b"%d" % n)
                assert lsn < log.durable_lsn
            lsns = await asyncio.gather(*(log.commit(bytearray(b"%d" % n)) for n in range(200)))
            assert list(lsns) == sorted(lsns) and max(lsns) < log.durable_lsn
        assert log.closed

    run(main())
    with wal.open(path, segment_size=1 << 20) as log:
        assert [data for _, data in log] == [b"%d" % n for n in [*range(20), *range(200)]]


def test_a_thousand_commits_need_few_syncs_and_no_threads(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 20) as log:
            await log.commit(b"first")
            before, threads = log.stats().syncs, threading.active_count()
            commits = [log.commit(b"x" * 100) for _ in range(1000)]
            assert threading.active_count() == threads
            await asyncio.gather(*commits)
            syncs = log.stats().syncs - before
            # All of one turn of the loop, so one sync, or two if the first begins before all have asked.
            assert syncs <= 4, f"{syncs} syncs for 1000 commits"
            assert threading.active_count() == threads

    run(main())


def test_many_tasks(path: Path, run: Run) -> None:
    async def client(log: wal.Log, nth: int) -> list[int]:
        return [await log.commit(b"%d %d" % (nth, n)) for n in range(20)]

    async def main() -> None:
        with wal.open(path, segment_size=1 << 20) as log:
            given = await asyncio.gather(*(client(log, nth) for nth in range(100)))
            for lsns in given:
                assert lsns == sorted(lsns)
            assert sorted(sum(given, [])) == [lsn for lsn, _ in log]

    run(main())


def test_synced(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 20) as log:
            lsns = [log.append(b"x") for _ in range(10)]
            assert log.durable_lsn == 0
            assert await log.synced(lsns[3]) == lsns[3]
            assert log.durable_lsn > lsns[3]
            more = log.append(b"y")
            assert await log.synced() > more
            assert log.durable_lsn > more
            with pytest.raises(wal.InvalidArgumentError):
                await log.synced(1 << 40)

    run(main())


def test_errors_come_at_the_call_or_at_the_await(path: Path, run: Run) -> None:
    async def main() -> None:
        log = wal.open(path, max_record_size=1000)
        with pytest.raises(TypeError, match="encode"):
            await log.commit("text")  # type: ignore[arg-type]
        with pytest.raises(wal.TooLargeError):
            await log.commit(b"x" * 1001)
        assert await log.commit(b"fine") == 0
        log.close()
        with pytest.raises(wal.ClosedError):
            await log.commit(b"late")
        with pytest.raises(wal.ClosedError):
            await log.synced()

    run(main())


def test_without_a_loop_there_is_no_commit(log: wal.Log) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        log.commit(b"x")
    assert log.tail == 0


def test_closing_tells_all_that_is_pending(path: Path, run: Run) -> None:
    async def main() -> None:
        log = wal.open(path, segment_size=1 << 20)
        commits = [log.commit(b"%d" % n) for n in range(500)]
        log.close()  # in the loop's own thread, which delivers only afterwards
        lsns = await asyncio.wait_for(asyncio.gather(*commits), 10)
        assert list(lsns) == sorted(lsns) and len(set(lsns)) == 500

        log = wal.open(path, segment_size=1 << 20)
        commits = [log.commit(b"%d" % n) for n in range(500)]
        await log.aclose()
        await asyncio.wait_for(asyncio.gather(*commits), 10)

    def close(log: wal.Log) -> None:
        closer = threading.Thread(target=log.close)
        closer.start()
        closer.join()

    async def in_another_thread() -> None:
        log = wal.open(path, segment_size=1 << 20)
        commits = [log.commit(b"%d" % n) for n in range(500)]
        close(log)  # in the same turn of the loop, before any of them has asked
        await asyncio.wait_for(asyncio.gather(*commits), 10)

    run(in_another_thread())
    run(main())


def test_a_cancelled_commit_is_passed_over(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 20) as log:
            tasks = [asyncio.ensure_future(log.commit(b"%d" % n)) for n in range(100)]
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
            assert all(isinstance(result, int) for result in results[1::2])
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(log.commit(b"in time?"), 0)
            assert await log.commit(b"after") > 0
            assert len(list(log)) >= 101, "what was appended stays"

    run(main())


def test_records_that_have_to_wait_keep_their_order(path: Path, run: Run) -> None:
    async def main() -> None:
        # Without the background thread nothing makes room but an append that waits.
        with wal.open(path, segment_size=1 << 16, buffer_size=1 << 12, background=False) as log:
            commits = [log.commit(b"%05d" % n + b"x" * (n % 7 * 300)) for n in range(2000)]
            commits.append(log.commit(bytearray(b"y" * 100_000)))
            gone = log.commit(b"z" * 10_000)
            gone.cancel()
            lsns = await asyncio.gather(*commits)
            assert list(lsns) == sorted(lsns)
            data = [data for _, data in log]
            assert [int(one[:5]) for one in data[:2000]] == list(range(2000))
            assert data[2000] == b"y" * 100_000

    run(main())


def busy_executor(loop: asyncio.AbstractEventLoop) -> tuple[ThreadPoolExecutor, threading.Event]:
    """The loop's executor from now on; its one thread is busy until the event is set."""
    executor, going_on = ThreadPoolExecutor(1), threading.Event()
    loop.set_default_executor(executor)
    executor.submit(going_on.wait)
    return executor, going_on


def test_commits_that_wait_need_no_task(path: Path, run: Run) -> None:
    async def main() -> None:
        loop, tasks = asyncio.get_running_loop(), asyncio.all_tasks()
        # Where there is one: it would run a task before the call that makes it returns.
        loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
        with wal.open(path, **CROWDED) as log:
            commits = [log.commit(b"x" * 3000) for _ in range(10)]
            assert asyncio.all_tasks() == tasks, "whoever shuts a loop down cancels all tasks"
            assert len(set(await asyncio.wait_for(asyncio.gather(*commits), 20))) == 10
            assert await asyncio.wait_for(log.commit(b"y"), 20) > 0
            assert not log._channels[loop]._pending

    run(main())


def test_commits_that_wait_are_told_if_the_executor_ends(path: Path, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with wal.open(path, **CROWDED) as log:
            executor, going_on = busy_executor(loop)
            commits = [log.commit(b"x" * 3000) for _ in range(600)]
            executor.shutdown(wait=False, cancel_futures=True)
            going_on.set()
            results = await asyncio.wait_for(asyncio.gather(*commits, return_exceptions=True), 20)
            assert isinstance(results[0], int), "there was room for it"
            assert isinstance(results[1], asyncio.CancelledError) and isinstance(results[-1], RuntimeError), results[1:]
            assert len(list(log)) == 1
            loop.set_default_executor(ThreadPoolExecutor(1))
            assert len(set(await asyncio.wait_for(asyncio.gather(*(log.commit(b"y" * 3000) for _ in range(4))), 20))) == 4

    run(main())


def test_what_is_cancelled_on_its_way_leaves_nothing_behind(path: Path, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with wal.open(path, **CROWDED) as log:
            _, going_on = busy_executor(loop)
            commits = [log.commit(b"%d" % n + b"x" * 3000) for n in range(10)]
            await asyncio.sleep(0)
            for commit in commits[1::2]:
                commit.cancel()
            going_on.set()
            await asyncio.wait_for(asyncio.gather(*commits[::2]), 20)
            assert [int(data[:1]) for _, data in log] == [0, 2, 4, 6, 8]
            assert not log._channels[loop]._pending

    run(main())


def test_a_log_may_be_closed_in_the_middle_of_a_commit(path: Path) -> None:
    """As a signal handler may, or a finalizer; here the loop does, when the log looks for its channel."""

    class Loop(asyncio.SelectorEventLoop):
        victim: Optional[wal.Log] = None

        def __hash__(self) -> int:
            victim, self.victim = self.victim, None
            if victim is not None:
                victim.close()
            return id(self)

    async def main(log: wal.Log) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.victim = log
        with pytest.raises(wal.ClosedError):
            await log.commit(b"x")
        assert not log._channels

    def run_it() -> None:
        loop = Loop()
        loop.run_until_complete(main(wal.open(path)))
        loop.close()
        ended.append(True)

    ended: list[bool] = []
    thread = threading.Thread(target=run_it, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "it failed, or waits for itself"


def test_what_cannot_be_appended_cannot_wait_either(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, **CROWDED) as log:
            commits = [log.commit(b"x" * 3000) for _ in range(3)]
            with pytest.raises(BufferError):
                log.commit(memoryview(b"abcdef")[::2])
            with pytest.raises(TypeError, match="encode"):
                log.commit("text")  # type: ignore[arg-type]
            await asyncio.gather(*commits)
            assert len(list(log)) == 3

    run(main())


def test_a_waiting_record_is_what_it_was_when_handed_over(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, buffer_size=1 << 12, background=False) as log:
            data = bytearray(b"a" * 10_000)
            commit = log.commit(data)
            data[:] = b"b" * 10_000
            assert log.read(await commit) == b"a" * 10_000

    run(main())


def test_two_loops_on_one_log(path: Path, run: Run) -> None:
    with wal.open(path, segment_size=1 << 20) as log:

        async def main() -> int:
            return len(set(await asyncio.gather(*(log.commit(b"x") for _ in range(200)))))

        counts: list[int] = []
        thread = threading.Thread(target=lambda: counts.append(asyncio.run(main())))
        thread.start()
        counts.append(run(main()))
        thread.join()
        assert counts == [200, 200]
        for _ in range(30):
            assert asyncio.run(main()) == 200, "loops come and go"
        assert len(log._channels) <= 2, "what belonged to loops that are gone is gone"


def test_a_loop_that_is_closed_with_commits_pending_hurts_nobody(path: Path) -> None:
    with wal.open(path, segment_size=1 << 20) as log:

        async def main() -> None:
            for n in range(100):
                log.commit(b"%d" % n)

        for _ in range(10):
            asyncio.run(main())
        log.sync()
        assert len(list(log)) == 1000


def test_loops_that_ended_with_commits_pending_are_let_go(path: Path) -> None:
    with wal.open(path, segment_size=1 << 20) as log:

        async def main() -> None:
            log.commit(b"x")
            loop = asyncio.get_running_loop()
            loop.remove_reader(log._channels[loop]._native.fileno())  # nobody hears of it any more

        for _ in range(5):
            asyncio.run(main())
        assert len(log._channels) == 1, "that of the last loop"


def test_following_in_a_loop(path: Path, run: Run) -> None:
    async def main() -> None:
        log = wal.open(path, segment_size=1 << 20)
        seen: list[bytes] = []

        async def follow() -> None:
            async for _, data in log.follow():
                seen.append(data)

        followers = [asyncio.ensure_future(follow()) for _ in range(20)]
        for n in range(50):
            await log.commit(b"%d" % n)
        other = wal.open(path, read_only=True)
        assert [int(data) async for _, data in other.follow(timeout=0.2)] == list(range(50))
        assert [int(data) async for _, data in other.read_from()] == list(range(50))
        other.close()
        await asyncio.sleep(0.1)
        log.append(b"50")
        await log.aclose()
        await asyncio.wait_for(asyncio.gather(*followers), 20)
        assert sorted(map(int, seen)) == sorted([*range(51)] * 20)

    run(main())


def test_a_cancelled_iteration_loses_no_record(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 20) as log:
            log.append_many(b"%d" % n for n in range(5000))
            reader = log.follow(timeout=5)
            seen: list[int] = []
            cancelled = 0
            while len(seen) < 5000:
                step = asyncio.ensure_future(reader.__anext__())
                await asyncio.sleep(0)
                step.cancel()
                try:
                    seen.append(int((await step)[1]))
                except asyncio.CancelledError:
                    cancelled += 1
            assert seen == list(range(5000)) and cancelled > 0

    run(main())


def test_the_loop_goes_on_while_the_disk_is_busy(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 22, buffer_size=1 << 16) as log:
            commits = [log.commit(b"x" * (1 << 20)) for _ in range(64)]
            longest, done = 0.0, asyncio.gather(*commits)
            while not done.done():
                begun = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - begun)
            assert longest < 0.5, f"the loop stood still for {longest:.3f} s"

    run(main())


def test_a_follower_ends_after_an_error(path: Path, run: Run) -> None:
    async def main() -> None:
        with wal.open(path, segment_size=1 << 16, buffer_size=1 << 14) as log:
            lsns = [log.append(b"x" * 100) for _ in range(3000)]
            log.sync()
            reader = log.follow(lsns[0])
            log.truncate_before(lsns[-1])
            with pytest.raises(wal.TruncatedError):
                await reader.__anext__()
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(reader.__anext__(), 20)

    run(main())


def test_a_close_that_is_cancelled_closes(path: Path, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor, go_on = busy_executor(loop)
        used: list[wal.Log] = []

        async def use() -> None:
            async with wal.open(path) as log:
                used.append(log)

        user = asyncio.ensure_future(use())
        await asyncio.sleep(0.05)
        for _ in range(3):
            user.cancel()
            await asyncio.sleep(0.01)
        assert not user.done(), "the log is still to be closed"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await user
        assert used[0].closed
        executor.shutdown()

    run(main())


def test_what_an_interrupt_keeps_from_being_told_is_told_later(path: Path) -> None:
    class Interrupting(asyncio.Future):  # type: ignore[type-arg]
        """Its thirtieth result comes with a Ctrl-C."""

        results = 0

        def set_result(self, result: Any) -> None:
            Interrupting.results += 1
            super().set_result(result)
            if Interrupting.results == 30:
                raise KeyboardInterrupt

    with wal.open(path) as log:
        loop = asyncio.new_event_loop()
        futures: list[asyncio.Future[int]] = []

        async def main() -> None:
            loop.create_future = lambda: Interrupting(loop=loop)  # type: ignore[method-assign]
            futures.extend(log.commit(b"%d" % n) for n in range(100))
            del loop.create_future
            await asyncio.sleep(20)

        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
        assert sum(future.done() for future in futures) < 100
        loop.run_until_complete(asyncio.wait_for(asyncio.gather(*futures), 20))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
