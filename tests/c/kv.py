#!/usr/bin/env python3
"""Kills the key-value store of examples/c/kv.c in the middle of its work, and judges what it finds again.

    kv.py KV SCRATCH [--hello HELLO] [--seed N] [--rounds N]

KV is the program, SCRATCH a directory for the logs, HELLO the program of examples/c/hello.c.

The oracle is a dictionary. Commands are executed in order, and a log that lost its tail is a prefix of itself. So what
is found after a kill must be the state after the first n commands that were sent, for some n that is not below the
number of replies. Values never repeat, so a state tells which commands it contains.
"""

import argparse
import fcntl
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

KEYS = [f"key-{n}" for n in range(150)]
SEGMENT = 16 << 10
GROWTH = 64 << 10
# What may lie on the disk: the growth between two checkpoints, the commands that one read may bring on top of it, the
# table twice, and the segments that are kept, begun, or prepared; each with a header of 4 KiB.
MOST_BYTES = (GROWTH + (64 << 10) + 2 * (64 << 10) + 6 * SEGMENT) // SEGMENT * (SEGMENT + 4096)
PATIENCE = 120


class Failed(Exception):
    pass


def expect(as_expected, message):
    if not as_expected:
        raise Failed(message)


class Kv:
    """One run of the program."""

    def __init__(self, options, directory, *limits, under=()):
        limits = limits or (GROWTH, SEGMENT)
        self.errors = open(os.path.join(options.scratch, "stderr"), "w+b")
        command = [*under, options.kv, directory, *map(str, limits)]
        pipe = subprocess.PIPE
        # The leak check of the address sanitizer cannot run under strace.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"} if under else None
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, bufsize=0, env=environment)
        self.input, self.output = self.child.stdin.fileno(), self.child.stdout.fileno()
        self.unread = b""

    def send(self, data):
        while data:
            data = data[os.write(self.input, data):]

    def more(self, timeout=PATIENCE):
        """What can be read, b"" at the end, or None if nothing came in time."""
        if not select.select([self.output], [], [], timeout)[0]:
            return None
        return os.read(self.output, 1 << 20)

    def replies(self, count):
        """The next replies."""
        while self.unread.count(b"\n") < count:
            more = self.more()
            expect(more is not None, "a reply is missing")
            expect(more != b"", f"the program ended without a reply: {self.told()}")
            self.unread += more
        *lines, self.unread = self.unread.split(b"\n", count)
        return [line.decode() for line in lines]

    def ask(self, *lines):
        # A thread of its own, so that neither side waits for the other to read.
        sender = threading.Thread(target=self.send, args=(b"".join(line.encode() + b"\n" for line in lines),))
        sender.start()
        replies = self.replies(len(lines))
        sender.join()
        return replies

    def kill(self):
        """Kills it; returns the lines that it had still written."""
        self.child.send_signal(signal.SIGKILL)
        code = self.child.wait()
        expect(code == -signal.SIGKILL, f"it was not killed but ended with {code}: {self.told()}")
        while more := self.more():
            self.unread += more
        lines = self.unread.split(b"\n")[:-1]
        self.release()
        return [line.decode() for line in lines]

    def end(self, expected=0):
        """Ends its input and waits for it. What it said on standard error."""
        self.child.stdin.close()
        while more := self.more():
            self.unread += more
        code = self.child.wait(PATIENCE)
        told = self.told()
        expect(code == expected, f"it ended with {code}, not {expected}: {told}")
        self.release()
        return told

    def told(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def release(self):
        for file in (self.child.stdin, self.child.stdout, self.errors):
            file.close()


def state_of(kv):
    """All that the program holds."""
    count, *values = kv.ask("count", *(f"get {key}" for key in KEYS))
    state = {key: value[6:] for key, value in zip(KEYS, values) if value.startswith("value ")}
    expect(all(value == "none" or value.startswith("value ") for value in values), "a reply to `get` is something else")
    expect(count == f"value {len(state)}", f"it counts {count}, but {len(state)} keys that were ever set are there")
    return state


def execute(state, line):
    """The oracle: changes the state, and returns the reply."""
    word, *rest = line.split(" ", 2)
    if word == "set":
        state[rest[0]] = rest[1]
    elif word == "get":
        return f"value {state[rest[0]]}" if rest[0] in state else "none"
    elif word == "del":
        return "none" if state.pop(rest[0], None) is None else "ok"
    elif word == "count":
        return f"value {len(state)}"
    return "ok"


class Commands:
    def __init__(self, random):
        self.random, self.serial = random, 0

    def value(self, length=None):
        self.serial += 1
        if length is None:
            length = self.random.choice([0, 10, 100, 400, 1000, 2000])
            if self.random.random() < 0.002:
                length = SEGMENT + SEGMENT // 2
        return f"{self.serial} " + "x" * self.random.randint(0, length)

    def one(self):
        dice, key = self.random.random(), self.random.choice(KEYS)
        if dice < 0.68:
            return f"set {key} {self.value()}"
        if dice < 0.88:
            return f"del {key}"
        if dice < 0.97:
            return f"get {key}"
        return self.random.choice(["count", "count", "count", "sync", "checkpoint"])

    def some(self, most):
        return [self.one() for _ in range(self.random.randint(1, most))]


def send_all(kv, bursts, sent, pauses):
    for burst, pause in zip(bursts, pauses):
        sent.extend(burst)
        try:
            kv.send(b"".join(line.encode() + b"\n" for line in burst))
        except (BrokenPipeError, ValueError, OSError):
            return
        time.sleep(pause)


def killed(kv, commands, rng, style):
    """Sends commands and kills the program. Returns what was sent, and the replies."""
    sent, replies, bursts = [], [], []
    if style == "stream":
        # Killed when some reply has come, while more is being sent.
        bursts = [commands.some(150) for _ in range(25)]
        wait_for, linger = rng.randint(1, sum(map(len, bursts)) * 3 // 4), rng.choice([0, 0, rng.uniform(0, 0.003)])
    elif style == "unread":
        # Nobody reads, so the program stands in the middle of writing replies, and each that can be read from the pipe
        # is an acknowledgement. One that was given before its change was with the operating system is found out here:
        # the changes are too short to be flushed for lack of buffer, and the commands are read at once, because they
        # have no more than the 4096 bytes that a pipe takes whole. The replies to `count` fill the other pipe.
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(kv.output, fcntl.F_SETPIPE_SZ, 4096)
        bursts = [[f"set {rng.choice(KEYS)} {commands.value(0)}" for _ in range(20)] + ["count"] * 550]
        wait_for, linger = 0, rng.uniform(0.03, 0.08)
    elif style == "checkpoint":
        # Killed in the middle of a checkpoint or a truncation, with changes of the same read before and behind it.
        bursts = [commands.some(40) + ["checkpoint"] + commands.some(20) for _ in range(25)]
        wait_for, linger = rng.randint(1, 600), rng.uniform(0, 0.004)
    pauses = [rng.choice([0, 0, 0.002]) for _ in bursts]
    sender = threading.Thread(target=send_all, args=(kv, bursts, sent, pauses))
    sender.start()
    if wait_for:
        replies += kv.replies(min(wait_for, sum(map(len, bursts))))
    time.sleep(linger)
    replies += kv.kill()
    sender.join()
    return sent, replies


def judge(before, sent, replies, found):
    """What is found must be the state after some number of commands, all that were answered included. Returns that
    state, and how many changes were acknowledged."""
    state, acknowledged = dict(before), 0
    for line, reply in zip(sent, replies):
        right = execute(state, line)
        expect(reply == right, f"the reply to {line[:40]!r} was {reply[:40]!r} and should have been {right[:40]!r}")
        acknowledged += reply == "ok" and line[:3] in ("set", "del")
    expect(len(replies) <= len(sent), "there are more replies than commands")
    later = sent[len(replies):]
    for key in KEYS:
        allowed = [state.get(key)] + [line.split(" ", 2)[2] for line in later if line.startswith(f"set {key} ")]
        allowed += [None] * (f"del {key}" in later)
        value = found.get(key)
        expect(value in allowed, f"{key} is {str(value)[:20]!r}; acknowledged was {str(allowed[0])[:20]!r}, "
               f"and {len(allowed) - 1} later changes were sent")
    for line in later:
        if state == found:
            break
        execute(state, line)
    expect(state == found, "each key has a value that it may have, but together they are the state of no moment")
    return state, acknowledged


def disk_usage(directory):
    with os.scandir(directory) as entries:
        return sum(entry.stat().st_size for entry in entries)


def check_kills(options):
    """The rounds."""
    rng = random.Random(options.seed)
    commands, directory = Commands(rng), os.path.join(options.scratch, "killed")
    state, total, middle, written, most = {}, 0, 0, 0, 0
    kv = Kv(options, directory)
    for number in range(options.rounds):
        style = ("stream", "unread", "checkpoint")[number % 3]
        try:
            sent, replies = killed(kv, commands, rng, style)
            kv = Kv(options, directory)
            found = state_of(kv)
            state, acknowledged = judge(state, sent, replies, found)
            kv.kill()
            kv = Kv(options, directory)
            expect(state_of(kv) == found, "recovering twice gave two states")
            usage = disk_usage(directory)
            expect(usage <= MOST_BYTES, f"the log has {usage} bytes, more than {MOST_BYTES}")
        except Failed as failure:
            raise Failed(f"round {number} ({style}): {failure}") from None
        total, middle, most = total + acknowledged, middle + (len(replies) < len(sent)), max(most, usage)
        written += sum(len(line) for line, _ in zip(sent, replies) if line.startswith("set"))
    expect(kv.ask("quit") == ["ok"], "`quit` is not answered")
    kv.end()
    kv = Kv(options, directory)
    expect(state_of(kv) == state, "a clean close lost something")
    kv.end()
    expect(middle > 0, "no round was killed in the middle")
    expect(total >= min(500, 30 * options.rounds), f"only {total} changes were acknowledged")
    enough = 2 * written > 3 * MOST_BYTES or options.rounds < 15
    expect(enough, f"{written} bytes of changes are too few to show that the log is bounded")
    return (f"{total} changes acknowledged, {middle} of {options.rounds} rounds killed in the middle, "
            f"{written >> 10} KiB of changes in a log of at most {most >> 10} KiB")


def check_protocol(options):
    directory = os.path.join(options.scratch, "protocol")
    long, longest = "v" * (1 << 20), "k" * 255
    kv = Kv(options, directory, GROWTH, 1 << 20)
    dialogue = [
        ("get a", "none"), ("set a b c", "ok"), ("get a", "value b c"), ("set a ", "ok"), ("get a", "value "),
        ("set a", "error "), ("set", "error "), ("set  v", "error "), ("get", "error "), ("get a b", "error "),
        ("", "error "), (" ", "error "), ("Get a", "error "), ("getx a", "error "), ("count x", "error "),
        (f"set {longest} 1", "ok"), (f"set {longest}k 1", "error "), (f"del {longest}k", "error "),
        ("count", "value 2"), (f"set a {long}", "ok"), (f"set a {long}v", "error "), ("set a " + 3 * long, "error "),
        ("get a", f"value {long}"),
        ("set a \t\x01\u20ac", "ok"), ("get a", "value \t\x01\u20ac"), ("checkpoint", "ok"), ("del a", "ok"),
        ("del a", "none"), ("sync", "ok"), ("count", "value 1"),
    ]
    for line, right in dialogue:
        [reply] = kv.ask(line)
        as_expected = reply.startswith(right) if right == "error " else reply == right
        expect(as_expected, f"the reply to {line[:40]!r} was {reply[:40]!r}")
    told = Kv(options, directory).end(1)
    expect("open" in told, f"a second one on the same directory said {told!r}")
    # A line without an end may have been longer.
    kv.send(b"set b 1\nset b 12")
    told = kv.end()
    expect(kv.unread.startswith(b"ok\nerror "), f"replies {kv.unread!r} at the end of the input")
    kv = Kv(options, directory)
    replies = kv.ask("get b", "count", "quit")
    expect(replies == ["value 1", "value 2", "ok"], f"after a line without an end: {replies}")
    kv.end()


def check_group_commit(options):
    """Each burst is answered before the next, so it needs a sync of its own; and it needs no more than one."""
    kv = Kv(options, os.path.join(options.scratch, "group"), 0)
    for burst in range(20):
        expect(set(kv.ask(*(f"set {key} {burst}" for key in KEYS[:100]))) == {"ok"}, "a change was refused")
    counts = re.search(r"(\d+) changes, (\d+) syncs", kv.end())
    changes, syncs = map(int, counts.groups())
    expect(changes == 2000 and 20 <= syncs <= 40, f"{changes} changes had {syncs} syncs")
    return f"{changes} changes shared {syncs} syncs"


def check_full_table(options):
    directory = os.path.join(options.scratch, "full")
    kv = Kv(options, directory, 0, SEGMENT, 4096)
    replies = kv.ask(*(f"set {key} {'x' * 100}" for key in KEYS[:50]))
    room = replies.count("ok")
    expect(30 < room < 40 and set(replies[room:]) == {"error the table is full"}, f"the table took {room}")
    expect(kv.ask("checkpoint", f"set {KEYS[0]} ", f"set {KEYS[60]} {'y' * 90}") == ["ok"] * 3, "no room was made")
    kv.kill()
    # The table that is found may be larger than what is allowed now.
    kv = Kv(options, directory, 1, SEGMENT, 1000)
    replies = kv.ask("checkpoint", f"set {KEYS[0]} {'z' * 50}", "count", f"del {KEYS[1]}", "count")
    expect(replies[0].startswith("error ") and replies[1].startswith("error "), f"a table above the limit: {replies}")
    expect(replies[2:] == [f"value {room + 1}", "ok", f"value {room}"], f"a table above the limit: {replies}")
    kv.end()


def check_foreign_log(options):
    if not options.hello:
        return
    directory = os.path.join(options.scratch, "hello")
    for _ in range(2):
        subprocess.run([options.hello, directory], check=True, stdout=subprocess.DEVNULL)
    told = Kv(options, directory, 0).end(1)
    expect(re.search(r"LSN \d+", told), f"about the records of another program it said {told!r}")
    code = subprocess.run([options.hello, "/dev/null/none"], stderr=subprocess.DEVNULL).returncode
    expect(code != 0, "hello finds nothing wrong with a directory that cannot be")


def check_faults(options):
    """A full disk refuses a change and nothing else; a sync that fails ends the program, and acknowledges nothing."""
    strace = shutil.which("strace")
    if not strace:
        if os.environ.get("LIBWAL_NO_SKIP"):
            raise Failed("strace is missing")
        print("kv: SKIPPED: faults, because strace is missing")
        return
    directory = os.path.join(options.scratch, "faults")
    fault = [strace, "-f", "-qqq", "-o", os.devnull, "-e"]
    kv = Kv(options, directory, 0, SEGMENT)
    kv.ask("set a 1", "checkpoint", "set b 1")
    kv.end()

    kv = Kv(options, directory, 0, SEGMENT, under=[*fault, "inject=fallocate:error=ENOSPC"])
    replies = kv.ask(*(f"set b {n} {'x' * 2000}" for n in range(40)), "get b", "checkpoint", "get a", "count")
    room = replies.index(next(reply for reply in replies if reply.startswith("error ")))
    expect(0 < room < 40 and all(reply.startswith("error ") for reply in replies[room:40]), f"a full disk: {replies}")
    expect(replies[40].startswith(f"value {room - 1} "), "a change that was refused was made")
    expect(replies[42:] == ["value 1", "value 2"], "a full disk changed something else")
    kv.end()
    kv = Kv(options, directory, 0, SEGMENT)
    expect(kv.ask("get b")[0].startswith(f"value {room - 1} "), "a change that was refused is in the log")
    expect(kv.ask("checkpoint", "set c 1") == ["ok", "ok"], "there is space again, and nothing goes")
    kv.end()

    kv = Kv(options, directory, 0, SEGMENT, under=[*fault, "inject=fdatasync:error=EIO:when=6+"])
    acknowledged = 0
    try:
        for n in range(1, 30):
            expect(kv.ask(f"set c {n}") == ["ok"], "a change was refused")
            acknowledged = n
    except (Failed, BrokenPipeError):
        pass
    told = kv.end(1)
    expect(kv.unread == b"", f"it still replied {kv.unread!r}")
    as_expected = re.search("^kv: sync: ", told, re.M) and 0 < acknowledged < 29
    expect(as_expected, f"after {acknowledged} changes it said {told!r}")
    kv = Kv(options, directory, 0, SEGMENT)
    found = kv.ask("get c")[0]
    expect(found in (f"value {acknowledged}", f"value {acknowledged + 1}"), f"of {acknowledged} it found {found!r}")
    kv.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kv")
    parser.add_argument("scratch")
    parser.add_argument("--hello")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    options.scratch = os.path.join(options.scratch, f"kv-{os.getpid()}")
    os.makedirs(options.scratch)
    try:
        killed_in_the_middle = check_kills(options)
        shared = check_group_commit(options)
        for check in (check_protocol, check_full_table, check_foreign_log, check_faults):
            check(options)
    except Failed as failure:
        print(f"kv: FAILED (seed {options.seed}): {failure}; see {options.scratch}")
        return 1
    shutil.rmtree(options.scratch)
    print(f"kv: {killed_in_the_middle}; {shared}")
    return 0


sys.exit(main())
