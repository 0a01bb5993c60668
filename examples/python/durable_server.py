"""An asyncio server that acknowledges only what is durable.

A client sends lines; the server answers each with its LSN, once the line is on stable storage. All clients share the
syncs, and no thread waits for any of them. Then the server is killed, and everything it acknowledged is in the log.

Run with `python examples/python/durable_server.py`, with the wheel installed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import wal

CLIENTS = 50


async def serve(path: Path) -> None:
    log = wal.open(path)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            lsn = await log.commit(line.rstrip(b"\n"))
            writer.write(b"%d\n" % lsn)
            await writer.drain()
        writer.close()

    async with log:
        server = await asyncio.start_server(client, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()


async def talk(port: int, nth: int, acknowledged: dict[int, bytes]) -> None:
    """Sends lines and notes what was acknowledged, until the server is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for n in range(1 << 30):
            line = b"client %d line %d" % (nth, n)
            writer.write(line + b"\n")
            answer = await reader.readline()
            if not answer.endswith(b"\n"):
                break
            acknowledged[int(answer)] = line
    except ConnectionError:
        pass
    finally:
        writer.close()


async def clients(port: int, server: subprocess.Popen[str]) -> dict[int, bytes]:
    acknowledged: dict[int, bytes] = {}
    talks = [asyncio.ensure_future(talk(port, nth, acknowledged)) for nth in range(CLIENTS)]
    while len(acknowledged) < 20 * CLIENTS:
        await asyncio.sleep(0.01)
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.gather(*talks)
    return acknowledged


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            acknowledged = asyncio.run(clients(int(server.stdout.readline()), server))
        with wal.open(path) as log:
            found = dict(log)
        for lsn, line in acknowledged.items():
            assert found.get(lsn) == line, f"{line!r} was acknowledged at {lsn} and is not there"
        print(f"{len(acknowledged)} lines were acknowledged, all of them are among the {len(found)} in the log")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(Path(sys.argv[1])))
    else:
        main()
