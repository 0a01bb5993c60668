"""Whatever is appended comes back, however it was appended, and across any number of opens."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import wal

# Some that look like nothing, some longer than the buffer.
payloads = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 40_000).map(lambda size: b"\0" * size),
    st.integers(0, 40_000).map(lambda size: b"\xff" * size),
)


class Life(RuleBasedStateMachine):
    """A log beside a list."""

    def __init__(self) -> None:
        super().__init__()
        self.dir = tempfile.TemporaryDirectory()
        self.path = Path(self.dir.name) / "log"
        self.model: list[tuple[int, bytes]] = []
        self.checkpoint: int = -1
        self.open()

    def open(self) -> None:
        self.log = wal.open(self.path, segment_size=1 << 14, buffer_size=1 << 13)

    @rule(data=payloads)
    def append(self, data: bytes) -> None:
        self.model.append((self.log.append(data), data))

    @rule(data=payloads)
    def append_buffer(self, data: bytes) -> None:
        self.model.append((self.log.append(bytearray(data)), data))

    @rule(records=st.lists(payloads, max_size=6), atomic=st.booleans())
    def append_many(self, records: list[bytes], atomic: bool) -> None:
        self.model.extend(zip(self.log.append_many(records, atomic=atomic), records))

    @rule(data=payloads)
    def append_and_sync(self, data: bytes) -> None:
        self.model.append((self.log.append_and_sync(data), data))
        assert self.log.durable_lsn > self.model[-1][0]

    @rule(data=payloads)
    def make_checkpoint(self, data: bytes) -> None:
        self.checkpoint = self.log.checkpoint(data)
        self.model.append((self.checkpoint, data))

    @precondition(lambda self: self.model)
    @rule(nth=st.integers(0, 10**6))
    def truncate(self, nth: int) -> None:
        before = self.model[nth % len(self.model)][0]
        self.log.sync()
        head = self.log.truncate_before(before)
        assert head <= before
        self.model = [(lsn, data) for lsn, data in self.model if lsn >= head]
        if self.checkpoint < head:
            self.checkpoint = -1

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.open()
        assert self.log.stats().closed_cleanly

    @rule(nth=st.integers(0, 10**6), size=st.integers(1, 50))
    def read(self, nth: int, size: int) -> None:
        if self.model:
            at = nth % len(self.model)
            assert self.log.read(self.model[at][0]) == self.model[at][1]
            assert self.log.read_from(self.model[at][0]).read_batch(size) == self.model[at : at + size]

    @invariant()
    def the_log_is_the_list(self) -> None:
        assert list(self.log) == self.model
        assert self.log.last_checkpoint == (None if self.checkpoint < 0 else self.checkpoint)

    def teardown(self) -> None:
        self.log.close()
        assert wal.verify(self.path).is_sound
        self.dir.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@settings(max_examples=25, deadline=None)
@given(st.lists(payloads, max_size=30), st.integers(1, 40))
def test_batches_have_the_size_asked_for(records: list[bytes], size: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with wal.open(Path(directory) / "log", segment_size=1 << 16) as log:
            lsns = log.append_many(records)
            batches = list(log.read_from().batches(size))
            assert [pair for batch in batches for pair in batch] == list(zip(lsns, records))
            assert all(len(batch) == size for batch in batches[:-1])
            assert all(0 < len(batch) <= size for batch in batches)
