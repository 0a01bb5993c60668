"""A process that is killed at any instant loses nothing that it was told is safe."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import oracle
import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="kills as Unix does")
def test_a_killed_process_loses_nothing(path: Path) -> None:
    seed = int(os.environ.get("LIBWAL_SEED", os.getpid()))
    print(f"replay with LIBWAL_SEED={seed}")
    rng = random.Random(seed)
    judge = oracle.Judge()
    for round_ in range(1, 13):
        command = [sys.executable, str(Path(oracle.__file__)), str(path), str(seed), str(round_)]
        # Some die while they recover, or have hardly begun.
        patience = 1 + rng.randrange(3 if round_ % 4 == 0 else 1500)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = []
            for line in child.stdout:
                lines.append(line)
                if len(lines) == patience:
                    child.kill()
        judge.hear(line for line in lines if line.endswith("\n"))
        judge.check(path)
    assert judge.heard["append"] > 500 and judge.heard["promise"] > 200, judge.heard


def test_the_judge_judges(path: Path) -> None:
    import wal

    def told(*lines: str) -> oracle.Judge:
        judge = oracle.Judge()
        judge.hear(lines)
        return judge

    with wal.open(path, **oracle.OPTIONS) as log:  # type: ignore[arg-type]
        one, two = log.append(oracle.payload(1, 20)), log.append(oracle.payload(2, 30))
    told(f"append {one} 1 20 {two} 2 30", f"promise {two + 1}").check(path)
    told(f"append {one} 1 20", f"append {two + 40} 3 20").check(path)
    with pytest.raises(AssertionError, match="is lost"):
        told(f"append {one} 1 20 {two} 2 30 {two + 40} 3 20", f"promise {two + 41}").check(path)
    with pytest.raises(AssertionError, match="another record"):
        told(f"append {one} 7 20").check(path)
    with pytest.raises(AssertionError, match="missing"):
        told(f"append {one} 1 20 {one + 8} 2 30").check(path)
    with pytest.raises(AssertionError, match="twice"):
        told(f"append {one} 1 20", f"append {one} 2 20")
