"""Looks whether an uploaded text is Python source with a ``main``: in a process of its own, which has limits.

A few hundred kilobytes can be made up that take Python's parser minutes and gigabytes (``import a.a.a…``), and nothing
else of a process runs as long as it parses. Used by intake.py; as that process it is run as a script, so it imports
nothing of ours.
"""

from __future__ import annotations

import ast
import gc
import json
import resource
import subprocess
import sys

CHECK_SECONDS = 20.0  # the longest sources there may be take a tenth of that
CHECK_BYTES = 2 * 1024**3
"""Memory of the process: the tree of some such sources takes most of a gigabyte."""

_TOO_MUCH = "Python cannot read it: it is too long, or nested too deep."


def find_fault(text: str) -> str | None:
    """Return what keeps a text from being a program, in words; None when nothing does."""
    command = [sys.executable, "-I", "-S", __file__]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=text.encode(), capture_output=True, timeout=CHECK_SECONDS, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):  # the latter: it was killed, or crashed
        return _TOO_MUCH
    fault: str | None = json.loads(done.stdout)
    return fault


def main() -> None:
    """Check what comes on standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (CHECK_BYTES, CHECK_BYTES))
    gc.disable()  # of a tree that only grows it would look at each part again and again
    json.dump(_fault(sys.stdin.buffer.read().decode()), sys.stdout)


def _fault(text: str) -> str | None:
    try:
        tree = ast.parse(text)
    except (MemoryError, RecursionError):
        return _TOO_MUCH
    except (SyntaxError, ValueError) as error:
        return f"not Python source ({error})."
    if not any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
        return "the source has no function main(backend, user_messenger, **kwargs) at its top level."
    return None


if __name__ == "__main__":
    main()
