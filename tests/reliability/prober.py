"""Asks a server again and again, and writes down how long each answer took. A process of its own, without our client.

``python prober.py HOST PORT TOKEN`` prints "start duration" in seconds (monotonic) a line until its input closes.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time

PAUSE_SECONDS = 0.02


def main() -> None:
    host, port, token = sys.argv[1:]
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(PAUSE_SECONDS):
        start = time.monotonic()
        connection.request("GET", "/jobs?limit=5", headers={"X-Access-Token": token})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        print(start, time.monotonic() - start, flush=True)


if __name__ == "__main__":
    main()
