"""What the tests share. They test the installed package: nothing of the source tree is on the path."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wal

SMALL = {"segment_size": 1 << 16, "buffer_size": 1 << 14}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[wal.Log]:
    with wal.open(path, segment_size=1 << 16, buffer_size=1 << 14) as log:
        yield log


def loops() -> list[Any]:
    """Each kind of event loop there is here."""
    kinds = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        installed = sys.platform != "win32" and "free-threading" not in sys.version
        if installed and os.environ.get("LIBWAL_NO_SKIP") == "1":
            raise
        kinds.append(pytest.param(None, id="uvloop", marks=pytest.mark.skip("no uvloop here")))
    else:
        kinds.append(pytest.param(uvloop.new_event_loop, id="uvloop"))
    return kinds


@pytest.fixture(params=loops())
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a coroutine on a new loop, as asyncio.run does."""

    def run(main: Any) -> Any:
        loop = request.param()
        loop.set_debug(False)  # it takes the time of a sync to make a future in debug mode
        try:
            return loop.run_until_complete(asyncio.wait_for(main, 60))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            gc.collect()

    return run


def python(code: str, *arguments: object, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program in another interpreter."""
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
