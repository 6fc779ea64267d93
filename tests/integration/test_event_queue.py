# SPDX-License-Identifier: GPL-3.0-or-later
"""More change events than may wait (Python.MaxEvents): some are lost, and that is said and
counted; the queue works on when the callback does, and ORTHANC_STOPPED always has room."""

import os
import re
import signal

import pytest

import dicom
from server import wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival]

ROOM = 30
# At a change of a modality the callback waits at a pipe, as long as there is a file "block".
SCRIPT = r'''
import os
import orthanc

NAMES = {v: n for n, v in vars(orthanc.ChangeType).items() if type(v) is int}

def on_change(change, level, resource):
    os.write(1, ('event %s %s\n' % (NAMES[change], resource)).encode())
    if change == orthanc.ChangeType.UPDATED_MODALITIES and os.path.exists('block'):
        with open('go') as f:
            f.read()

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback('/alive', lambda output, uri, **r: output.AnswerBuffer('alive', 'text/plain'))
'''


class Queue:
    """A server whose on-change callback the test holds, and lets go."""

    def __init__(self, orthanc):
        self.server = orthanc.make(script=SCRIPT, config={'StableAge': 3600},
                                   python={'MaxEvents': ROOM}, verbose=False)
        os.mkfifo(os.path.join(self.server.directory, 'go'))
        self.server.start()
        self.server.wait_for_out('^event ORTHANC_STARTED')
        self.block_file = os.path.join(self.server.directory, 'block')

    def modalities(self, count):
        """Each makes one event."""
        for _ in range(count):
            assert self.server.put('/modalities/m', '["M", "127.0.0.1", 1]').status_code == 200

    def delivered(self):
        return len(re.findall('^event UPDATED_MODALITIES', self.server.out(), re.MULTILINE))

    def hold(self):
        """Returns when the callback is at the pipe with an event, and none waits."""
        before = self.delivered()
        with open(self.block_file, 'w', encoding='ascii'):
            pass
        self.modalities(1)
        wait_until(lambda: self.delivered() == before + 1, 20, 'the event')

    def release(self):
        os.remove(self.block_file)
        with open(os.path.join(self.server.directory, 'go'), 'w', encoding='ascii'):
            pass    # waits for the callback to be there

    def status(self):
        return self.server.get('/python-bridge/status').json()['Events']

    def await_status(self, **expected):
        wait_until(lambda: {key: self.status()[key] for key in expected} == expected, 20, str(expected))

    def errors(self):
        return [text for level, text in self.server.messages('E') if 'change event' in text]


def test_events_that_find_no_room_are_counted_and_the_queue_works_on(orthanc):
    queue = Queue(orthanc)
    server = queue.server
    for number, lost in ((1, 25), (2, 15)):    # the second time is said as well as the first
        before, total = queue.delivered(), queue.status()['Lost']
        queue.hold()
        queue.modalities(ROOM)
        queue.await_status(Queued=ROOM, Lost=total)
        assert len(queue.errors()) == number - 1
        queue.modalities(lost)
        queue.await_status(Queued=ROOM, Lost=total + lost)
        assert len(queue.errors()) == number, queue.errors()
        assert queue.errors()[-1] == (
            'A change event is lost, %d since the start: %d wait for the on-change callback, which is as '
            'many as may (Python.MaxEvents)' % (total + 1, ROOM))
        assert server.get('/alive').text == 'alive'     # nobody else waits
        queue.release()
        queue.await_status(Queued=0, Lost=total + lost)
        wait_until(lambda before=before: queue.delivered() == before + 1 + ROOM, 20, 'those that had room')
        server.wait_for_log('There is room for change events again; %d were lost meanwhile' % lost)
        identifier = server.upload(dicom.make_dicom())
        server.wait_for_out('^event NEW_INSTANCE ' + identifier)
    assert server.stop() == 0
    assert len(queue.errors()) == 2
    assert server.out().splitlines()[-1].strip() == 'event ORTHANC_STOPPED'


def test_orthanc_stopped_has_room_in_a_full_queue(orthanc):
    queue = Queue(orthanc)
    server = queue.server
    queue.hold()
    queue.modalities(ROOM + 5)
    queue.await_status(Queued=ROOM, Lost=5)
    os.kill(server.pid, signal.SIGTERM)
    queue.await_status(Queued=ROOM + 1, Lost=5)    # Orthanc serves until the script was told
    queue.release()
    assert server.wait() == 0
    lines = [line.strip() for line in server.out().splitlines()]
    assert lines[-1] == 'event ORTHANC_STOPPED' and lines.count(lines[-1]) == 1
    assert queue.delivered() == 1 + ROOM
    assert server.log().count('A change event is lost') == 1
