"""The embedded runtime: a small server of its own that runs quantum programs on simulators.

Data flows app -> store -> executor -> worker and back through files and the bulletin:

    app, *_routes, streams   HTTP and WebSocket on the event loop        (only home of fastapi, uvicorn)
    classic, platform        the two dialects; intake.py and schemas.py say what is accepted in both
    store, files             jobs and programs in SQLite; log, interim results and result of each job in its folder
    executor                 one thread a slot: takes the next job, hands it to a process, writes down how it ended
    worker, programs/        in that process: the program itself; cells.py, confinement.py: what it may
    bulletin                 wakes the event loop's readers when a thread has news
    launcher                 lock, discovery file, idle shutdown

Nothing here imports client: the two meet on a socket.
"""
