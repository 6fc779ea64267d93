# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole generated surface on a real Orthanc, called as it should not be.

Here:      a script with live objects of every class that can be had, and that both Orthanc and
           the host are the same processes afterwards. Only ours: the official plugin crashes.
Elsewhere: the calls and what the contract says of them (tests/unit/hostile_arguments.py).
"""

import json
import os

import pytest
import requests

import dicom
import sanitizer
from server import BUILD, ORTHANC_VERSION, PID_ROUTE, REPOSITORY, wait_until

pytestmark = pytest.mark.ours

with open(os.path.join(BUILD, 'generated', 'model.json'), encoding='utf-8') as model_file:
    MODEL = json.load(model_file)
with open(os.path.join(REPOSITORY, 'tests', 'unit', 'hostile_arguments.py'), encoding='utf-8') as f:
    TABLE = f.read()
# Contract 1.6: no script can have an object of these.
NEVER = {'Job', 'StorageArea', 'DicomWebNode', 'ServerChunkedRequestReader', 'WebDavCollection'}

PREAMBLE = 'VERSION, IS_SANITIZED = %r, %r\n' % (ORTHANC_VERSION, sanitizer.NAME is not None)
SCRIPT = r'''
import json
import os
import orthanc
from hostile_arguments import REGISTER, Surface, _index

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, 'model.json'), encoding='utf-8') as f:
    MODEL = json.load(f)
with open(os.path.join(HERE, 'image.dcm'), 'rb') as f:
    DICOM = f.read()
STALE = {}      # class: an object of a callback that is over
RESULTS = {}    # class: what its methods did


def leaves_out(function, args):
    """What would change the server under the test: callbacks that are not callable; names to be
    resolved; and gigabytes, which have a test of their own."""
    name = function['name']
    if name in REGISTER:
        return name != 'RegisterRestCallback'
    if name.startswith('Http'):
        return not args[0].startswith('http://127.0.0.1:1/') and args[0] != ''
    if name == 'BufferCompression' and IS_SANITIZED and isinstance(args[0], (bytes, str)):
        # Newer servers allocate what the first bytes claim, and catch that there is no memory.
        head = args[0] if isinstance(args[0], bytes) else args[0].encode('utf-8', 'replace')
        return int.from_bytes(head[:8], 'little') > 2**30
    if name in ('CreateMemoryBuffer', 'CreateImageFromBuffer'):
        return any((_index(value) or 0) % 2**32 > 2**20 for value in args)
    return False


NOTE = open(os.path.join(HERE, 'last-call'), 'wb', buffering=0)


def note(what):
    NOTE.seek(0)
    NOTE.write(what.encode('utf-8', 'replace').ljust(300)[:300])


def make_surface():
    surface = Surface(orthanc, MODEL, VERSION)
    surface.note = note
    surface.leaves_out = leaves_out
    surface.stale = dict(STALE)
    surface.live = {'Image': orthanc.CreateImage(1, 8, 8), 'Peers': orthanc.GetPeers(),
                    'DicomInstance': orthanc.CreateDicomInstance(DICOM),
                    'FindMatcher': orthanc.CreateFindMatcher(DICOM)}
    if hasattr(orthanc, 'KeysValuesIterator'):
        surface.live['KeysValuesIterator'] = orthanc.CreateKeysValuesIterator('opb')
    return surface


def report(surface):
    return {'calls': surface.calls, 'problems': surface.problems, 'called': sorted(surface.called)}


def on_functions(output, uri, **request):
    surface = make_surface()
    surface.call_functions()
    output.AnswerBuffer(json.dumps(report(surface)), 'application/json')


def on_objects(output, uri, **request):
    surface = make_surface()
    surface.call_constructors()
    surface.call_unbound()
    for name, thing in STALE.items():
        surface.call_dead(name, thing)
    for name in surface.live:
        surface.call_methods(name)
    output.AnswerBuffer(json.dumps(dict(report(surface), stale=sorted(STALE))), 'application/json')


def abuse(**things):
    """Calls the methods of what lives as long as this callback, and keeps the objects."""
    STALE.update(things)
    surface = make_surface()
    surface.stale = {}
    surface.live.update(things)
    for name in things:
        surface.call_methods(name)
    RESULTS['+'.join(things)] = report(surface)


def on_find(answers, query, *peer):
    abuse(FindAnswers=answers, FindQuery=query,
          **({'DicomConnection': peer[0]} if len(peer) == 1 else {}))


def on_worklist(answers, query, *peer):
    abuse(WorklistAnswers=answers, WorklistQuery=query)


def on_results(output, uri, **request):
    output.AnswerBuffer(json.dumps(RESULTS), 'application/json')


orthanc.RegisterRestCallback('/functions', on_functions)
orthanc.RegisterRestCallback('/objects', on_objects)
orthanc.RegisterRestCallback('/output', lambda output, uri, **request: abuse(RestOutput=output))
orthanc.RegisterRestCallback('/results', on_results)
getattr(orthanc, 'RegisterFindCallback2', orthanc.RegisterFindCallback)(on_find)
getattr(orthanc, 'RegisterWorklistCallback2', orthanc.RegisterWorklistCallback)(on_worklist)
'''


def check(report):
    assert not report['problems'], '%d of %d:\n%s' % (
        len(report['problems']), report['calls'], '\n'.join(report['problems'][:30]))
    assert report['calls'] > 20 * len(report['called']), report
    return set(report['called'])


def has(item):
    return tuple(int(n) for n in item['since'].split('.') if n) <= ORTHANC_VERSION


def make(orthanc, script, **config):
    return orthanc(script=script + PID_ROUTE, dicom=True, verbose=bool(config),
                   config=dict({'DicomAlwaysAllowFind': True, 'DicomAlwaysAllowFindWorklist': True,
                                'OrthancPeers': {'friend': {'Url': 'http://127.0.0.1:1/'}}}, **config),
                   files={'hostile_arguments.py': TABLE, 'model.json': json.dumps(MODEL),
                          'image.dcm': dicom.make_dicom('gray8')})


@pytest.mark.smoke
def test_no_arguments_break_the_server_or_the_host(orthanc):
    server = make(orthanc, PREAMBLE + SCRIPT)
    pids = server.pid, server.supervisor(), server.host_pid()
    try:
        server.get('/output', timeout=60)
    except requests.exceptions.RequestException:
        pass    # whatever it has been answered with
    dicom.findscu(server, 'QueryRetrieveLevel=PATIENT', 'PatientID=x')
    dicom.findscu(server, 'PatientID=x', model='-W')
    results = server.get('/results').json()
    assert len(results) == 3, list(results)
    called = set.union(*(check(result) for result in results.values()))
    objects = server.get('/objects', timeout=60).json()
    called |= check(objects) | check(server.get('/functions', timeout=60).json())

    assert called == {f['name'] for f in MODEL['functions']
                      if has(f) and f['name'].partition('.')[0] not in NEVER}
    assert set(objects['stale']) >= {'RestOutput', 'FindAnswers', 'FindQuery', 'WorklistAnswers',
                                     'WorklistQuery'}
    assert (server.pid, server.supervisor(), server.host_pid()) == pids
    assert server.poll() is None
    assert server.get('/system').json()['Name'] == 'test'
    server.upload(dicom.make_dicom('gray8'))


def test_as_many_objects_are_released_as_those_calls_make(orthanc):
    """The node's handles are back where they were: it logs what comes and goes."""
    server = make(orthanc, PREAMBLE + SCRIPT + r'''
import gc
def on_all(output, uri, **request):
    surface = make_surface()
    surface.call_functions()
    for name in surface.live:
        surface.call_methods(name)
    text = json.dumps(report(surface))
    del surface
    gc.collect()
    output.AnswerBuffer(text, 'application/json')
orthanc.RegisterRestCallback('/all', on_all)
''', PythonVerbose=True)
    made = {f['result'][1:-1] for f in MODEL['functions'] if f['result'][0] == 'O' and has(f)} - NEVER
    line = '%s Python object of class OrthancPlugin%s\n'

    def count(verb):
        log = server.log()
        return {name: log.count(line % (verb, name)) for name in made}

    check(server.get('/all', timeout=120).json())
    wait_until(lambda: count('Creating') == count('Destroying'), 20, 'the last one')
    assert all(count('Creating').values()) and sum(count('Creating').values()) > 500


IMAGES = r'''
import orthanc
OUTCOMES = []
def attempt(function):
    try:
        return str(function())
    except Exception as e:
        return type(e).__name__ + str(e.args)
def kilobytes(name):
    with open('/proc/self/status') as f:
        return [int(line.split()[1]) for line in f if line.startswith(name)][0]
def on_images(output, uri, **request):
    huge = orthanc.CreateImage(1, 2**31, 1)      # nobody looks at its memory
    made = [attempt(lambda: orthanc.CreateImage(*args)) for args in (
        (1, -1, -1), (1, 65536, 65536), (1, 65537, 65537), (4, 2**31, 0), (11, 2**29, 1),
        (1, 2**16, 2**16 + 1), (5, 2**30 + 1, 1))]
    made.append(attempt(lambda: orthanc.CreateImageFromBuffer(1, 65537, 65536, 0, b'')))
    made.append(attempt(lambda: huge.ConvertPixelFormat(orthanc.PixelFormat.RGB24)))
    output.AnswerBuffer('\n'.join(made), 'text/plain')
def on_memory(output, uri, **request):
    before = kilobytes('VmRSS')
    try:
        sizes = [len(orthanc.CreateMemoryBuffer(n)) for n in (2**31, -1, 2**32, 2**64 + 5)]
    except MemoryError:
        sizes = []    # a machine that has less
    output.AnswerBuffer(repr((before, kilobytes('VmHWM'), sizes)), 'text/plain')
orthanc.RegisterRestCallback('/images', on_images)
orthanc.RegisterRestCallback('/memory', on_memory)
'''


@pytest.mark.smoke
def test_images_of_impossible_sizes_are_refused(orthanc):
    """The core computes sizes with 32 bits: it would draw into, and show, memory of its own."""
    server = orthanc(script=IMAGES + PID_ROUTE)
    pids = server.pid, server.host_pid()
    *made, from_buffer, converted = server.get('/images').text.splitlines()
    assert len(made) == 7
    for outcome in made + [converted]:
        assert outcome.startswith('OrthancException(4, '), outcome
    assert from_buffer == "ValueError('Cannot create the image',)"
    assert (server.pid, server.host_pid()) == pids


def test_a_huge_memory_buffer_takes_no_memory_until_it_is_used(orthanc):
    """Not among the quick ones: a sanitizer marks each byte of a buffer."""
    server = orthanc(script=IMAGES + PID_ROUTE)
    before, peak, sizes = eval(server.get('/memory', timeout=30).text)
    assert sizes in ([2**31, 2**32 - 1, 0, 5], [])
    assert peak - before < 100000, (before, peak)
