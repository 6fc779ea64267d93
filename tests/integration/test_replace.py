# SPDX-License-Identifier: GPL-3.0-or-later
"""Python.Reload is "replace": the old generation ends before the next one loads, and calls wait."""

import functools
import json
import os
import signal
import threading
import time

import pytest

import dicom
from daemon import Daemon
from load import Load
import server as servers
from server import PATIENCE, PID_ROUTE, free_port, hosts_of, is_alive, status, wait_until, write

pytestmark = [pytest.mark.ours, pytest.mark.survival]

# What only one can have is taken at import.
SCRIPT = r'''
import atexit, os, socket, threading, time
import orthanc

def say(*words):
    os.write(1, (' '.join(str(word) for word in words) + '\n').encode())

SOCKET = socket.create_server(('127.0.0.1', PORT))
atexit.register(time.sleep, 0.3)    # and is held for a while

def version(output, uri, **request):
    output.AnswerBuffer('VERSION', 'text/plain')

def wait(output, uri, **request):
    say('waiting VERSION')
    time.sleep(float(request['groups'][0]))
    output.AnswerBuffer('waited VERSION', 'text/plain')

def on_change(change_type, level, resource):
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        say('started VERSION')
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        say('stopped VERSION', len(orthanc.RestApiGet('/system')) > 0)
    elif change_type == orthanc.ChangeType.NEW_INSTANCE:
        time.sleep(0.05)
        say('instance', resource, 'VERSION')

orthanc.RegisterRestCallback('/version', version)
orthanc.RegisterRestCallback('/wait/(.*)', wait)
orthanc.RegisterOnChangeCallback(on_change)
''' + PID_ROUTE

RELOAD = '/python-bridge/reload'
BROKEN = "raise ValueError('broken on purpose')\n"
NOTHING = "import orthanc\n" + PID_ROUTE

# Which waits for the end of the old generation as well.
reload = functools.partial(servers.reload, timeout=90)


@pytest.fixture
def text_of():
    port = free_port()

    def make(version, more=''):
        return SCRIPT.replace('VERSION', version).replace('PORT', str(port)) + more

    return make


def in_background(function, *args, **kwargs):
    results = []

    def run():
        try:
            results.append(function(*args, **kwargs))
        except (AssertionError, OSError) as e:
            results.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def ask_version(server, token):
    answer = server.get('/version', timeout=60)
    return answer.text if answer.status_code == 200 else answer.status_code


def test_a_script_that_binds_a_port_cannot_be_loaded_beside_itself(orthanc, text_of):
    """The default, "beside": the old generation goes on."""
    server = orthanc(script=text_of('one'), python={'Workers': 1})
    pid = server.host_pid()
    write(server, text_of('two'))
    assert 'Address already in use' in reload(server, 500)['Details']
    assert server.get('/version').text == 'one' and server.host_pid() == pid
    assert status(server)['Reload']['Mode'] == 'beside'
    assert status(server)['Reload']['OldIsGone'] is False


@pytest.mark.smoke
def test_it_is_replaced_under_load_without_a_failed_request(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 60})
    pids = [server.host_pid()]
    with Load([server], ask_version, clients=8) as load:
        load.wait_for_more(result='one')
        for generation, version in enumerate(['two', 'three', 'four'], 2):
            write(server, text_of(version))
            answer = reload(server)
            assert answer['Generation'] == generation
            pids.append(answer['Pid'])
            load.wait_for_more(result=version)
    assert load.results(server) == {'one', 'two', 'three', 'four'}
    assert len(set(pids)) == 4 and not any(is_alive(pid) for pid in pids[:3])
    said = status(server)
    assert said['Reload'] == {'Mode': 'replace', 'OldIsGone': False, 'Running': False, 'ScriptIsBroken': False,
                              'Failure': None}
    assert said['Generation'] == 4 and said['Deaths']['Count'] == 0 and said['Calls']['NoHost'] == 0
    assert not server.messages('E'), server.messages('E')
    assert server.stop() == 0
    server.assert_no_leftovers()


def test_by_itself_when_the_file_changes(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'ReloadOnChange': True})
    with Load([server], ask_version, clients=4) as load:
        write(server, text_of('two'))
        load.wait_for_more(result='two')
    assert load.results(server) <= {'one', 'two'}
    assert not server.messages('E'), server.messages('E')


def test_a_call_that_runs_ends_first_and_the_next_ones_wait(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 60})
    running, ran = in_background(server.get, '/wait/3', timeout=60)
    server.wait_for_out('waiting one')
    write(server, text_of('two'))
    reloading, reloaded = in_background(reload, server)
    server.wait_for_log('for the next generation')
    time.sleep(0.5)     # it is being drained by now; if it is not, the next call may be answered by the old one
    began = time.monotonic()
    assert server.get('/version', timeout=60).text == 'two'
    assert time.monotonic() - began > 1
    running.join(60)
    reloading.join(60)
    assert ran[0].text == 'waited one' and reloaded[0]['Generation'] == 2
    assert not server.messages('E'), server.messages('E')


NEEDS_ANOTHER_THREAD = r'''
import json
def received(data, origin):
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
orthanc.RegisterReceivedInstanceCallback(received)
def store(output, uri, **request):
    say('storing VERSION')
    time.sleep(1.5)
    answer = orthanc.RestApiPost('/modalities/self/store', json.dumps(
        {'Resources': [request['groups'][0]], 'Synchronous': True}))
    output.AnswerBuffer(answer, 'application/json')
orthanc.RegisterRestCallback('/store/(.*)', store)
'''


def test_a_call_that_needs_another_one_to_end_gets_it(orthanc, text_of):
    """It stores to its own server, whose other thread asks the script: which must not wait for its end."""
    server = orthanc(script=text_of('one', NEEDS_ANOTHER_THREAD.replace('VERSION', 'one')),
                     python={'Reload': 'replace', 'QueueTimeout': 4 * PATIENCE}, dicom=True)
    server.put('/modalities/self', json.dumps({'AET': 'ORTHANC', 'Host': '127.0.0.1', 'Port': server.dicom_port}))
    instance = server.upload(dicom.make_dicom(PatientID='1'))
    running, ran = in_background(server.get, '/store/' + instance, timeout=60)
    server.wait_for_out('storing one')
    write(server, text_of('two'))
    assert reload(server)['Generation'] == 2
    running.join(60)
    assert ran[0].status_code == 200 and ran[0].json()['FailedInstancesCount'] == 0, ran[0].text
    assert server.get('/version').text == 'two'
    assert not server.messages('E'), server.messages('E')


ASKED_FOR_MUCH = r'''
def on_filter(uri, **request):
    return True
def received(data, origin):
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
def stored(instance, instance_id):
    say('stored VERSION')
orthanc.RegisterIncomingHttpRequestFilter(on_filter)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterOnStoredInstanceCallback(stored)
if hasattr(orthanc, 'RegisterIncomingCStoreInstanceFilter'):
    orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: 0)
'''
TAKES_LONG_TO_LOAD = r'''
say('loading VERSION')
while not os.path.exists('GATE'):
    time.sleep(0.05)
'''


def test_what_waits_for_a_script_that_does_not_ask_any_more_goes_without(orthanc, text_of, tmp_path):
    """A filter that was there when the request came, and is not when a host is: as if it had come later."""
    gate = tmp_path / 'gate'
    server = orthanc(script=text_of('one', ASKED_FOR_MUCH.replace('VERSION', 'one')),
                     python={'Reload': 'replace', 'QueueTimeout': 60}, dicom=True)
    server.upload(dicom.make_dicom(PatientID='before'))
    server.wait_for_out('stored one')
    file = tmp_path / 'meanwhile.dcm'
    file.write_bytes(dicom.make_dicom(PatientID='by DICOM'))
    write(server, text_of('two', TAKES_LONG_TO_LOAD.replace('VERSION', 'two').replace('GATE', str(gate))))
    reloading, reloaded = in_background(reload, server)
    server.wait_for_out('loading two')
    asking, asked = in_background(server.get, '/statistics', timeout=60)
    sending, sent = in_background(dicom.storescu, server, str(file))
    uploading, uploaded = in_background(server.upload, dicom.make_dicom(PatientID='by HTTP'))
    asking.join(1)
    assert asking.is_alive() and sending.is_alive() and uploading.is_alive()
    gate.touch()
    for thread in (reloading, asking, sending, uploading):
        thread.join(60)
    assert reloaded[0]['Generation'] == 2
    assert asked[0].status_code == 200 and isinstance(uploaded[0], str), (asked, uploaded)
    assert sent[0].returncode == 0, sent[0]
    assert server.get('/statistics').json()['CountInstances'] == 3
    assert not server.messages('E'), server.messages('E')


def test_calls_that_wait_for_long_are_served_by_the_old_one(orthanc, text_of):
    """None fails by QueueTimeout while there is a host."""
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 3 * PATIENCE})
    running, ran = in_background(server.get, '/wait/%d' % (7 * PATIENCE), timeout=90)
    server.wait_for_out('waiting one')
    write(server, text_of('two'))
    with Load([server], ask_version, clients=4) as load:
        reloading, reloaded = in_background(reload, server)
        load.wait_for_more(result='two', timeout=60)
    running.join(90)
    reloading.join(90)
    assert load.results(server) == {'one', 'two'}
    assert ran[0].text == 'waited one' and reloaded[0]['Generation'] == 2


def test_a_call_that_outlasts_the_limit_is_ended(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'DrainTimeout': 4, 'StopTimeout': 1})
    running, ran = in_background(server.get, '/wait/600', timeout=60)
    server.wait_for_out('waiting one')
    write(server, text_of('two'))
    began = time.monotonic()
    reload(server)
    assert time.monotonic() - began < 7.5 * PATIENCE    # it has this time once
    running.join(60)
    assert ran[0].status_code == 502
    server.wait_for_log('DrainTimeout')
    server.wait_for_out('stopped one True\n')
    assert server.get('/version').text == 'two'


def test_events_are_in_order_and_none_is_lost(orthanc, text_of):
    """Those that wait go to the next generation, after ORTHANC_STARTED."""
    server = orthanc(script=text_of('one'), python={'Reload': 'replace'})
    ids = []
    for number in range(12):
        ids.append(server.upload(dicom.make_dicom(PatientID=str(number))))
        if number in (3, 7):
            write(server, text_of('two' if number == 3 else 'three'))
            reload(server)
    assert server.stop() == 0
    lines = server.out().splitlines()
    assert [line.split()[1] for line in lines if line.startswith('instance')] == ids
    assert [line for line in lines if not line.startswith('instance')] == [
        'started one', 'stopped one True', 'started two', 'stopped two True', 'started three', 'stopped three True']
    owner = None
    for line in lines:
        words = line.split()
        owner = words[1] if words[0] == 'started' else owner
        assert words[0] == 'stopped' or words[-1] == owner, lines


def test_events_that_nobody_wants_any_more_are_no_error(orthanc, text_of):
    slow = text_of('one').replace('time.sleep(0.05)', 'time.sleep(0.5)')    # all of them take 6 s
    server = orthanc(script=slow, python={'Reload': 'replace'})
    for number in range(12):
        server.upload(dicom.make_dicom(PatientID=str(number)))
    write(server, NOTHING)
    reload(server)
    assert server.stop() == 0
    assert 0 < server.out().count('instance') < 12, 'none was left for the next generation'
    assert not server.messages('E'), server.messages('E')


@pytest.mark.smoke
def test_a_script_that_does_not_load_is_tried_again(orthanc, text_of):
    """The old generation is gone, which log, answer and status say; callers get 503, until it loads."""
    server = orthanc(script=text_of('one'),
                     python={'Reload': 'replace', 'ReloadOnChange': True, 'QueueTimeout': 1})
    server.wait_for_out('started one')
    write(server, BROKEN)
    server.wait_for_log('the one before has ended.*no call is served until a host has loaded the script', timeout=30)
    answer = server.get('/version', timeout=60)
    assert answer.status_code == 503 and int(answer.headers['Retry-After']) > 0
    said = status(server)
    assert 'broken on purpose' in said['Reload']['Failure'] and said['Reload']['ScriptIsBroken'] is True
    assert said['Reload']['OldIsGone'] is True and said['Hosts'] == [] and said['Generation'] == 2
    assert any('broken on purpose' in (each['Failure'] or '') for each in said['Generations']), said['Generations']
    answer = reload(server, 500)
    assert 'broken on purpose' in answer['Details']
    assert answer['Error'] == 'The script could not be loaded, and the generation before has ended: no host serves'
    write(server, text_of('two'))
    wait_until(lambda: server.get('/version', timeout=60).text == 'two', 40, 'the script that loads')
    server.wait_for_out('started two')
    wait_until(lambda: not status(server)['Reload']['Running'] and status(server)['Hosts'], 30, 'the end of it')
    assert status(server)['Reload']['OldIsGone'] is False
    assert server.stop() == 0
    lines = server.out().splitlines()
    assert lines[:3] == ['started one', 'stopped one True', 'started two'], lines


def test_a_broken_script_needs_no_other_reload(orthanc, text_of):
    """Without ReloadOnChange, too: the next host that is tried finds the file as it is then."""
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 60})
    write(server, BROKEN)
    reload(server, 500)
    waiting, waited = in_background(server.get, '/version', timeout=90)
    write(server, text_of('two'))
    waiting.join(90)
    assert waited[0].text == 'two'      # it has waited for that
    assert status(server)['Reload']['OldIsGone'] is False


def test_a_script_that_hangs_at_import_can_be_repaired(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'ReloadTimeout': 1, 'QueueTimeout': 1})
    hanging = 'import os, time\nos.write(1, b"hanging %d\\n" % os.getpid())\ntime.sleep(1000)\n'
    write(server, hanging)
    assert 'ReloadTimeout' in reload(server, 500)['Details']
    wait_until(lambda: server.out().count('hanging') >= 2, 20, 'the next attempt, which has no limit')
    write(server, text_of('two'))
    assert reload(server)['Pid'] == server.host_pid()
    assert server.get('/version').text == 'two'
    supervisor = server.supervisor()
    wait_until(lambda: len(hosts_of(supervisor)) == 1, 20, 'the end of all others')
    assert server.stop() == 0


def test_no_process_to_replace_it_leaves_the_old_one(orthanc, text_of):
    """The next hosts are started before the old ones end."""
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'StartTimeout': 2})
    pid = server.host_pid()
    running, ran = in_background(server.get, '/wait/3', timeout=60)
    server.wait_for_out('waiting one')
    reloading, reloaded = in_background(server.post, RELOAD, timeout=90)
    found = server.wait_for_log(r'Host \d+ has started \(pid (\d+)\), for the next generation')
    os.kill(int(found.group(1)), signal.SIGKILL)
    reloading.join(90)
    running.join(60)
    assert reloaded[0].status_code == 500 and 'goes on' in reloaded[0].json()['Error'], reloaded[0].text
    assert ran[0].text == 'waited one'
    assert server.get('/version').text == 'one' and server.host_pid() == pid
    reload(server)
    assert server.host_pid() != pid


def test_all_hosts_are_gone_before_any_loads(orthanc, text_of):
    """With Workers the script shares the port among the hosts of a generation, which are of one version."""
    shared = text_of('one', "say('loaded one')\n").replace('create_server((', 'create_server(reuse_port=True, address=(')
    shared = shared.replace('atexit.register', "atexit.register(say, 'ended one')\natexit.register", 1)    # after that
    server = orthanc(script=shared, python={'Reload': 'replace', 'Workers': 3, 'QueueTimeout': 60})
    with Load([server], ask_version, clients=6) as load:
        load.wait_for_more(result='one')
        write(server, shared.replace('one', 'two'))
        reload(server)
        load.wait_for_more(result='two')
    assert load.results(server) == {'one', 'two'}
    assert len(status(server)['Hosts']) == 3
    lines = [line for line in server.out().splitlines() if line.startswith(('loaded', 'ended'))]
    assert lines == ['loaded one'] * 3 + ['ended one'] * 3 + ['loaded two'] * 3
    assert not server.messages('E'), server.messages('E')


def test_of_several_scripts_one_that_needs_it_is_enough(orthanc, text_of, tmp_path):
    directory = tmp_path / 'scripts'
    directory.mkdir()
    (directory / 'a.py').write_text(text_of('one'))
    (directory / 'b.py').write_text(NOTHING.replace('_pid', 'b'))
    server = orthanc(config={'PythonScript': str(directory)}, python={'Reload': 'replace'})
    (directory / 'a.py').write_text(text_of('two'))
    (directory / 'b.py').unlink()
    reload(server)
    assert server.get('/version').text == 'two' and server.get('/b').status_code == 404


def test_a_script_cannot_wait_for_its_own_end(orthanc, text_of):
    server = orthanc(script=text_of('one', r'''
def nested(output, uri, **request):
    try:
        orthanc.RestApiPostAfterPlugins('/python-bridge/reload', b'')
    except orthanc.OrthancException as e:
        output.AnswerBuffer(str(e), 'text/plain')
orthanc.RegisterRestCallback('/nested', nested)
def in_thread(output, uri, **request):
    results = []
    def run():
        try:
            orthanc.RestApiPostAfterPlugins('/python-bridge/reload', b'')
        except orthanc.OrthancException as e:
            results.append(str(e))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    output.AnswerBuffer(results[0], 'text/plain')
orthanc.RegisterRestCallback('/in-thread', in_thread)
'''), python={'Reload': 'replace'})
    pid = server.host_pid()
    began = time.monotonic()
    assert server.get('/nested').status_code == 200
    assert server.get('/in-thread').status_code == 200
    assert time.monotonic() - began < 5 * PATIENCE
    assert server.host_pid() == pid and status(server)['Generation'] == 1
    server.wait_for_log('the script cannot wait for its own end')


def test_the_host_dies_while_its_calls_end(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 60})
    pid = server.host_pid()
    running, ran = in_background(server.get, '/wait/600', timeout=90)
    server.wait_for_out('waiting one')
    write(server, text_of('two'))
    reloading, reloaded = in_background(server.post, RELOAD, timeout=90)
    server.wait_for_log('for the next generation')
    os.kill(pid, signal.SIGKILL)
    running.join(90)
    reloading.join(90)
    assert ran[0].status_code == 502
    assert reloaded[0].status_code == 200, reloaded[0].text
    assert server.get('/version', timeout=60).text == 'two'
    supervisor = server.supervisor()
    wait_until(lambda: len(hosts_of(supervisor)) == 1, 20, 'the end of all others')


def test_the_end_of_orthanc_meanwhile(orthanc, text_of):
    """While calls end the old one stays, and hears of the stop; while the next one loads it is gone."""
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'DrainTimeout': 3})
    running, _ = in_background(server.get, '/wait/2', timeout=60)
    server.wait_for_out('waiting one')
    reloading, reloaded = in_background(server.post, RELOAD, timeout=90)
    server.wait_for_log('for the next generation')
    assert server.stop() == 0
    running.join(60)
    reloading.join(60)
    assert server.out().count('stopped one True') == 1
    server.assert_no_leftovers()


def test_the_end_of_orthanc_while_the_next_one_loads(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace'})
    write(server, 'print("loading", flush=True)\nimport time\ntime.sleep(100)\n')
    reloading, _ = in_background(lambda: server.post(RELOAD, timeout=90))
    server.wait_for_out('loading')
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 12 * PATIENCE
    reloading.join(60)
    assert server.out().count('stopped one True') == 1
    server.assert_no_leftovers()


def test_the_worker_is_killed_while_the_next_one_loads(orthanc, text_of):
    server = orthanc(script=text_of('one'), python={'Reload': 'replace', 'QueueTimeout': 60})
    write(server, text_of('two', 'say("loading")\ntime.sleep(1)\n'))
    reloading, reloaded = in_background(server.post, RELOAD, timeout=90)
    server.wait_for_out('loading')
    os.kill(server.supervisor(), signal.SIGKILL)
    reloading.join(90)
    assert reloaded[0].status_code == 500
    wait_until(lambda: server.get('/version', timeout=90).text == 'two', 40, 'service')
    assert status(server)['Reload']['OldIsGone'] is False
    assert server.stop() == 0


def test_a_shared_pool_needs_to_know_nothing_of_it(orthanc, text_of):
    """The node decides, also when the pool is asked (SIGHUP); and each node as it is configured."""
    daemon = Daemon()
    try:
        daemon.start()
        one = orthanc(script=text_of('one'), python={'Pool': daemon.socket, 'Reload': 'replace'})
        other = orthanc(script=NOTHING, python={'Pool': daemon.socket})
        pids = one.host_pid(), other.host_pid()
        write(one, text_of('two'))
        with Load([one], ask_version, clients=4) as load:
            os.kill(daemon.process.pid, signal.SIGHUP)
            load.wait_for_more(result='two')
        assert load.results(one) <= {'one', 'two'}
        wait_until(lambda: other.host_pid() != pids[1], 20, 'the reload of the other')
        assert one.host_pid() != pids[0]
        assert not one.messages('E'), one.messages('E')
        one.stop()
        other.stop()
    finally:
        daemon.close()
