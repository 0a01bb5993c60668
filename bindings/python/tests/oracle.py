"""A workload in a process that is killed, and the judge of what it leaves.

The child reports each append and each promise in one write to a pipe, which keeps it whole whatever kills the child. A
payload says which append it belongs to, and is otherwise derived from that, so that the judge needs no copy of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import wal

OPTIONS = {"segment_size": 1 << 16, "buffer_size": 1 << 14}
THREADS = 4


def payload(counter: int, size: int) -> bytes:
    """16 bytes that say what it is, and bytes that follow from them."""
    return counter.to_bytes(8, "little") + size.to_bytes(8, "little") + random.Random(counter).randbytes(size - 16)


class Judge:
    """Knows what was appended and promised; shares no code with the log."""

    def __init__(self) -> None:
        self.appended: dict[int, tuple[int, int]] = {}
        self.promised = 0
        self.heard: dict[str, int] = {}

    def hear(self, lines: Iterable[str]) -> None:
        """Takes a child's reports: `append LSN COUNTER SIZE ...`, `promise POSITION`."""
        for line in lines:
            what, *numbers = line.split()
            self.heard[what] = self.heard.get(what, 0) + 1
            if what == "append":
                for lsn, counter, size in zip(*[iter(map(int, numbers))] * 3):
                    assert lsn not in self.appended, f"LSN {lsn} was given twice"
                    self.appended[lsn] = (counter, size)
            elif what == "promise":
                # Everything that begins below was acknowledged as flushed or durable.
                self.promised = max(self.promised, int(numbers[0]))
            else:
                assert what in ("opened", "closed"), line

    def check(self, path: Path) -> None:
        """Judges the log: all that was promised is there, nothing was made up, nothing stands behind a hole.

        What it holds becomes the truth: a recovery makes durable what it finds.
        """
        expected = sorted(self.appended)
        nth = 0
        found: dict[int, tuple[int, int]] = {}
        with wal.open(path, **OPTIONS) as log:  # type: ignore[arg-type]
            kinds = []
            for lsn, data, kind in log.read_from().records():
                counter, size = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little")
                assert data == payload(counter, size), f"the record at {lsn} is not what anybody appended"
                if nth < len(expected) and expected[nth] == lsn:
                    assert self.appended[lsn] == (counter, size), f"another record at {lsn}"
                    nth += 1
                else:
                    # An append that was made and not reported: its thread died in between.
                    assert nth == len(expected) or expected[nth] > lsn, f"the record at {expected[nth]} is missing"
                    assert (counter, size) not in self.appended.values()
                found[lsn] = (counter, size)
                kinds.append(kind)
            assert wal.Kind.BATCH not in kinds[-1:], "half a batch"
            lost = expected[nth:]
            assert not lost or lost[0] >= self.promised, f"{lost[0]} is lost, promised up to {self.promised}"
            self.promised = log.tail
        self.appended = found


def report(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def work(log: wal.Log, thread: int, round_: int, seed: int) -> None:
    rng = random.Random(f"{seed} {round_} {thread}")
    counter = (thread << 56) | (round_ << 32)

    def record() -> tuple[int, bytes]:
        nonlocal counter
        counter += 1
        size = 16 + (20_000 if rng.random() < 0.02 else rng.randrange(400))
        return counter, payload(counter, size)

    while True:
        chosen = rng.randrange(10)
        if chosen < 5:
            number, data = record()
            lsn = log.append(data if chosen else bytearray(data))
            report(f"append {lsn} {number} {len(data)}")
        elif chosen < 6:
            batch = [record() for _ in range(rng.randrange(1, 6))]
            lsns = log.append_many(data for _, data in batch)
            report("append " + " ".join(f"{lsn} {number} {len(data)}" for lsn, (number, data) in zip(lsns, batch)))
        elif chosen < 7:
            tail = log.tail
            log.flush()
            report(f"promise {tail}")
        elif chosen < 8:
            tail = log.tail
            log.sync()
            report(f"promise {tail}")
        else:
            number, data = record()
            lsn = log.append_and_sync(data)
            report(f"append {lsn} {number} {len(data)}\npromise {lsn + 1}")


async def commits(log: wal.Log, round_: int, seed: int) -> None:
    rng = random.Random(f"{seed} {round_} tasks")
    counter = (THREADS << 56) | (round_ << 32)

    async def one() -> None:
        nonlocal counter
        counter += 1
        number, data = counter, payload(counter, 16 + rng.randrange(400))
        lsn = await log.commit(data)
        report(f"append {lsn} {number} {len(data)}\npromise {lsn + 1}")

    while True:
        await asyncio.gather(*(one() for _ in range(rng.randrange(1, 50))))


def main() -> None:
    path, seed, round_ = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    log = wal.open(path, **OPTIONS)  # type: ignore[arg-type]
    report("opened")
    for thread in range(THREADS):
        threading.Thread(target=work, args=(log, thread, round_, seed), daemon=True).start()
    asyncio.run(commits(log, round_, seed))


if __name__ == "__main__":
    main()
