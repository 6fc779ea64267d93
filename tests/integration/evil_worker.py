#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that attaches in order, and then breaks every rule of docs/protocol.md.

Orthanc starts it as "Python.Worker" (test_hostile_worker.py). It is daemon and host in one
process and registers the REST routes /evil/<what>/<seed>: each request makes it do what the
path says, to the lane of that request or to the control connection. /evil/ok is honest, so
that clients can use the server meanwhile. What it was told about the node it writes to the
file that OPB_TEST_EVIL names.
"""

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

import wire
from wire import NOTIFY, REQUEST, RESPONSE, Closed, Connection, Raw, pack

# SDK functions that would act upon the machine, or look for hosts by the names given.
NOT_AT_RANDOM = re.compile(r'WriteFile|ReadFile|Http(Get|Put|Post|Delete)$|_Register|_Fence')
TEXTS = ['', 'x', '/', '../../..', '/evil/ok', 'ü' * 50, 'a' * 5000, '%s%n', 'A\tB', '0010,0010']
NUMBERS = [0, 1, 2, 7, 255, 4096, 65535, 0x7fffffff, 0xffffffff, (1 << 64) - 1]
ODD_VALUES = [None, True, -1, 1.5, 'text', b'bytes', [], {}, [[]], {'a': 1}, (1 << 64) - 1,
              Raw(b'\xc1'), Raw(b'\xd4\x01\x00'), Raw(b'\xd6\x01\x00\x00\x00\x07'), Raw(b'\xa2\xff\xfe')]


class Lane(Connection):
    """The host's end of a lane, with calls of the node and SDK calls nested in them."""

    def __init__(self, connected, evil):
        super().__init__(connected)
        self.evil = evil
        self.last_msgid = 0

    def answer(self, msgid, value=None):
        self.send([RESPONSE, msgid, None, value])

    def invoke(self, name, *params):
        """An SDK call as it should be: the response, after calls nested in it."""
        method = name if isinstance(name, int) else self.evil.functions[name][0]
        self.last_msgid += 1
        self.send([REQUEST, self.last_msgid, method, list(params)])
        while True:
            message = self.read()
            if message[0] == RESPONSE:
                return message
            self.evil.serve(self, message)

    def post(self, name, *params):
        method = name if isinstance(name, int) else self.evil.functions[name][0]
        self.send([NOTIFY, method, list(params)])

    def reply_text(self, output, text):
        self.post('RestOutput.AnswerBuffer', output, text.encode(), 'text/plain')


# -- what a host may do to the lane of a call; each answers it, or ends the lane -----------

def header(envelope, segments=0, zero=0):
    return (envelope.to_bytes(4, 'big') + segments.to_bytes(2, 'big') + zero.to_bytes(2, 'big'))


# Instead of the response. What is left open is closed a little later.
BYTES = {
    'nothing': b'',
    'one-byte': b'\0',
    'half-header': header(20)[:5],
    'half-envelope': header(20) + b'\x94\x01',
    'half-lengths': header(20, 3) + b'\0' * 12,
    'half-segment': header(4, 1) + (1 << 20).to_bytes(8, 'big') + b'\x94\x01\x01\xc0' + b'x' * 999,
    'empty-envelope': header(0),
    'huge-envelope': header(0xffffffff) + b'x' * 4096,
    'limit-envelope': header(1 << 24) + b'\x94' + b'x' * 65536,
    'over-limit-envelope': header((1 << 24) + 1) + b'x' * 4096,
    'reserved': header(4, 0, 1) + b'\x94\x01\x01\xc0',
    'too-many-segments': header(4, 65) + b'\0\0\0\0\0\0\0\1' * 65,
    'most-segments': header(4, 0xffff) + b'\0\0\0\0\0\0\0\1' * 70,
    'empty-segment': header(4, 1) + b'\0' * 8 + b'\x94\x01\x01\xc0',
    'endless-segment': header(4, 1) + b'\xff' * 8 + b'\x94\x01\x01\xc0' + b'x' * 4096,
    'signed-segment': header(4, 1) + b'\x7f' + b'\xff' * 7 + b'\x94\x01\x01\xc0' + b'x' * 4096,
    'tebi-segment': header(4, 1) + (1 << 40).to_bytes(8, 'big') + b'\x94\x01\x01\xc0' + b'x' * 4096,
    'sixty-four-tebi-segments': header(4, 64) + (1 << 40).to_bytes(8, 'big') * 64 + b'\x94\x01\x01\xc0',
    'text': b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    'noise': bytes(range(256)) * 256,
}
# In a frame that is right.
ENVELOPES = {
    'deep-arrays': b'\x91' * 100000 + b'\xc0',
    'deep-maps': b'\x81\xc0' * 100000 + b'\xc0',
    'deep-17': b'\x94\x01\x01\xc0' + b'\x91' * 17 + b'\xc0',
    'map-bomb': b'\xdf\xff\xff\xff\xff',
    'array-bomb': b'\xdd\xff\xff\xff\xff',
    'map-bomb-inside': b'\x94\x01\x01\xc0\xdf\xff\xff\xff\xff',
    'text-bomb': b'\x94\x01\x01\xc0\xdb\xff\xff\xff\xff',
    'bytes-bomb': b'\x94\x01\x01\xc0\xc6\xff\xff\xff\xff',
    'ext-bomb': b'\x94\x01\x01\xc0\xc9\xff\xff\xff\xff\x01',
    'no-such-segment': b'\x94\x01\x01\xc0\xd6\x01\x00\x00\x00\x00',
    'never-used-code': b'\xc1',
    'two-values': pack([RESPONSE, 1, None, None]) * 2,
    'no-array': pack('hello'),
    'empty-array': pack([]),
    'nothing-but-type': pack([RESPONSE]),
    'too-short': pack([RESPONSE, 1, None]),
    'too-long': pack([RESPONSE, 1, None, None, None]),
    'unknown-type': pack([3, 1, None, None]),
    'negative-type': pack([-1, 1, None, None]),
    'text-as-type': pack(['1', 1, None, None]),
    'negative-msgid': pack([RESPONSE, -1, None, None]),
    'msgid-of-64-bits': pack([RESPONSE, 1 << 40, None, None]),
    'method-of-64-bits': pack([REQUEST, 1, 1 << 40, []]),
    'params-no-array': pack([REQUEST, 1, 1, 'params']),
    'post-params-map': pack([NOTIFY, 1, {'a': 1}]),
    'unknown-function': pack([NOTIFY, 0xffffffff, []]),
    'result-and-fault': pack([RESPONSE, 1, [0, 0, ''], 'result']),
    'fault-no-array': pack([RESPONSE, 1, 'fault', None]),
    'fault-too-long': pack([RESPONSE, 1, [0, 0, '', 0], None]),
}


def send_bytes(lane, _msgid, data):
    lane.send_bytes(data)
    time.sleep(0.02)    # so that some of it is read before the end is seen
    raise Closed('on purpose')


def send_envelope(lane, _msgid, data):
    send_bytes(lane, None, wire.frame(Raw(data)))


def wrong_msgid(lane, msgid, _rng, _output):
    lane.answer(msgid + 1000)


def answer_twice(lane, msgid, _rng, output):
    lane.reply_text(output, 'twice')
    lane.send_bytes(wire.frame([RESPONSE, msgid, None, None]) * 2)


def answer_inside(lane, msgid, _rng, _output):
    """Asks, and answers the outer request before it has read the answer."""
    lane.send([REQUEST, 77, lane.evil.functions['RestApiGetAfterPlugins'][0], ['/evil/ok/1']])
    lane.answer(msgid)
    lane.answer(msgid)


def two_requests(lane, msgid, _rng, output):
    """Two at once, where the second has to wait for the first: what nesting forbids a host."""
    method = lane.evil.functions['RestApiGet'][0]
    lane.send_bytes(wire.frame([REQUEST, 5, method, ['/system']]) * 2)
    lane.read()
    lane.read()
    lane.reply_text(output, 'two')
    lane.answer(msgid)


def odd_faults(lane, msgid, rng, _output):
    text = rng.choice(['a\nE0101 00:00:00.000000 forged.cpp:1] line\r\x1b[2J', 'x' * 65536, 'y' * 200000,
                       Raw(b'\xa2\xff\xfe'), '\0', '%s%n%d'])
    fault = rng.choice([0, 1, 5, 6, 7, 8, 9, 99, 255, 256, 1 << 31, (1 << 64) - 1, -1])
    lane.send([RESPONSE, msgid, [fault, rng.choice([0, -1, 1 << 31, 3000, -(1 << 31)]), text], None])


def odd_result(lane, msgid, rng, output):
    if output is not None:      # what answers nothing is told so after a second
        lane.reply_text(output, 'odd')
    lane.send([RESPONSE, msgid, None, rng.choice(ODD_VALUES)])


def odd_segments(lane, msgid, rng, output):
    lane.reply_text(output, 'odd')
    value = rng.choice([Raw(b'\xd6\x01\x00\x00\x00\x01'), Raw(b'\xd6\x01\xff\xff\xff\xff'),
                        Raw(b'\xd6\x02\x00\x00\x00\x00'), Raw(b'\xd5\x01\x00\x00'), None,
                        [Raw(b'\xd6\x01\x00\x00\x00\x00')] * 3])
    lane.send([RESPONSE, msgid, None, value], [b's' * rng.randrange(1, 9000)] * rng.randrange(1, 64))


def drip(lane, msgid, _rng, output):
    """Slow but right: must work."""
    data = (wire.frame([NOTIFY, lane.evil.functions['RestOutput.AnswerBuffer'][0],
                        [output, b'drip', 'text/plain']]) + wire.frame([RESPONSE, msgid, None, None]))
    for each in data:
        lane.send_bytes(bytes([each]))
        time.sleep(0.001)


def random_bytes(lane, msgid, rng, output):
    """A conversation that would be right, with a few bytes changed, lost or made up."""
    method = rng.choice(list(lane.evil.functions.values()))[0]
    parts = [wire.frame([NOTIFY, lane.evil.functions['RestOutput.AnswerBuffer'][0],
                         [output, b'x' * rng.randrange(5000), 'text/plain']]),
             wire.frame([NOTIFY, method, [rng.choice(TEXTS), 3, output]]),
             wire.frame([RESPONSE, msgid, None, None])]
    data = bytearray(b''.join(parts))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        kind = rng.randrange(3)
        if kind == 0:
            data[at] = rng.choice([0, 0xff, 0x7f, 0x80, 0x90, 0xc6, 0xdd, 0xdf, rng.randrange(256)])
        elif kind == 1:
            del data[at:at + rng.randrange(1, 9)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
    send_bytes(lane, msgid, bytes(data))


def posts(lane, msgid, rng, output):
    """A flood of calls whose results nobody wants."""
    one = wire.frame([NOTIFY, lane.evil.functions['ComputeMd5'][0], [rng.randbytes(100)]])
    for _ in range(40):
        lane.send_bytes(one * 100)
    lane.reply_text(output, 'posts')
    lane.answer(msgid)


def endless_posts(lane, _msgid, _rng, _output):
    """Until the node has had enough, or this process ends."""
    one = wire.frame([NOTIFY, lane.evil.functions['GenerateUuid'][0], []])
    until = time.monotonic() + 2
    while time.monotonic() < until:
        lane.send_bytes(one * 100)
    raise Closed('on purpose')


def wrong_posts(lane, msgid, rng, _output):
    name = rng.choice([name for name in lane.evil.functions if not NOT_AT_RANDOM.search(name)])
    lane.post(name, *rng.choices(ODD_VALUES[:11], k=12))
    lane.answer(msgid)


def never(lane, _msgid, _rng, _output):
    lane.evil.released.wait(60)
    raise Closed('on purpose')


def release(lane, msgid, _rng, output):
    lane.evil.released.set()
    lane.reply_text(output, 'released')
    lane.answer(msgid)


def nest(lane, msgid, rng, output):
    """As deep as the node allows."""
    response = lane.invoke('RestApiGetAfterPlugins', '/evil/nest/%d' % rng.randrange(1 << 30))
    lane.reply_text(output, 'nested' if response[2] is None else 'refused')
    lane.answer(msgid)


# -- SDK calls with forged arguments; each answers how it went -------------------------------

def faults_of(responses):
    counts = {}
    for response in responses:
        key = 'result' if response[2] is None else str(response[2][0])
        counts[key] = counts.get(key, 0) + 1
    return json.dumps(counts)


def parameters(signature):
    return re.findall(r'[ON]\w+;|\w', signature.split(':')[0])


def good(code, rng):
    """A value of the right type."""
    if code in 'sx':
        return rng.choice(TEXTS)
    if code in 'bp':
        return rng.randbytes(rng.choice([0, 1, 3, 100, 5000]))
    if code == 'f':
        return rng.choice([0.0, -1e300, float('inf'), float('nan')])
    if code in 'eil':
        return rng.choice([-1, 0, 1, 2, 3, 4, 5, 1000, -(1 << 31), (1 << 31) - 1])
    bits = {'c': 8, 'h': 16, 'u': 32, 'U': 64}[code]
    return rng.choice([number for number in NUMBERS if number < 1 << bits])


def forged_handles(lane, msgid, rng, output):
    """Every function that takes objects, with handles that are none of theirs."""
    found = []
    evil = lane.evil
    candidates = [0, 1, (1 << 64) - 1, output ^ 1, output ^ (1 << 63), output + (1 << 20), output >> 1]
    for name, (_, signature) in sorted(evil.functions.items()):
        codes = parameters(signature)
        if not any(code[0] in 'ON' for code in codes) or name.startswith('RestOutput.'):
            candidates_here = candidates
        else:
            candidates_here = candidates + [output]     # right, but of another class
        if not any(code[0] == 'O' for code in codes):
            continue
        handles = [rng.choice(candidates_here + evil.old_handles[-6:-1] + [rng.getrandbits(64)])
                   for _ in codes]
        params = [handles[i] if code[0] in 'ON' else good(code, rng) for i, code in enumerate(codes)]
        found.append(lane.invoke(name, *params))
    lane.post('_Release', *(candidates + [rng.getrandbits(64) for _ in range(50)]))
    lane.reply_text(output, faults_of(found))
    lane.answer(msgid)


def wrong_arguments(lane, msgid, rng, output):
    """Every function with wrong counts and wrong types."""
    found = []
    for name in sorted(lane.evil.functions):
        if name in ('_Release', '_Register'):
            continue
        codes = parameters(lane.evil.functions[name][1])
        if codes:
            found.append(lane.invoke(name))
        found.append(lane.invoke(name, *['extra'] * (len(codes) + 1)))
        if codes:
            found.append(lane.invoke(name, *[{'a': []} for _ in codes]))
    for method in (len(lane.evil.functions), 1 << 20, (1 << 32) - 1):
        found.append(lane.invoke(method, rng.choice(ODD_VALUES[:11])))
    lane.reply_text(output, faults_of(found))
    lane.answer(msgid)


def odd_arguments(lane, msgid, rng, output):
    """Functions with arguments of the right types that make no sense."""
    found = []
    for name in rng.sample(sorted(lane.evil.functions), 40):
        codes = parameters(lane.evil.functions[name][1])
        if not NOT_AT_RANDOM.search(name) and 'RestOutput' not in name:
            found.append(lane.invoke(name, *[
                rng.choice([None, rng.getrandbits(64)]) if code[0] in 'ON' else good(code, rng)
                for code in codes]))
    lane.reply_text(output, faults_of(found))
    lane.answer(msgid)


def odd_registrations(lane, msgid, rng, output):
    kinds = ['Rest', 'rest', '', 'Load', 'Finalize', 'Nonsense', 'Find', 'StorageArea', 'x' * 9000]
    patterns = [None, '', '(', '[', '(' * 3000, '/a' * 3000, '\x01', '/evil/other(', 5, b'x']
    found = [lane.invoke('_Register', rng.choice(kinds), rng.choice(patterns), rng.choice(NUMBERS[:9]))
             for _ in range(20)]
    lane.reply_text(output, faults_of(found))
    lane.answer(msgid)


# -- the control connection --------------------------------------------------------------------

def control_logs(control, rng, _node_pid):
    control.send([NOTIFY, wire.LOG, [1, 'evil\nE0101 00:00:00.000000 forged.cpp:1] line\r\x1b[2J\x7f']])
    control.send([NOTIFY, wire.LOG, [0, 'long ' + 'y' * 60000]])
    control.send([NOTIFY, wire.LOG, [0, Raw(b'\xa2\xff\xfe')]])
    control.send([NOTIFY, wire.LOG, [2, '%s%n' * 10 + str(rng.random())]])


def control_log_flood(control, _rng, _node_pid):
    one = wire.frame([NOTIFY, wire.LOG, [1, 'flood ' + 'z' * 80]])
    for _ in range(300):
        control.send_bytes(one * 100)
    control.send([NOTIFY, wire.LOG, [1, 'after the flood']])


def control_odd_pids(control, _rng, node_pid):
    for pid in (0, 1, node_pid, (1 << 31) - 1):
        control.send([NOTIFY, wire.HOST_STARTED, [7, pid, 0]])


def control_strangers(control, _rng, _node_pid):
    """Processes that are no hosts of ours; see what the node does to them when we end."""
    with open(os.environ['OPB_TEST_EVIL'] + '.innocent', encoding='ascii') as f:
        control.send([NOTIFY, wire.HOST_STARTED, [8, int(f.read()), 0]])


def control_unknown_deaths(control, rng, _node_pid):
    for _ in range(50):
        control.send([NOTIFY, wire.HOST_DIED, [rng.choice(NUMBERS[:9]) | 1 << 20, rng.choice([0, 1, 77777]),
                                               'died\nof \x1b[31m' + 'z' * rng.randrange(2000)]])


CONTROL = {
    'logs': control_logs, 'log-flood': control_log_flood, 'odd-pids': control_odd_pids,
    'strangers': control_strangers, 'unknown-deaths': control_unknown_deaths,
}
# Each ends the control connection: the node then starts everything anew.
CONTROL_BYTES = {
    'request': wire.frame([REQUEST, 1, 1, []]),
    'response': wire.frame([RESPONSE, 0xffffffff, None, None]),
    'unknown-post': wire.frame([NOTIFY, 77, []]),
    'log-level': wire.frame([NOTIFY, wire.LOG, [3, 'x']]),
    'log-type': wire.frame([NOTIFY, wire.LOG, [1, 5]]),
    'short-post': wire.frame([NOTIFY, wire.HOST_STARTED, [1]]),
    'long-post': wire.frame([NOTIFY, wire.HOST_DIED, [1, 1, 'x', 1]]),
    'pid-64': wire.frame([NOTIFY, wire.HOST_STARTED, [1, 1 << 40, 0]]),
    'pid-negative': wire.frame([NOTIFY, wire.HOST_STARTED, [1, -5, 0]]),
    'worker-64': wire.frame([NOTIFY, wire.HOST_STARTED, [1, 1, 64]]),
    'huge': BYTES['huge-envelope'],
    'deep': wire.frame(Raw(ENVELOPES['deep-arrays'])),
    'bomb': wire.frame(Raw(ENVELOPES['map-bomb'])),
    'noise': BYTES['noise'],
    'host-flood': wire.frame([NOTIFY, wire.HOST_STARTED, [9, 1 << 30, 0]]) * 5000,
}

DEEDS = {
    'wrong-msgid': wrong_msgid, 'answer-twice': answer_twice, 'answer-inside': answer_inside,
    'two-requests': two_requests, 'odd-faults': odd_faults, 'odd-result': odd_result,
    'odd-segments': odd_segments, 'drip': drip, 'random-bytes': random_bytes, 'posts': posts,
    'endless-posts': endless_posts, 'wrong-posts': wrong_posts, 'never': never, 'release': release,
    'nest': nest, 'forged-handles': forged_handles, 'wrong-arguments': wrong_arguments,
    'odd-arguments': odd_arguments, 'odd-registrations': odd_registrations,
}


class Evil:
    """The daemon and its one host."""

    def __init__(self, socket_path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(socket_path)
        self.listener.listen(200)
        self.functions = {}
        self.calls = []
        self.old_handles = [3]
        self.released = threading.Event()
        self.control = None
        self.node_pid = os.getppid()
        self.odd_calls = 0          # so many calls other than REST will be answered oddly
        self.odd_rng = None
        # Named as the host. The plugin kills it, unless we have named another since.
        self.child = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', 'sleep', '600'],
                                      start_new_session=True)

    def run(self):
        while True:
            connected, _ = self.listener.accept()
            threading.Thread(target=self.serve_connection, args=(connected,), daemon=True).start()

    def serve_connection(self, connected):
        with Lane(connected, self) as lane:
            try:
                kind = lane.read()[3][2]
                lane.answer(0, [wire.VERSION])
                if kind == wire.CONTROL:
                    self.serve_control(lane)
                while kind != wire.CONTROL:
                    self.serve(lane, lane.read())
            except (Closed, OSError):
                pass

    def serve_control(self, control):
        self.control = control
        message = control.read()
        while message[0] != REQUEST:        # DESCRIBE
            message = control.read()
        control.answer(message[1], [message[3][0], 1])
        control.send([NOTIFY, wire.HOST_STARTED, [1, self.child.pid, 0]])
        while True:
            message = control.read()
            if message[0] == REQUEST:       # DETACH
                self.child.kill()
                control.answer(message[1])

    def serve(self, lane, message):
        """One call of the node."""
        if message[0] != REQUEST:
            raise Closed('the node answers what only a liar has asked')
        _, msgid, method, params = message
        name = self.calls[method] if self.calls else 'Load'
        if name == 'Load':
            self.load(lane, params[0])
            lane.answer(msgid)
        elif name == 'Rest':
            self.serve_rest(lane, msgid, params[1], params[2])
        elif self.odd_calls > 0 and name != 'Finalize':
            self.odd_calls -= 1
            odd_result(lane, msgid, self.odd_rng, None)
        else:
            lane.answer(msgid, {'HttpFilter': True, 'ReceivedInstance': [1, None],
                                'CStoreFilter': 0}.get(name))

    def load(self, lane, told):
        self.functions = {name: (i, signature) for i, (name, signature) in enumerate(told['functions'])}
        self.calls = told['calls']
        assert lane.invoke('_Register', 'Rest', '/evil/(.*)', 0)[2] is None
        for kind in os.environ.get('OPB_TEST_EVIL_KINDS', '').split():
            assert lane.invoke('_Register', kind, None, 0)[2] is None
        with open(os.environ['OPB_TEST_EVIL'], 'w', encoding='utf-8') as f:
            json.dump({'node': told['node'], 'host': told['host'], 'secret': told['secret'].hex(),
                       'socket': told['node_socket'], 'pid': os.getpid()}, f)

    def serve_rest(self, lane, msgid, output, uri):
        what, seed = (uri.split('/') + ['0'])[2:4]     # TEXTS has one without a number
        rng = random.Random('%s %s' % (what, seed))
        self.old_handles.append(output)
        if what == 'ok':
            lane.reply_text(output, 'ok')
            lane.answer(msgid)
        elif what == 'odd-calls':
            self.odd_calls, self.odd_rng = 10 if seed != '0' else 0, rng
            lane.reply_text(output, 'ok')
            lane.answer(msgid)
        elif what.startswith('control-'):
            lane.reply_text(output, 'ok')
            lane.answer(msgid)
            self.abuse_control(what[len('control-'):], rng)
        elif what in DEEDS:
            DEEDS[what](lane, msgid, rng, output)
        elif what in BYTES:
            send_bytes(lane, msgid, BYTES[what])
        else:
            send_envelope(lane, msgid, ENVELOPES[what])

    def abuse_control(self, what, rng):
        if what == 'close':
            self.control.socket.shutdown(socket.SHUT_RDWR)
        elif what == 'half':
            self.control.send_bytes(header(4000) + b'x')
            self.control.socket.shutdown(socket.SHUT_RDWR)
        elif what in CONTROL:
            CONTROL[what](self.control, rng, self.node_pid)
        else:
            self.control.send_bytes(CONTROL_BYTES[what])


def watch_lifeline(lifeline):
    while lifeline.recv(64):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--socket')
    parser.add_argument('--managed-fd', type=int)
    arguments = parser.parse_args()
    evil = Evil(arguments.socket)
    lifeline = socket.socket(fileno=arguments.managed_fd)
    os.set_inheritable(arguments.managed_fd, False)
    threading.Thread(target=watch_lifeline, args=(lifeline,), daemon=True).start()
    lifeline.sendall(b'READY %d %d\n' % (wire.VERSION, os.getpid()))
    evil.run()


if __name__ == '__main__':
    sys.exit(main())
