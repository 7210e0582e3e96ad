"""What must not happen while an answer is read, and how it is seen; ways to do it, which have to be seen.

Used by hostile_answers.py in a process of its own: an audit hook cannot be taken out again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from prefect_runtime.wire import codec

# What reading sound answers needs is loaded before anything is watched: for what comes then, each name has a reason:
# a mark before JSON, and what is looked for again each time where it is not installed.
MAY_BE_IMPORTED = {"encodings.utf_8_sig", "qiskit_ibm_runtime"}
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class",
             "code.__new__", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree", "ctypes.dlopen",
             "urllib.Request")  # fmt: skip

found: Counter[str] = Counter()
watching = threading.Event()


def hook(event: str, args: tuple[Any, ...]) -> None:
    if not watching.is_set():
        return
    if event == "compile" and args[1] != "<unknown>":  # numpy reads an array's header with ast.literal_eval
        found[f"compile {args[1]!r}"] += 1
    elif event == "exec" and "/encodings/" not in getattr(args[0], "co_filename", ""):
        found[f"exec {getattr(args[0], 'co_filename', '?')}"] += 1
    elif event == "open" and (isinstance(args[1], str) and set(args[1]) & set("wax+")):
        found[f"open {args[0]!r} to write"] += 1
    elif event == "socket.connect" and args[1][0] != "127.0.0.1":
        found[f"connect {args[1]!r}"] += 1
    elif event in FORBIDDEN:
        found[event] += 1


class LookUps:
    """Sees every module that is looked for and not loaded, however it is asked for, also one that there is not.

    ``importlib.import_module`` raises no audit event of its own.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if watching.is_set() and name not in MAY_BE_IMPORTED:
            found[f"import {name}"] += 1


def begin() -> None:
    """From now on, see what is done while `watching` is set."""
    sys.addaudithook(hook)
    sys.meta_path.insert(0, LookUps)


def acts() -> None:
    """Do what the hook is there to see."""
    folder = tempfile.mkdtemp()
    watching.set()
    __import__("tabnanny")
    eval("1 + 1")
    os.system("true")
    subprocess.run(["true"], check=False)
    pickle.loads(b"cbuiltins\nlen\n.")
    Path(folder, "x").write_text("")
    watching.clear()


def imports() -> None:
    """Let the decoder import what a payload names."""
    revive = codec._revive

    def revive_by_name(obj: dict[str, Any]) -> Any:
        with contextlib.suppress(Exception):
            importlib.import_module(obj["__module__"])
        return revive(obj)

    codec._revive = revive_by_name


def unpacks() -> None:
    """Let the decoder unpack as much as there is."""
    codec._Budget.left = lambda self, more_packed=0: 2**40  # type: ignore[method-assign]
