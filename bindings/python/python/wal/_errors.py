"""The exceptions of the log. Each has the `code` that the Rust and C interfaces use for the same error."""

from __future__ import annotations

import os
from typing import ClassVar, Optional

__all__ = [
    "AccessError",
    "ClosedError",
    "CorruptError",
    "ForkedError",
    "FullError",
    "InvalidArgumentError",
    "LockedError",
    "NoSpaceError",
    "NotFoundError",
    "PoisonedError",
    "TooLargeError",
    "TruncatedError",
    "UnsupportedVersionError",
    "WalError",
    "WalIOError",
]


class WalError(Exception):
    """Whatever a log can fail with. Tell errors apart by class or by `code`, never by their text."""

    code: ClassVar[int] = 0
    lsns: list[int]
    """Of `append_many(..., atomic=False)` only: the records that were appended before this happened."""


class WalIOError(WalError, OSError):
    """The operating system refused an operation on a file: see `errno`, `filename`, and `operation`."""

    code = -1

    def __init__(self, errno: Optional[int], strerror: str, filename: str, operation: str = "") -> None:
        OSError.__init__(self, errno, strerror, filename)
        self.errno = errno
        self.strerror = strerror
        self.filename = os.fspath(filename)
        self.operation = operation

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.filename, self.operation), self.__dict__

    def __str__(self) -> str:
        what = f"{self.operation} " if self.operation else ""
        return f"{what}{self.filename}: {self.strerror}"


class NotFoundError(WalIOError, FileNotFoundError):
    """There is no log, or a part of it is missing."""


class AccessError(WalIOError, PermissionError):
    """The operating system does not permit it."""


class NoSpaceError(WalError, OSError):
    """There is no disk space for the record.

    Nothing was appended, and nothing accepted earlier is affected. Appends work again once space is freed.
    """

    code = -2

    def __init__(self, errno: int, strerror: str, filename: str) -> None:
        OSError.__init__(self, errno, strerror, filename)
        self.errno = errno
        self.strerror = strerror
        self.filename = os.fspath(filename)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno, self.strerror, self.filename), self.__dict__

    def __str__(self) -> str:
        return f"{self.strerror} in {self.filename}"


class _Told(WalError):
    """An error with a text, and facts behind it that `args` carries too."""

    def __str__(self) -> str:
        return str(self.args[0])


class CorruptError(_Told):
    """Acknowledged data, or a structure of the log, is damaged or missing: at `lsn`, in the file `path`."""

    code = -3

    def __init__(self, text: str, lsn: int, path: str) -> None:
        super().__init__(text, lsn, os.fspath(path))
        self.lsn = lsn
        self.path = os.fspath(path)


class LockedError(_Told):
    """The log in the directory `path` is open for writing elsewhere, in this process or in another one."""

    code = -4

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, os.fspath(path))
        self.path = os.fspath(path)


class PoisonedError(_Told):
    """An earlier write or sync failed; the log accepts nothing until it is opened again.

    `__cause__` is the first failure.
    """

    code = -5

    def __init__(self, text: str) -> None:
        super().__init__(text)


class ClosedError(_Told, ValueError):
    """The log was closed."""

    code = -6

    def __init__(self, text: str) -> None:
        super().__init__(text)


class TooLargeError(_Told, ValueError):
    """A record or batch of `len` bytes is longer than the limit of `max` bytes."""

    code = -7

    def __init__(self, text: str, len: int, max: int) -> None:
        super().__init__(text, len, max)
        self.len = len
        self.max = max


class FullError(_Told):
    """`try_append` would have had to wait."""

    code = -8

    def __init__(self, text: str) -> None:
        super().__init__(text)


class InvalidArgumentError(_Told, ValueError):
    """An argument is outside its domain, or a position is not the beginning of a record."""

    code = -9

    def __init__(self, text: str) -> None:
        super().__init__(text)


class TruncatedError(_Told):
    """The position was truncated away; the log begins at `head`."""

    code = -10

    def __init__(self, text: str, head: int) -> None:
        super().__init__(text, head)
        self.head = head


class ForkedError(_Told):
    """The log was opened before a fork, and this is the child: only the parent may use it."""

    code = -11

    def __init__(self, text: str) -> None:
        super().__init__(text)


class UnsupportedVersionError(_Told):
    """The file `path` has the format version `found`; this library reads up to `supported`."""

    code = -12

    def __init__(self, text: str, path: str, found: int, supported: int) -> None:
        super().__init__(text, os.fspath(path), found, supported)
        self.path = os.fspath(path)
        self.found = found
        self.supported = supported


for _name in __all__:
    globals()[_name].__module__ = "wal"
