# SPDX-License-Identifier: GPL-3.0-or-later
"""A script whose callbacks fail in the way that a test wants: their host dies, hangs, or is not there."""

import os
import re
import signal

from server import PATIENCE, PID_ROUTE, is_alive, wait_until

# Long enough for a call that does nothing, on a busy machine.
LIMIT = 1 * PATIENCE
FIND_FAILED = 'Failed: UnableToProcess'
OPEN_ACCESS = {'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowFindWorklist': True,
               'DicomAlwaysAllowMove': True, 'MaximumStorageCacheSize': 0}

# What a callback does is in a file with its name, so that the next host finds it too. A
# host does not finish loading while there is a file "slow".
BASE = r'''
import ctypes, json, os, re, signal, threading, time
import orthanc

while os.path.exists('slow'):
    time.sleep(0.02)

def hang_here():
    while True:
        pass

def act(kind):
    try:
        with open('act-' + kind) as f:
            action = f.read()
    except FileNotFoundError:
        return None
    if action.endswith('-once'):
        os.remove('act-' + kind)
    print('doing', kind, action, flush=True)
    if action.startswith('die'):
        os._exit(9)
    if action.startswith('hang'):
        hang_here()
    if action == 'raise':
        raise ValueError('as told')
    return action
''' + PID_ROUTE

SCRIPT = BASE + r'''
def rest(output, uri, **request):
    action = act('rest')
    if action == 'stream':
        output.StartMultipartAnswer('mixed', 'text/plain')
        for part in range(3):
            output.SendMultipartItem('part %d' % part)
        orthanc.RestApiGet('/system')       # they are with the client now
        act('streaming')
    else:
        output.AnswerBuffer('ok', 'text/plain')

def received(content, origin):
    act('received')
    return orthanc.ReceivedInstanceAction.MODIFY, content.replace(b'Doe^Jane', b'No^Name ')

def cstore(instance):
    act('cstore')
    return 0

def stored(instance, instance_id):
    act('stored')
    print('stored', instance_id, flush=True)

def find(answers, query, issuer, called):
    act('find')

def worklist(answers, query, issuer, called):
    act('worklist')

def move(**request):
    act('move')

def scp(*arguments):
    act('scp')
    return 'driver'

def lookup(*arguments):
    act('lookup')
    return orthanc.StorageCommitmentFailureReason.SUCCESS

orthanc.RegisterRestCallback('/rest', rest)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterIncomingCStoreInstanceFilter(cstore)
orthanc.RegisterOnStoredInstanceCallback(stored)
orthanc.RegisterFindCallback(find)
orthanc.RegisterWorklistCallback(worklist)
orthanc.RegisterMoveCallback(move)
orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)
'''

DIED, LATE, NO_HOST = 'die', 'hang', 'no-host'
WAYS = [DIED, LATE, NO_HOST]


def tell(server, kind, action):
    with open(os.path.join(server.cwd, 'act-' + kind), 'w', encoding='ascii') as f:
        f.write(action)


def tell_nothing(server, kind):
    path = os.path.join(server.cwd, 'act-' + kind)
    if os.path.exists(path):
        os.remove(path)


class Trouble:
    """With this, Python fails the given way when it is asked for the kind."""

    def __init__(self, server, kind, way):
        self.server, self.kind, self.way = server, kind, way
        self.slow = os.path.join(server.cwd, 'slow')

    def __enter__(self):
        if self.way == NO_HOST:
            pid = host_of(self.server)
            with open(self.slow, 'w', encoding='ascii'):
                pass
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), 10, 'the death of the host')
        else:
            tell(self.server, self.kind, self.way)
        return self

    def __exit__(self, *exception):
        tell_nothing(self.server, self.kind)
        if self.way == NO_HOST:
            os.remove(self.slow)
        wait_until(lambda: has_host(self.server), 30, 'the next host')


def host_of(server):
    """The host, told by its program: its routes may be out of order."""
    for pid in os.listdir('/proc'):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                program = f.read().split(b'\0')[0]
            with open('/proc/%s/environ' % pid, 'rb') as f:
                marked = server.mark.encode() in f.read()
            with open('/proc/%s/status' % pid, encoding='ascii', errors='replace') as f:
                parent = int(re.search(r'PPid:\s+(\d+)', f.read()).group(1))
        except (OSError, AttributeError):
            continue
        if marked and program == b'orthanc-python-host' and parent == server.supervisor():
            return int(pid)
    return None


def has_host(server):
    """Calls of a host that is being loaded would wait."""
    loaded = len(re.findall(r'The new host \(pid \d+\) is running', server.log()))
    ended = len(re.findall(r'^[EI].* The host \(pid \d+\) .*running', server.log(), re.MULTILINE))
    return loaded == ended and host_of(server) is not None


def make(orthanc, script=SCRIPT, limits=None, dicom=False, **kwargs):
    python = dict({'QueueTimeout': 15 * PATIENCE, 'StopTimeout': 2,
                   'CallTimeout': LIMIT if limits is None else limits}, **kwargs.pop('python', {}))
    return orthanc(script=script, dicom=dicom, config=dict(OPEN_ACCESS, **kwargs.pop('config', {})),
                   python=python, **kwargs)


def count_instances(server):
    return server.get('/statistics').json()['CountInstances']
