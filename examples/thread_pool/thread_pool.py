# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /series-tags/ID answers the tags of all instances of a series, by the instances' IDs.

Four threads ask Orthanc at the same time, for all requests together. The order of the answer is
that of the series, whichever thread was the first.
"""

import concurrent.futures
import json
from typing import Any

import orthanc

THREADS = 4
ANSWER_SECONDS = 60

POOL = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix='series-tags')


def tags_of(instance_id: str) -> Any:
    """Runs in a thread of the pool, where every function of the module may be called."""
    return json.loads(orthanc.RestApiGet('/instances/%s/simplified-tags' % instance_id))


def answer(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Waits for the threads. What fails in one of them is raised here."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    (series_id,) = request['groups']
    instances = json.loads(orthanc.RestApiGet('/series/%s' % series_id))['Instances']
    tags = POOL.map(tags_of, instances, timeout=ANSWER_SECONDS)
    found = dict(zip(instances, tags))
    output.AnswerBuffer(json.dumps(found, indent=2) + '\n', 'application/json')


def on_change(change_type: int, level: int, resource: str) -> None:
    """Ends the threads with the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        POOL.shutdown(cancel_futures=True)


orthanc.RegisterRestCallback('/series-tags/([^/]+)', answer)
orthanc.RegisterOnChangeCallback(on_change)
