"""Programs that mean harm, or are written as if: what each does, and how its job has to end."""

from __future__ import annotations

from dataclasses import dataclass

ANY_RIGHTS = "any rights"
OWN_USER = "own user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One program.

    Attributes:
        name: What it does.
        body: The lines of its ``main``; ``given`` is what the test tells it.
        ends: The status its job may end with.
        said: Regular expression for the job's reason.
        seconds: Its max_execution_time.
        needs: `OWN_USER` where what holds it is that it runs as another user than the server.
        quick: Also in the default tests.
    """

    name: str
    body: str
    ends: tuple[str, ...] = ("Failed",)
    said: str = ""
    seconds: float = 30.0
    needs: str = ANY_RIGHTS
    quick: bool = False


TOO_LONG = ("Cancelled - Ran too long",)
DONE = ("Completed",)
EITHER = ("Completed", "Failed")

BOMB = """
assert resource.getrlimit(resource.RLIMIT_NPROC)[0] < 5_000 and (os.getuid() or os.geteuid()), "nothing would hold it"
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

PROGRAMS = [
    Hostile(
        name="forks 200 processes that stay",
        body="""
        for _ in range(200):
            try:
                os.fork() or time.sleep(600)
            except BlockingIOError:
                break
        return 'done'
        """,
        ends=EITHER,
    ),
    Hostile(name="is a fork bomb", body=BOMB, ends=("Cancelled - Ran too long", "Failed"), seconds=2, quick=True),
    Hostile(
        name="takes all memory",
        body="kept = []\nwhile True:\n    kept.append(bytearray(64 << 20))",
        said="MemoryError",
        quick=True,
    ),
    Hostile(
        name="takes all memory by mapping",
        body="kept = []\nwhile True:\n    kept.append(mmap.mmap(-1, 64 << 20))",
        said="Cannot allocate memory",
    ),
    Hostile(
        name="writes 1 GB to standard output",
        body="for _ in range(1024):\n    sys.stdout.write('x' * (1 << 20))",
        said="The log, and each file, may have at most",
        quick=True,
    ),
    Hostile(
        name="writes half a message into the runtime's pipe",
        body="""
        for fd in range(3, 20):
            try:
                if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                    os.write(fd, b"\\0\\0\\1\\0")
            except OSError:
                pass
        time.sleep(600)
        """,
        ends=TOO_LONG,
        said="max_execution_time",
        seconds=1,
        quick=True,
    ),
    Hostile(
        name="writes 1 GB to standard output from C",
        body="for _ in range(1024):\n    os.write(1, b'x' * (1 << 20))",
        said="The log, and each file, may have at most",
    ),
    Hostile(
        name="ignores every signal it can",
        body="""
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        while True:
            time.sleep(1)
        """,
        ends=TOO_LONG,
        said="max_execution_time",
        seconds=1,
    ),
    Hostile(
        name="leaves a child in a session of its own",
        body="subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)",
        ends=DONE,
    ),
    Hostile(
        name="leaves a daemon that was forked twice",
        body="""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            os._exit(0)
        os.wait()
        return 'done'
        """,
        ends=DONE,
    ),
    Hostile(
        name="leaves a daemon and dies",
        body="""
        if os.fork() == 0:
            os.setsid()
            os.fork() or time.sleep(600)
            os._exit(0)
        os.wait()
        os._exit(3)
        """,
        said="exit code 3",
        quick=True,
    ),
    Hostile(
        name="opens files without end",
        body="kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(10**6)]",
        said="Too many open files",
    ),
    Hostile(
        name="writes to the runtime's folder",
        body="open(given['data_dir'] + '/hello', 'w')",
        said="PermissionError",
        needs=OWN_USER,
    ),
    Hostile(
        name="writes to another job's folder",
        body="open(given['data_dir'] + '/jobs/' + given['other_job'] + '/result.json', 'w')",
        said="PermissionError",
        needs=OWN_USER,
    ),
    Hostile(name="writes to /etc", body="open('/etc/hello', 'w')", said="PermissionError", needs=OWN_USER),
    Hostile(
        name="leaves files where everybody may write",
        body="""
        for place in ('/tmp', '/dev/shm'):
            os.makedirs(place + '/left-by-hostile/deep')
            open(place + '/left-by-hostile-file', 'w').write('x' * 1000)
        """,
        ends=DONE,
        needs=OWN_USER,
    ),
    Hostile(
        name="fills its folder with large files",
        body="""
        for number in range(10**6):
            with open(str(number), 'wb') as file:
                file.write(bytes(8 << 20))
            time.sleep(0.02)
        """,
        said="filled its folder",
    ),
    Hostile(
        name="fills its folder with many files",
        body="for number in range(10**6):\n    open(str(number), 'w').close()",
        said="filled its folder",
        seconds=60,
    ),
    Hostile(
        name="nests folders deeper than Python goes",
        body="for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nreturn 'done'",
        ends=DONE,
    ),
    Hostile(name="makes a sparse file of a petabyte", body="open('f', 'wb').truncate(10**15)", said="too large"),
    Hostile(name="links to a folder of others", body="os.symlink(given['victim'], 'link')", ends=DONE),
    Hostile(name="removes its own folder", body="shutil.rmtree(os.getcwd(), ignore_errors=True)", ends=DONE),
    Hostile(name="closes its pipes", body="os.closerange(3, 1 << 16)\nreturn 'done'", said="without a result"),
    Hostile(
        name="writes garbage into its pipes",
        body="""
        for number in range(3, 64):
            try:
                os.write(number, bytes([0, 0, 0, 5]) + b'hello')
            except OSError:
                pass
        time.sleep(60)
        """,
        said="pipe",
        quick=True,
    ),
    Hostile(
        name="sends the server a pickle",
        body="""
        class Order:
            def __reduce__(self):
                return open, (given['data_dir'] + '/owned', 'w')
        data = pickle.dumps(Order())
        for number in range(3, 64):
            try:
                os.write(number, struct.pack('!i', len(data)) + data)
            except OSError:
                pass
        time.sleep(60)
        """,
        said="pipe",
    ),
    Hostile(
        name="announces a report of 2 GB",
        body="""
        for number in range(3, 64):
            try:
                os.write(number, struct.pack('!i', 2**31 - 1) + b'x' * 1000)
            except OSError:
                pass
        time.sleep(60)
        """,
        said="without a result|pipe|SIG",
    ),
    Hostile(name="calls sys.exit", body="sys.exit(3)", said="SystemExit: 3"),
    Hostile(name="calls os._exit", body="os._exit(0)", said="exit code 0"),
    Hostile(name="has a segmentation fault", body="ctypes.string_at(0)", said="SIGSEGV"),
    Hostile(name="aborts", body="os.abort()", said="SIGABRT"),
    Hostile(
        name="publishes a million results",
        body="for number in range(10**6):\n    user_messenger.publish(number)",
        said="at most 100000 interim results",
        quick=True,
    ),
    Hostile(
        name="publishes from ten threads",
        body="""
        def publish():
            for number in range(10**5):
                user_messenger.publish(number)
        threads = [threading.Thread(target=publish, daemon=True) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        user_messenger.publish('one more')
        """,
        said="at most 100000 interim results",
    ),
    Hostile(name="publishes what is no JSON", body="user_messenger.publish(object())", said="object"),
    Hostile(
        name="publishes a giant",
        body="user_messenger.publish('x' * (17 << 20))",
        said="An interim result may have at most",
    ),
    Hostile(
        name="publishes with an encoder that runs for ever",
        body="""
        class Slow(json.JSONEncoder):
            def default(self, value):
                return [object()]
        user_messenger.publish(object(), encoder=Slow)
        """,
        said="Recursion|Circular",
    ),
    Hostile(name="returns a giant", body="return 'x' * (40 << 20)", said="The log, and each file, may have at most"),
    Hostile(name="returns what cannot be encoded", body="return object()", said="object"),
    Hostile(
        name="returns itself in itself", body="value = []\nvalue.append(value)\nreturn value", said="ircular|ecursion"
    ),
    Hostile(
        name="recurses for ever",
        body="def again():\n    return again() + 1\nagain()",
        said="RecursionError",
    ),
    Hostile(
        name="recurses until its stack is full",
        body="sys.setrecursionlimit(10**9)\nvalue = []\nfor _ in range(200_000):\n    value = [value]\nrepr(value)",
        said="",
    ),
    Hostile(name="loops for ever", body="while True:\n    pass", ends=TOO_LONG, said="max_execution_time", seconds=1),
    Hostile(
        name="reads its parent's environment",
        body="return open(f'/proc/{os.getppid()}/environ').read()",
        ends=EITHER,
    ),
    Hostile(
        name="reads the server's environment",
        body="return open(f'/proc/{given[\"server\"]}/environ').read()",
        said="PermissionError",
    ),
    Hostile(
        name="asks the server without a token",
        body="urllib.request.urlopen(given['url'] + '/jobs')",
        said="HTTP Error 401",
    ),
    Hostile(name="kills the server", body="os.kill(given['server'], 9)", said="PermissionError", needs=OWN_USER),
    Hostile(
        name="stops its parent", body="os.kill(os.getppid(), signal.SIGSTOP)", said="PermissionError", needs=OWN_USER
    ),
    Hostile(name="kills its parent", body="os.kill(os.getppid(), 9)", said="PermissionError", needs=OWN_USER),
    Hostile(name="kills its process group", body="os.killpg(0, 9)", said="SIGKILL"),
    Hostile(
        name="kills whatever it can",
        body="assert os.getuid() > 60_000\nos.kill(-1, 9)\nreturn 'done'",
        ends=EITHER,
        needs=OWN_USER,
    ),
    Hostile(
        name="stops itself", body="os.kill(os.getpid(), signal.SIGSTOP)", ends=TOO_LONG, said="max_execution", seconds=1
    ),
    Hostile(name="closes its three streams", body="os.close(0)\nos.close(1)\nos.close(2)\nreturn 'done'", ends=DONE),
    Hostile(name="reads standard input", body="assert os.read(0, 1) == b''\nreturn 'done'", ends=DONE),
    Hostile(name="forgets every module", body="sys.modules.clear()\nreturn 'done'", ends=EITHER),
    Hostile(
        name="has threads that never end",
        body="for _ in range(20):\n    threading.Thread(target=time.sleep, args=(600,)).start()\nreturn 'done'",
        ends=DONE,
    ),
    Hostile(name="hangs when it is ended", body="atexit.register(time.sleep, 600)\nreturn 'done'", ends=DONE),
    Hostile(
        name="raises a BaseException", body="class Own(BaseException):\n    pass\nraise Own('why')", said="Own: why"
    ),
    Hostile(
        name="raises what cannot be shown",
        body="""
        class Own(Exception):
            def __str__(self):
                raise SystemExit
            __repr__ = __str__
        raise Own
        """,
        said="Own|cannot be shown",
        quick=True,
    ),
    Hostile(
        name="raises a class of a strange name",
        body="Own = type('x' * 10**6, (Exception,), {})\nraise Own('why')",
        said="why",
    ),
    Hostile(
        name="leaves shared memory",
        body="""
        from multiprocessing import shared_memory
        kept = shared_memory.SharedMemory(create=True, size=1 << 20)
        os.kill(os.getpid(), 9)
        """,
        said="SIGKILL",
        needs=OWN_USER,
    ),
]


def source(program: Hostile) -> str:
    """Return the program's text."""
    modules = (
        "atexit, ctypes, json, mmap, os, pickle, resource, shutil, signal, struct, subprocess, sys, threading, time"
    )
    lines = "\n".join("    " + line for line in _dedented(program.body).splitlines())
    return f"import {modules}, urllib.request\n\ndef main(backend, user_messenger, **given):\n{lines}\n"


def _dedented(body: str) -> str:
    import textwrap

    return textwrap.dedent(body).strip()
