"""What a log tells of itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Optional, TypeVar, Union

__all__ = ["Damage", "FileDamage", "Kind", "Record", "Report", "Stats"]


class Kind(enum.Enum):
    """What a record is."""

    DATA = "data"
    """Appended on its own."""
    CHECKPOINT = "checkpoint"
    """Appended by `checkpoint`."""
    BATCH = "batch"
    """A member of an atomic batch; more follow."""
    BATCH_END = "batch_end"
    """The last member of an atomic batch."""


# By the number that the format gives each kind.
KINDS = {1: Kind.DATA, 2: Kind.CHECKPOINT, 3: Kind.BATCH, 4: Kind.BATCH_END}


_Data = TypeVar("_Data", bytes, memoryview, Union[bytes, memoryview])

if TYPE_CHECKING:

    class Record(NamedTuple, Generic[_Data]):
        lsn: int
        data: _Data
        kind: Kind

else:
    # Only from 3.11 on can a named tuple be generic at run time.
    class Record(NamedTuple):
        """A record with all that is known of it."""

        lsn: int
        data: Union[bytes, memoryview]
        kind: Kind


class Damage(NamedTuple):
    """A range of acknowledged data that cannot be read."""

    start: int
    """Where it begins."""
    end: int
    """Where reading goes on."""
    path: str
    """The file in which it begins."""
    reason: str
    """What does not fit there."""


class FileDamage(NamedTuple):
    """A file of a log that is not what it should be."""

    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What `verify` found."""

    head: int
    """The first position of the log."""
    tail: int
    """The end of the log."""
    segments: int
    """How many segments the log has, those prepared ahead included."""
    records: int
    """How many valid records it holds, the log's own not counted."""
    payload_bytes: int
    """How many bytes their payloads have."""
    closed_cleanly: bool
    """Whether it was closed cleanly."""
    checkpoint: Optional[int]
    """The last valid checkpoint record."""
    torn_tail: Optional[int]
    """The end of the log, if bytes follow it that are no record and were never acknowledged. No damage."""
    files: tuple[FileDamage, ...]
    """Files that are missing, of another log, of a wrong length, or with a damaged header."""
    damage: tuple[Damage, ...]
    """Ranges of acknowledged data that cannot be read."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.files and not self.damage


@dataclass(frozen=True)
class Stats:
    """What a log has done since it was opened, and where it stands.

    Each number is exact; they are not all taken at the same instant.
    """

    durable: int
    """Everything below is on stable storage."""
    flushed: int
    """Everything below is with the operating system."""
    published: int
    """Everything below is complete in the buffer, as far as a flush has looked."""
    reserved: int
    """The end of all claimed positions."""
    head: int
    """The first position that can be read."""
    checkpoint: Optional[int]
    """The last durable checkpoint."""
    closed_cleanly: bool
    """Whether the log had been closed cleanly when it was opened; false for a new one."""
    segments: int
    """How many segments the log has, those prepared ahead included."""
    segment_size: int
    """How many bytes of the stream each segment holds."""
    buffer_size: int
    """The size of the buffer in bytes."""
    shared_buffer: bool
    """Whether the buffer outlives the process; read-only: whether there is such a buffer, in use or left behind."""
    records: int
    """Records flushed, the log's own markers included."""
    bytes: int
    """Bytes of the stream flushed."""
    flushes: int
    """Writes of a part of the buffer."""
    direct_writes: int
    """Writes of records larger than the buffer."""
    syncs: int
    """Group commits: syncs that made something durable."""
    records_synced: int
    """Records that these syncs made durable."""
    waits: int
    """Times an append had to wait because the buffer was full."""
    sync_latency: tuple[tuple[float, int], ...]
    """Pairs of an upper bound in seconds, exclusive, and how many syncs lay below it and not below half of it."""

    @property
    def records_per_sync(self) -> float:
        """How many records a sync made durable on average."""
        return self.records_synced / self.syncs if self.syncs else 0.0
