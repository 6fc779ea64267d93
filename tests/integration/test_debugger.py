# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe of docs/debugging.md: an editor's debugger, attached to a running script."""

import json
import queue
import socket
import threading

import pytest

from server import PATIENCE, free_port

pytestmark = pytest.mark.ours

SCRIPT = r'''
import debugpy
import orthanc

debugpy.listen(('127.0.0.1', %(port)d))

def rest(output, uri, **request):
    debugpy.debug_this_thread()
    answer = 6 * 7
    output.AnswerBuffer(str(answer), 'text/plain')

orthanc.RegisterRestCallback('/answer', rest)
'''
BREAK_LINE = 1 + next(i for i, line in enumerate(SCRIPT.splitlines()) if 'AnswerBuffer' in line)


class Editor:
    """As much of the Debug Adapter Protocol as an editor needs to stop at a line and look."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=30)
        self.stream = self.socket.makefile('rb')
        self.sequence = 0
        self.messages = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.seen = []

    def _read(self):
        while True:
            header = self.stream.readline()
            if not header:
                return
            size = int(header.split(b':')[1])
            while self.stream.readline().strip():
                pass
            self.messages.put(json.loads(self.stream.read(size)))

    def send(self, command, **arguments):
        self.sequence += 1
        body = json.dumps({'seq': self.sequence, 'type': 'request', 'command': command,
                           'arguments': arguments}).encode()
        self.socket.sendall(b'Content-Length: %d\r\n\r\n' % len(body) + body)
        return self.sequence

    def wait_for(self, wanted):
        for index, message in enumerate(self.seen):
            if wanted(message):
                return self.seen.pop(index)
        while True:
            message = self.messages.get(timeout=30 * PATIENCE)
            if wanted(message):
                return message
            self.seen.append(message)

    def event(self, name):
        return self.wait_for(lambda m: m['type'] == 'event' and m['event'] == name).get('body')

    def ask(self, command, **arguments):
        number = self.send(command, **arguments)
        answer = self.wait_for(lambda m: m['type'] == 'response' and m['request_seq'] == number)
        assert answer['success'], answer
        return answer.get('body')

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join(30)
        self.stream.close()
        self.socket.close()


def test_a_breakpoint_stops_a_callback_and_shows_its_variables(orthanc):
    port = free_port()
    server = orthanc(script=SCRIPT % {'port': port}, python={'CallTimeout': 0})
    editor = Editor(port)
    editor.ask('initialize', adapterID='test')
    attached = editor.send('attach', justMyCode=True)
    editor.event('initialized')
    editor.ask('setBreakpoints', source={'path': server.script_path}, breakpoints=[{'line': BREAK_LINE}])
    editor.ask('configurationDone')
    editor.wait_for(lambda m: m.get('request_seq') == attached and m['success'])
    answers = []
    request = threading.Thread(target=lambda: answers.append(server.get('/answer', timeout=60 * PATIENCE).text))
    request.start()
    stopped = editor.event('stopped')
    assert stopped['reason'] == 'breakpoint'
    frame = editor.ask('stackTrace', threadId=stopped['threadId'])['stackFrames'][0]
    assert (frame['name'], frame['line']) == ('rest', BREAK_LINE)
    assert editor.ask('evaluate', expression='answer + 1', frameId=frame['id'])['result'] == '43'
    assert not answers
    editor.ask('continue', threadId=stopped['threadId'])
    request.join(60)
    assert answers == ['42']
    editor.ask('disconnect', terminateDebuggee=False)
    editor.close()
    assert server.get('/answer').text == '42'
    assert server.stop() == 0
