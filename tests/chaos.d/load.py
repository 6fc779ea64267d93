# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of tests/chaos: clients that go on until told to stop, and remember every answer.

A client is a thread. What it saw that must never be seen is a problem, in words.
"""

import collections
import http.client
import os
import random
import threading
import time

import dicom

ANSWER_SECONDS = 60  # more than any wait of the bridge here: QueueTimeout is 10
IDLE_SECONDS = 0.5 # Orthanc closes connections after a second


class Client(threading.Thread):
    """Calls step() until stop is set."""

    def __init__(self, server, stop, seed):
        super().__init__(name='%s-%s' % (type(self).__name__, seed), daemon=True)
        self.server = server
        self.stopping = stop
        self.random = random.Random(seed)
        self.outcomes = collections.Counter()
        self.problems = []
        self.http = None
        self.asked = 0

    def run(self):
        number = 0
        while not self.stopping.is_set():
            try:
                self.step(number)
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append('%s, step %d: %r' % (self.name, number, error))
                self.http = None
            number += 1
        if self.http is not None:
            self.http.close()

    def ask(self, method, path, body=None):
        """(status, body); a connection that ends without an answer is an error."""
        if self.http is not None and time.monotonic() - self.asked > IDLE_SECONDS:
            self.http.close() # the server is about to do it
            self.http = None
        if self.http is None:
            self.http = http.client.HTTPConnection('127.0.0.1', self.server.http_port,
                                                   timeout=ANSWER_SECONDS)
        self.http.request(method, path, body)
        answer = self.http.getresponse()
        data = answer.read()
        self.asked = time.monotonic()
        if answer.will_close:
            self.http = None
        self.outcomes['%s %d' % (method, answer.status)] += 1
        return answer.status, data

    def step(self, number):
        raise NotImplementedError


class RestClient(Client):
    """Routes of the script: the right answer, or one that says that Python was not there."""

    def step(self, number):
        kind = self.random.choice(('echo', 'echo', 'nested', 'image', 'slow', 'background', 'child'))
        if kind == 'echo':
            body = self.random.randbytes(self.random.choice((0, 10, 1000, 100000)))
            status, data = self.ask('POST', '/chaos/echo', body)
            expected = body[::-1]
        elif kind == 'slow':
            status, data = self.ask('GET', '/chaos/slow?seconds=%.2f' % self.random.uniform(0, 0.3))
            expected = b'awake'
        else:
            status, data = self.ask('GET', '/chaos/' + kind)
            expected = {'nested': b'true', 'image': b'true', 'background': b'begun', 'child': b'begun'}[kind]
        if status == 200 and data != expected:
            self.problems.append('%s: a wrong answer of %d bytes' % (kind, len(data)))
        elif status not in (200, 502, 503):
            self.problems.append('%s: status %d, %r' % (kind, status, data[:200]))
        if kind == 'child':
            self.stopping.wait(1)


class NativeClient(Client):
    """A route of Orthanc itself: nothing that happens to Python may be seen here."""

    def step(self, number):
        status, _ = self.ask('GET', '/system')
        if status != 200:
            self.problems.append('/system: status %d' % status)
        self.stopping.wait(0.02)


def instance(name, number, patient='P'):
    return dicom.make_dicom(None, PatientID='%s-%s-%d' % (patient, name, number),
                            InstitutionName='CHAOS^ORIGINAL')


class Uploader(Client):
    """Uploads by HTTP. ids: those that Orthanc has said it stored, in their order."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ids = []

    def step(self, number):
        status, data = self.ask('POST', '/instances', instance(self.name, number))
        if status == 200:
            self.ids.append(data.split(b'"ID" : "')[1].split(b'"')[0].decode())
        elif status not in (500, 503):
            self.problems.append('POST /instances: status %d, %r' % (status, data[:200]))
        self.stopping.wait(0.05)


class Sender(Client):
    """C-STORE. patients: {PatientID: True if the answer was Success}."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.patients = {}

    def step(self, number):
        kind = 'REFUSED' if self.random.random() < 0.2 else 'SENT'
        path = os.path.join(self.server.directory, self.name + '.dcm')
        with open(path, 'wb') as f:
            f.write(instance(self.name, number, kind))
        result = dicom.storescu(self.server, path)
        status = dicom.dimse_status(result)
        self.outcomes['C-STORE %s' % status] += 1
        self.patients['%s-%s-%d' % (kind, self.name, number)] = status == 'Success'
        if status is None:
            self.problems.append('C-STORE without an answer:\n' + result.stdout[-500:])
        elif kind == 'REFUSED' and status == 'Success':
            self.problems.append('the filter refuses, but the sender was told Success')


class Finder(Client):
    """C-FIND: three answers, or a failure."""

    def step(self, number):
        result = dicom.findscu(self.server, 'QueryRetrieveLevel=STUDY', 'PatientID')
        status, found = dicom.find_outcome(result)
        self.outcomes['C-FIND %s' % status] += 1
        if status is None:
            self.problems.append('C-FIND without an answer:\n' + result.stdout[-500:])
        elif status == 'Success' and found != ['FOUND0', 'FOUND1', 'FOUND2']:
            self.problems.append('C-FIND: Success with the answers %s' % found)
        self.stopping.wait(0.1)
