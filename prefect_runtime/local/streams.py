"""WebSockets of the embedded runtime: a job's interim results, and the status changes of all jobs.

``/stream/jobs/{id}`` is the classic one: an acknowledgement first, then one frame a result, close 1000 when the job is
final. Ours on top: a subscriber gets all results from the first, or with ``?after=N`` without the first N; the header
``X-Stream-Resume: after`` in the handshake's answer says that the server can do that.
``/stream/changes`` is ours: a job document a frame after every change, so that nobody has to ask.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from prefect_runtime.local.documents import job_document
from prefect_runtime.local.files import InterimReader
from prefect_runtime.local.refusals import Refusal

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime
    from prefect_runtime.local.bulletin import Subscription


def router(runtime: Runtime) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.websocket("/stream/jobs/{job_id}")
    async def interim_results(socket: WebSocket, job_id: str, after: int = 0) -> None:
        if runtime.store.job(job_id) is None:
            refusal = Refusal(404, 3250, f"There is no job {job_id!r} here.")
            await socket.send_denial_response(JSONResponse(refusal.body(), status_code=404))
            return
        await socket.accept(headers=[(b"x-stream-resume", b"after")])
        with runtime.bulletin.subscribe(job_id) as news:
            await _unless_client_leaves(socket, _send_interim(runtime, socket, news, job_id, max(0, after)))

    @routes.websocket("/stream/changes")
    async def changes(socket: WebSocket) -> None:
        await socket.accept()
        with runtime.bulletin.subscribe(None) as news:
            await socket.send_text(json.dumps({"instance": runtime.instance}))
            await _unless_client_leaves(socket, _send_changes(socket, news))

    return routes


async def _send_interim(runtime: Runtime, socket: WebSocket, news: Subscription, job_id: str, after: int) -> None:
    reader = InterimReader(runtime.executor.folder(job_id), after)
    await socket.send_text(f"Listening to results for job: {job_id}")
    while True:
        # Status before results: what a job publishes is in the file before the job is final.
        job = runtime.store.job(job_id)
        while texts := await run_in_threadpool(reader.read_new):
            for text in texts:
                await socket.send_text(text)
        if job is None or job.is_final:
            return await socket.close(1000)
        await news.get()
        while not news.empty():  # one look serves all the news there is
            news.get_nowait()


async def _send_changes(socket: WebSocket, news: Subscription) -> None:
    while True:
        job = await news.get()
        if job is not None:
            await socket.send_text(json.dumps(job_document(job)))


async def _unless_client_leaves(socket: WebSocket, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it is done or the client closes; the client has nothing to say but that."""

    async def watch() -> None:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass  # a text or bytes: heard, and that is all

    tasks = [asyncio.create_task(work), asyncio.create_task(watch())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect | RuntimeError):
            raise end  # RuntimeError: starlette's word for sending after the client left
