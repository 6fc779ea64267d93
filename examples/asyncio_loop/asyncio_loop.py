# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /overview/ID describes a study, put together by a coroutine.

The event loop runs in a thread of its own, from the start of the server to its end. Routes are
ordinary functions: they hand a coroutine to the loop and wait for what it returns. Calls of
the module block, so a coroutine makes them in the threads of the loop's executor.
"""

import asyncio
import json
import threading

import orthanc

START_SECONDS = 10
ANSWER_SECONDS = 30


class LoopThread:
    """A thread with an event loop."""

    def __init__(self):
        self.is_ready = threading.Event()
        self.lock = threading.Lock()
        self.loop = None
        self.end = None
        # A daemon: it does not keep Python alive if the server's end was never announced.
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)

    async def main(self):
        """Returns at the end; asyncio.run() then cancels what still works."""
        self.end = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.is_ready.set()
        await self.end.wait()

    def start(self):
        """Begins to accept coroutines."""
        self.thread.start()

    def stop(self):
        """Ends the loop, and what is waited for with it."""
        if not self.is_ready.wait(START_SECONDS):
            return
        with self.lock:
            self.loop.call_soon_threadsafe(self.end.set)
            self.loop = None
        self.thread.join(ANSWER_SECONDS)

    def submit(self, function, *arguments):
        """A future for what the coroutine will return; None where no loop runs."""
        self.is_ready.wait(START_SECONDS)   # a request may come before the event
        with self.lock:     # stop() comes before it or after it
            if self.loop is None:
                return None
            return asyncio.run_coroutine_threadsafe(function(*arguments), self.loop)


async def get(uri):
    """A value of the REST API, while the loop goes on with other work."""
    loop = asyncio.get_running_loop()
    return json.loads(await loop.run_in_executor(None, orthanc.RestApiGet, uri))


async def overview(study_id):
    """Asks for three things at once."""
    study, statistics, metadata = await asyncio.gather(
        get('/studies/%s' % study_id), get('/studies/%s/statistics' % study_id),
        get('/studies/%s/metadata?expand' % study_id))
    return {'Patient': study['PatientMainDicomTags'].get('PatientName', ''),
            'Description': study['MainDicomTags'].get('StudyDescription', ''),
            'Instances': statistics['CountInstances'],
            'LastUpdate': metadata['LastUpdate']}


worker = LoopThread()


def answer(output, uri, **request):
    """Waits for the coroutine. Its exceptions are raised here."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    future = worker.submit(overview, *request['groups'])
    if future is None:
        output.SendHttpStatusCode(503)     # the loop does not run
        return
    try:
        found = future.result(ANSWER_SECONDS)
    finally:
        future.cancel()     # has no effect on what is done
    output.AnswerBuffer(json.dumps(found, indent=2) + '\n', 'application/json')


def on_change(change_type, level, resource):
    """The loop lives as long as the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        worker.start()
        orthanc.LogWarning('The event loop has started')
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        worker.stop()
        orthanc.LogWarning('The event loop has ended')


orthanc.RegisterRestCallback('/overview/([^/]+)', answer)
orthanc.RegisterOnChangeCallback(on_change)
