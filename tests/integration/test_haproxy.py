# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on one machine, pools on two others, and between them the HAProxy of examples/haproxy.

The machines are namespaces (machines.py); users, paths, addresses and configurations are those
of docs/across-machines.md.
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import pytest

import wire
from daemon import Daemon, copy_programs
from load import Load
from machines import Machine, NoMachine, OrthancThere
from server import PATIENCE, PID_ROUTE, REPOSITORY, is_alive, ours_plugin, wait_until

pytestmark = [pytest.mark.ours, pytest.mark.survival,
              pytest.mark.skipif(os.geteuid() != 0, reason='only root can make machines')]

EXAMPLE = os.path.join(REPOSITORY, 'examples', 'haproxy')
ORTHANC, POOL = 54331, 54332    # users that need not exist
ADDRESSES = {'orthanc': '192.0.2.10', 'pool-a': '192.0.2.21', 'pool-b': '192.0.2.22'}
CLIENTS = 4     # of each server under load
RESUME = 10     # seconds from the death of a pool to answers of the other one
SCRIPT = '''
import json, socket, subprocess, sys, threading
import orthanc

def work(output, uri, **request):
    token = request['get']['token']
    name = json.loads(orthanc.RestApiGet('/system'))['Name']
    output.AnswerBuffer('%s %s %s' % (token, name, socket.gethostname()), 'text/plain')

def echo(output, uri, **request):
    output.AnswerBuffer(request['body'], 'application/octet-stream')

def nested(output, uri, **request):
    answer = orthanc.RestApiPostAfterPlugins('/echo', request['body'])
    output.AnswerBuffer(answer, 'application/octet-stream')

def thread(output, uri, **request):
    answers = []
    def ask():
        answers.append(orthanc.RestApiPostAfterPlugins('/echo', request['body']))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    [each.start() for each in threads]
    [each.join() for each in threads]
    output.AnswerBuffer(b''.join(answers), 'application/octet-stream')

def child(output, uri, **request):
    done = subprocess.run([sys.executable, '-c', 'import orthanc; print(orthanc.RestApiGet("/system"))'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output.AnswerBuffer(done.stdout, 'text/plain')

for name in ('work', 'echo', 'nested', 'thread', 'child'):
    orthanc.RegisterRestCallback('/' + name, globals()[name])
''' + PID_ROUTE


class Network:
    """A machine of servers, two of pools, HAProxy on all, and what the page says beside it."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix='opbh-')
        os.chmod(self.base, 0o755)
        self.haproxy_group = pwd.getpwnam('haproxy').pw_gid
        self.plugin = shutil.copy(ours_plugin(), self.base)
        self.program = copy_programs(self.base)
        self.certificates = os.path.join(self.base, 'certificates')
        subprocess.run([os.path.join(EXAMPLE, 'certificates'), self.certificates] + list(ADDRESSES),
                       check=True, timeout=60)
        self.machines, self.pools, self.haproxies, self.servers = {}, {}, {}, []

    def build(self):
        for name in ADDRESSES:
            try:
                self.machines[name] = self._machine(name)
            except NoMachine as e:
                pytest.skip('no machine can be made here: %s' % e)
        home = self.machines['orthanc']
        for name in ('pool-a', 'pool-b'):
            home.connect(ADDRESSES['orthanc'], self.machines[name], ADDRESSES[name])
            self.pools[name] = self._pool(self.machines[name])
        for name, machine in reversed(self.machines.items()):    # first what the others look for
            self.haproxies[name] = machine.start_haproxy(self.log_path(name), '/run/orthanc-lanes/haproxy.sock')
        return self

    def log_path(self, name):
        return os.path.join(self.base, name + '.log')

    def _machine(self, name):
        machine = Machine(name)
        kind = 'orthanc' if name == 'orthanc' else 'pool'
        machine.copy(os.path.join(EXAMPLE, kind + '-machine.cfg'), '/etc/haproxy/haproxy.cfg')
        machine.copy(os.path.join(self.certificates, 'ca.pem'), '/etc/haproxy/lanes/ca.pem')
        machine.copy(os.path.join(self.certificates, name + '.pem'), '/etc/haproxy/lanes/machine.pem', 0o600)
        os.mkdir(machine.path('/srv/orthanc-python'))
        with open(machine.path('/srv/orthanc-python/script.py'), 'w', encoding='ascii') as f:
            f.write(SCRIPT)
        os.mkdir(machine.path('/run/orthanc-lanes'))
        os.chown(machine.path('/run/orthanc-lanes'), 0, self.haproxy_group)
        os.chmod(machine.path('/run/orthanc-lanes'), 0o770)
        os.mkdir(machine.path('/run/orthanc-python'))
        os.chown(machine.path('/run/orthanc-python'), POOL, POOL)
        os.chmod(machine.path('/run/orthanc-python'), 0o751)
        return machine

    def _pool(self, machine):
        with open(os.path.join(EXAMPLE, 'pool.json'), encoding='utf-8') as f:
            pool = Daemon(json.load(f), wrapper=machine.enter((POOL, POOL, [self.haproxy_group])))
        pool.program = self.program
        pool.socket = machine.path(pool.config['Socket'])
        return pool.start()

    def ask_haproxy(self, name, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.machines[name].path('/run/orthanc-lanes/haproxy.sock'))
            s.sendall(command.encode() + b'\n')
            return b''.join(iter(lambda: s.recv(65536), b'')).decode()

    def is_settled(self, name):
        """Whether it hands over what is stuck where, and has been handed that."""
        flags = re.findall(r'disabled=\d flags=0x([0-9a-f]+)', self.ask_haproxy(name, 'show peers'))
        return all(int(each, 16) & 3 == 3 for each in flags)

    def reload_haproxy(self, name):
        """As systemd does it."""
        def loaded():
            with open(self.log_path(name), encoding='utf-8') as f:
                return f.read().count('Loading success')

        wait_until(lambda: self.is_settled(name), 20, 'the end of the start of HAProxy')
        before = loaded()
        self.haproxies[name].send_signal(signal.SIGUSR2)
        wait_until(lambda: loaded() > before and self.is_settled(name), 20, 'the next HAProxy')

    def server(self, number, **python):
        """The server of that number, whose configuration is python-1.json, with its number."""
        with open(os.path.join(EXAMPLE, 'python-1.json'), encoding='utf-8') as f:
            fragment = json.loads(f.read().replace('-1', '-%d' % number))
        machine = self.machines['orthanc']
        server = OrthancThere(
            machine, os.path.join(self.base, 'server-%d' % number), script_path=fragment['PythonScript'],
            config={'Plugins': [self.plugin], 'Name': 'server-%d' % number},
            python={**fragment['Python'], 'Worker': None, **python},
            user=(ORTHANC, ORTHANC, [self.haproxy_group]))
        self.servers.append(server)
        return server.start()

    def close(self):
        try:
            for server in self.servers:
                server.close()
            for pool in self.pools.values():
                pool.close()
        finally:
            for machine in self.machines.values():
                machine.close()
            shutil.rmtree(self.base)


@pytest.fixture
def network(request):
    made = Network()
    request.node.opb_servers = made.servers
    try:
        yield made.build()
    finally:
        for name in ADDRESSES:
            if os.path.exists(made.log_path(name)):
                with open(made.log_path(name), encoding='utf-8') as f:
                    print(name, f.read()[-3000:])
        made.close()


def where(server):
    """The machine that runs the server's script."""
    answer = server.get('/work?token=x')
    assert answer.status_code == 200, answer.text
    return answer.text.split()[2]


def work(server, token):
    """One request of a Load: the machine that has answered."""
    answer = server.get('/work?token=' + token, timeout=60)
    if answer.status_code != 200:
        return answer.status_code
    token_back, name, machine = answer.text.split()
    is_right = (token_back, name) == (token, os.path.basename(server.directory))
    return machine if is_right else 'wrong: ' + answer.text


def test_a_pool_of_two_is_killed_under_load(network):
    """leastconn gives each server a pool; that of one dies, and it goes on at the other."""
    servers = [network.server(1), network.server(2)]
    homes = [where(server) for server in servers]
    assert sorted(homes) == ['pool-a', 'pool-b']
    lost, kept = homes
    pid = servers[1].host_pid()
    with Load(servers, work, CLIENTS) as load:
        for server, home in zip(servers, homes):
            load.wait_for_more([server], home, more=20)
        killed = time.monotonic()
        network.pools[lost].kill()
        load.wait_for_more([servers[0]], kept, more=20)
        network.pools[lost].start()
        load.wait_for_more([servers[0]], kept, more=100)      # it does not go back by itself
    print('answers', load.answers, 'resumed after %.2f s' % (load.first[servers[0]][kept] - killed))
    assert load.first[servers[0]][kept] - killed < RESUME * PATIENCE
    assert load.results(servers[0]) <= {lost, kept, 502, 503}, load.answers
    assert load.results(servers[1]) == {kept}, load.answers
    assert servers[1].host_pid() == pid
    assert where(servers[0]) == kept and len(network.pools[kept].hosts()) == 2


def test_a_pool_is_emptied_by_stopping_it(network):
    """Its servers go to the other one, and no call is lost."""
    server = network.server(1)
    left = where(server)
    kept = 'pool-b' if left == 'pool-a' else 'pool-a'
    with Load([server], work, CLIENTS) as load:
        load.wait_for_more([server], left, more=20)
        assert network.pools[left].terminate() == 0
        load.wait_for_more([server], kept, more=20)
    assert load.results(server) == {left, kept}, load.answers


def test_a_machine_with_a_pool_is_cut_off_under_load(network):
    """Nothing says so to anybody: calls that ran there end, the next ones go to the other."""
    server = network.server(1)
    lost = where(server)
    kept = 'pool-b' if lost == 'pool-a' else 'pool-a'
    hosts = network.pools[lost].hosts()
    with Load([server], work, CLIENTS) as load:
        load.wait_for_more([server], lost, more=20)
        cut = time.monotonic()
        network.machines[lost].run('ip', 'link', 'set', 'to-orthanc', 'down')
        load.wait_for_more([server], kept, more=20)
    print('answers', load.answers, 'resumed after %.2f s' % (load.first[server][kept] - cut))
    assert load.first[server][kept] - cut < RESUME * PATIENCE
    assert load.results(server) <= {lost, kept, 502, 503}, load.answers
    wait_until(lambda: not any(map(is_alive, hosts)), 60, 'the end of the hosts over there')
    print('hosts ended after %.1f s' % (time.monotonic() - cut))


def test_haproxy_is_reloaded_under_load(network):
    """Lanes that are open go on, no call is lost, and new lanes find the pool of the hosts."""
    servers = sorted([network.server(1), network.server(2)], key=where)
    homes = [where(server) for server in servers]
    pids = [server.host_pid() for server in servers]
    with Load(servers, work) as load:
        load.wait_for_more([servers[0]], homes[0], more=20)
        for name in ADDRESSES:
            network.reload_haproxy(name)
            for server, home in zip(servers, homes):
                load.wait_for_more([server], home, more=20)
    for server, home in zip(servers, homes):
        assert load.results(server) == {home}, load.answers
    assert [server.host_pid() for server in servers] == pids
    for server, home, pid in reversed(list(zip(servers, homes, pids))):     # not as leastconn would choose
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda server=server: server.get('/work?token=x').status_code == 200, 10, 'the next host')
        assert where(server) == home
        assert 'no node of that name' not in server.log()


def test_all_kinds_of_lanes_work_without_shared_memory(network):
    """The descriptor stays behind at the proxy: the lane goes on in the stream, whatever its size."""
    server = network.server(1, Workers=2)
    for size in (1, 5000, 3000000):
        body = os.urandom(size)
        assert server.post('/echo', body).content == body
        assert server.post('/nested', body).content == body
        assert server.post('/thread', body).content == 4 * body
    with open('/proc/%d/maps' % server.pid, encoding='utf-8') as f:
        maps = f.read()
    assert 'libOrthancPythonBridge' in maps and 'opb-lane' not in maps
    answer = server.get('/child').text
    assert '"Name" : "server-1"' in answer.replace('\\n', ''), answer
    generation = server.post('/python-bridge/reload').json()
    assert generation['Generation'] == 2 and server.post('/thread', b'x').content == b'xxxx'
    assert server.stop() == 0
    assert not os.path.exists(network.machines['orthanc'].path('/run/orthanc-lanes/node-1.sock'))


def greet(machine, address, context=None):
    """Says hello to a pool through TLS; the answer, or nothing."""
    with machine.network():
        plain = socket.create_connection(address, 10 * PATIENCE)
    connection = plain if context is None else context.wrap_socket(plain, server_hostname='pool-a')
    try:
        connection.sendall(wire.frame(wire.hello(wire.CONTROL)))
        return connection.recv(4096)
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return b''
    finally:
        connection.close()


def test_only_who_has_a_certificate_comes_in(network):
    home, address = network.machines['orthanc'], (ADDRESSES['pool-a'], 8900)
    other = os.path.join(network.base, 'other')
    subprocess.run([os.path.join(EXAMPLE, 'certificates'), other, 'orthanc'], check=True, timeout=60)

    def context(certificates):
        made = ssl.create_default_context(cafile=os.path.join(network.certificates, 'ca.pem'))
        if certificates is not None:
            made.load_cert_chain(os.path.join(certificates, 'orthanc.pem'))
        return made

    assert greet(home, address) == b''
    assert greet(home, address, context(None)) == b''
    assert greet(home, address, context(other)) == b''
    welcome = wire.pack(None) + wire.pack([wire.VERSION])
    assert greet(home, address, context(network.certificates)).endswith(welcome)
