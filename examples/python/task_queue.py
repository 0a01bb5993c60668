"""A durable task queue: tasks survive a crash, each is done at least once, and the log is truncated behind them.

The log holds two kinds of messages: `put` with a task, and `done` with the LSN of the task that was finished. What is put
and not done is read back from the log when the queue is opened; a checkpoint holds it, so that the log can be truncated.

Run with `python examples/python/task_queue.py`, with the wheel installed.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Optional

import wal


class TaskQueue:
    """Tasks are strings. `put` returns when the task is durable; any number of threads may `get` and `done`."""

    def __init__(self, path: Path) -> None:
        self.log = wal.open(path, segment_size=1 << 16)
        self.open: dict[int, str] = {}  # by the LSN under which a task was put first
        self.lock = threading.Lock()
        self.since_checkpoint = 0
        for record in self.log.from_checkpoint().records():
            self._replay(record)
        self.ready: queue.SimpleQueue[Optional[int]] = queue.SimpleQueue()
        for lsn in sorted(self.open):
            self.ready.put(lsn)

    def _replay(self, record: wal.Record[bytes]) -> None:
        message = json.loads(record.data)
        if record.kind is wal.Kind.CHECKPOINT:
            self.open = {int(lsn): task for lsn, task in message.items()}
        elif "put" in message:
            self.open[record.lsn] = message["put"]
        else:
            self.open.pop(message["done"], None)

    def put(self, task: str) -> int:
        """Accept a task. Threads that put at the same time share one sync."""
        data = json.dumps({"put": task}).encode()
        # Under the lock nothing is waited for but memory: a checkpoint must not come between the two lines.
        with self.lock:
            lsn = self.log.append(data)
            self.open[lsn] = task
        self.log.sync_to(lsn)
        self.ready.put(lsn)
        return lsn

    def get(self) -> Optional[tuple[int, str]]:
        """A task that nobody else has, or `None` when the queue is closed."""
        lsn = self.ready.get()
        return None if lsn is None else (lsn, self.open[lsn])

    def done(self, lsn: int) -> None:
        """The task is finished. Not synced at once: if a crash loses this, the task is done once more."""
        with self.lock:
            self.log.append(json.dumps({"done": lsn}).encode())
            del self.open[lsn]
            self.since_checkpoint += 1
            if self.since_checkpoint >= 500:
                self.since_checkpoint = 0
                self.log.truncate_before(self.log.checkpoint(json.dumps(self.open).encode()))

    def close(self, workers: int = 0) -> None:
        for _ in range(workers):
            self.ready.put(None)
        self.log.close()


def killed_in_the_middle(path: Path) -> None:
    """Puts tasks, tells of each that was accepted, does some of them, and dies without a word."""
    tasks = TaskQueue(path)
    for n in range(1000):
        tasks.put(f"task {n}")
        print(n, flush=True)
        if n % 3 == 0 and (task := tasks.get()):
            tasks.done(task[0])
    tasks.log.flush()
    os.kill(os.getpid(), 9)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "queue"
        child = subprocess.run([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True)
        accepted = [f"task {n}" for n in child.stdout.split()]
        assert child.returncode == -9 and len(accepted) == 1000

        tasks = TaskQueue(path)
        finished = set(accepted) - set(tasks.open.values())
        print(f"after the crash: {len(tasks.open)} of {len(accepted)} tasks are open; the log begins at {tasks.log.head}")
        left = len(tasks.open)

        def work() -> None:
            nonlocal left
            while (task := tasks.get()) is not None:
                lsn, name = task
                finished.add(name)
                tasks.done(lsn)
                with tasks.lock:
                    left -= 1
                    if left == 0:
                        for _ in range(4):
                            tasks.ready.put(None)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert finished == set(accepted), "every task that was accepted was done"
        tasks.close()

        tasks = TaskQueue(path)
        assert tasks.open == {} and tasks.log.head > 0
        print(f"all done; the log begins at {tasks.log.head}")
        tasks.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        killed_in_the_middle(Path(sys.argv[1]))
    else:
        main()
