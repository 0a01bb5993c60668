"""The examples in the docstrings run, and the stubs say what the objects say."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib.metadata
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wal
from wal import _wal


def documented() -> Iterator[tuple[str, str]]:
    yield "wal", wal.__doc__ or ""
    for name in wal.__all__:
        thing = getattr(wal, name)
        if not isinstance(thing, str):
            yield f"wal.{name}", inspect.getdoc(thing) or ""
        if inspect.isclass(thing):
            for attribute in dir(thing):
                if not attribute.startswith("_") or attribute in ("__iter__", "__anext__"):
                    yield f"wal.{name}.{attribute}", getattr(getattr(thing, attribute), "__doc__", None) or ""


EXAMPLES = {name: text for name, text in documented() if ">>>" in text}


def run(name: str, text: str) -> doctest.TestResults:
    names = {"wal": wal, "asyncio": asyncio, "os": os}
    test = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = run(name, EXAMPLES[name])
    assert results.attempted > 0 and results.failed == 0


def test_the_readme_s_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    readme = importlib.metadata.metadata("libwal").json["description"]
    assert isinstance(readme, str)
    first, second = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(first, {})
    names: dict[str, Any] = {}
    exec(second, names)

    async def main() -> object:
        async with wal.open("orders.wal") as log:
            return await names["handle"](log, b"request")

    assert asyncio.run(main()) == "accepted"
    with wal.open("orders.wal") as log:
        assert [data for _, data in log] == [b"order 17", b"debit a 5", b"credit b 5", b"request"]


def test_there_are_examples_and_they_can_fail() -> None:
    assert len(EXAMPLES) >= 14, sorted(EXAMPLES)
    assert run("planted", ">>> 1 + 1\n3\n").failed == 1


def test_everything_public_is_documented() -> None:
    inherited = set(dir(OSError)) | set(dir(tuple)) | {"lsns", "kind", "data", "lsn"}
    own = [name for name, text in documented() if not text and name.rsplit(".", 1)[1] not in inherited]
    assert own == []


def test_the_stub_has_the_docstrings_of_the_objects() -> None:
    stub = ast.parse((Path(wal.__file__).parent / "_wal.pyi").read_text())
    compared = 0
    for part in ast.walk(stub):
        if not isinstance(part, (ast.ClassDef, ast.FunctionDef)):
            continue
        members: list[tuple[Any, ast.AST]] = [(getattr(_wal, part.name, None), part)]
        if isinstance(part, ast.ClassDef):
            owner = getattr(_wal, part.name, None)
            members += [(getattr(owner, f.name), f) for f in part.body if isinstance(f, ast.FunctionDef) if owner]
        for thing, node in members:
            assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
            text = ast.get_docstring(node)
            if text is not None and thing is not None:
                assert text == inspect.cleandoc(thing.__doc__ or ""), node.name
                compared += 1
    assert compared > 30


def test_append_is_documented_as_it_is_declared() -> None:
    source = ast.parse((Path(wal.__file__).parent / "_log.py").read_text())
    declared = [node for node in ast.walk(source) if isinstance(node, ast.FunctionDef) and node.name == "append"]
    assert [ast.get_docstring(node) for node in declared] == [inspect.getdoc(wal.Log.append)]
