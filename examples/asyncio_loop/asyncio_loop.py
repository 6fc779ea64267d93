# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /overview/ID describes a study, put together by a coroutine.

The event loop runs in a thread of its own, from the start of the server to its end. Routes are
ordinary functions: they hand a coroutine to the loop and wait for what it returns. Calls of
the module block, so a coroutine makes them in the threads of the loop's executor.
"""

import asyncio
import concurrent.futures
import json
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import orthanc

START_SECONDS = 10
ANSWER_SECONDS = 30

T = TypeVar('T')


class LoopThread:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self.is_ready = threading.Event()
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.end: asyncio.Event | None = None
        # A daemon: it does not keep Python alive if the server's end was never announced.
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)

    async def main(self) -> None:
        """Returns at the end; asyncio.run() then cancels what still works."""
        self.end = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.is_ready.set()
        await self.end.wait()

    def start(self) -> None:
        """Begins to accept coroutines."""
        self.thread.start()

    def stop(self) -> None:
        """Ends the loop, and what is waited for with it."""
        if not self.is_ready.wait(START_SECONDS):
            return
        with self.lock:
            if self.loop is not None and self.end is not None:
                self.loop.call_soon_threadsafe(self.end.set)
            self.loop = None
        self.thread.join(ANSWER_SECONDS)

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T] | None:
        """A future for what the coroutine will return; None where no loop runs."""
        self.is_ready.wait(START_SECONDS)   # a request may come before the event
        with self.lock:     # stop() comes before it or after it
            if self.loop is None:
                work.close()
                return None
            return asyncio.run_coroutine_threadsafe(work, self.loop)


async def get(uri: str) -> Any:
    """A value of the REST API, while the loop goes on with other work."""
    loop = asyncio.get_running_loop()
    return json.loads(await loop.run_in_executor(None, orthanc.RestApiGet, uri))


async def overview(study_id: str) -> dict[str, Any]:
    """Asks for three things at once."""
    study, statistics, metadata = await asyncio.gather(
        get('/studies/%s' % study_id), get('/studies/%s/statistics' % study_id),
        get('/studies/%s/metadata?expand' % study_id))
    return {'Patient': study['PatientMainDicomTags'].get('PatientName', ''),
            'Description': study['MainDicomTags'].get('StudyDescription', ''),
            'Instances': statistics['CountInstances'],
            'LastUpdate': metadata['LastUpdate']}


worker = LoopThread()


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Waits for the coroutine. Its exceptions are raised here."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    future = worker.submit(overview(*request['groups']))
    if future is None:
        output.SendHttpStatusCode(503)     # the loop does not run
        return
    try:
        found = future.result(ANSWER_SECONDS)
    finally:
        future.cancel()     # has no effect on what is done
    output.AnswerBuffer(json.dumps(found, indent=2) + '\n', 'application/json')


def on_change(change_type: int, level: int, resource: str) -> None:
    """The loop lives as long as the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        worker.start()
        orthanc.LogWarning('The event loop has started')
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        worker.stop()
        orthanc.LogWarning('The event loop has ended')


orthanc.RegisterRestCallback('/overview/([^/]+)', answer)
orthanc.RegisterOnChangeCallback(on_change)
