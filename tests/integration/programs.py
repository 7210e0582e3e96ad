"""Source of the programs that the integration tests run; each says in its name what it does."""

from __future__ import annotations

NUMBERS = """
import sys, time

def main(backend, user_messenger, *, count=3, pause=0.0, fail=False, **kwargs):
    print("this is standard output", flush=True)
    print("this is standard error", file=sys.stderr, flush=True)
    for number in range(count):
        user_messenger.publish({"number": number})
        time.sleep(pause)
    if fail:
        raise ValueError("the program failed on purpose")
    return {"count": count, "given": kwargs}
"""
"""Publishes `count` numbers with a pause after each, writes to both outputs, returns or fails."""

HOLDS = """
import os, time

def main(backend, user_messenger, *, gate, pid_file="", publish=()):
    print("holding", flush=True)
    for value in publish:
        user_messenger.publish(value)
    if pid_file:
        with open(pid_file + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(pid_file + ".new", pid_file)
    end = time.monotonic() + 30
    while not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.01)
    user_messenger.publish("the gate is open")
    return "held"
"""
"""Publishes values, then runs until a file, the gate, exists (at most 30 s)."""

ECHO = """
def main(backend, user_messenger, *, value=None):
    return value
"""
"""Returns its input."""

PUBLISHES_GIVEN = """
def main(backend, user_messenger, *, values):
    for value in values:
        user_messenger.publish(value)
"""
"""Publishes its inputs and returns None."""

STUBBORN = """
import os, signal, subprocess, sys, time

CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"

def main(backend, user_messenger, *, pid_file, own_session=False):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=own_session)
    time.sleep(0.3)
    with open(pid_file + ".new", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(pid_file + ".new", pid_file)
    time.sleep(60)
"""
"""Ignores SIGTERM, as does the child process it starts; writes both pids to a file."""

ENVIRONMENT = """
import os

def main(backend, user_messenger):
    return dict(os.environ)
"""
"""Returns the environment it sees."""


def that_does(*lines: str) -> str:
    """Source of a program whose main has these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    return (
        f"import ctypes, io, os, signal, sys, threading, time\n\ndef main(backend, user_messenger, **kwargs):\n{body}\n"
    )
