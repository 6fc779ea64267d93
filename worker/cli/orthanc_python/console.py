# SPDX-License-Identifier: GPL-3.0-or-later
"""console: a Python prompt with the orthanc module, attached to a running server.

Here:      which host, the way to its node, and as whom.
Elsewhere: the prompt (session.py), which runs in the Python that the module was built for.

A host keeps open a file of memory that says where its node is, and the node's secret, for
its child processes (docs/decisions.md). The kernel lets only the user of the host look at
it, and root, who becomes that user here. So the console has no rights but those of the script.
"""

import os
import pwd
import stat

from orthanc_python import FAILED, REFUSED, USAGE, Problem, parts, wire
from orthanc_python.rest import Server
from orthanc_python.status import get_status

FILE = '/memfd:orthanc-python-bridge'
SESSION = 'session.py'
LARGEST = 1 << 20


def choose_host(arguments):
    """The process of a host: as given, or as the server says."""
    if arguments.pid:
        return arguments.pid
    hosts = get_status(Server(arguments)).get('Hosts') or []
    for host in hosts:
        if host.get('Worker', 0) == arguments.worker:
            return host['Pid']
    raise Problem(FAILED, 'No host %d serves in %s' % (arguments.worker, arguments.url))


def user_of(pid):
    """(user, group, other groups) of a process."""
    try:
        with open('/proc/%d/status' % pid, encoding='utf-8') as file:
            fields = dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)
    except OSError:
        raise Problem(FAILED, 'There is no process %d here: the host runs on another machine, or in a container, '
                      'where this command has to be run' % pid) from None
    return (int(fields['Uid'].split()[1]), int(fields['Gid'].split()[1]), [int(each) for each in fields['Groups'].split()])


def name_of(user):
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def become_user_of(pid):
    """Gives up what root may do. Others must be that user already."""
    user, group, groups = user_of(pid)
    if os.geteuid() == user:
        return
    if os.geteuid() != 0:
        raise Problem(REFUSED, 'The host (process %d) runs as user %s: only that user, or root, may open a console '
                      'there' % (pid, name_of(user)))
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def find_file(pid):
    """The path of the host's file for its children."""
    folder = '/proc/%d/fd' % pid
    try:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            try:
                if os.readlink(path).startswith(FILE) and stat.S_ISREG(os.stat(path).st_mode):
                    return path
            except OSError:
                continue    # closed meanwhile
    except OSError as error:
        raise Problem(REFUSED, 'Process %d cannot be looked at: %s' % (pid, error.strerror)) from None
    raise Problem(USAGE, 'Process %d is no host of the Python bridge' % pid)


def read_file(path):
    """What Load has told the host."""
    try:
        with open(path, 'rb') as file:
            data = file.read(LARGEST)
        size, _, _ = wire.HEAD.unpack(data[:wire.HEAD.size])
        return wire.unpack(data[wire.HEAD.size:wire.HEAD.size + size])[3][0]
    except (OSError, ValueError, LookupError, TypeError, wire.struct.error) as error:
        raise Problem(FAILED, 'The host has ended meanwhile, or is of another release: %s' % error) from None


def reachable(pid, path, told):
    """The path of a file that leads to the node from here. The host may have a /tmp of its own."""
    if os.path.exists(told['node_socket']):
        return path
    folder, name = os.path.split(told['node_socket'])
    try:
        descriptor = os.open('/proc/%d/root%s' % (pid, folder), os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise Problem(FAILED, 'The socket of Orthanc, %s, cannot be reached from here: %s'
                      % (told['node_socket'], error.strerror)) from None
    os.set_inheritable(descriptor, True)
    segments = []
    envelope = wire.pack([wire.REQUEST, 0, 0, [dict(told, node_socket='/proc/self/fd/%d/%s' % (descriptor, name))]],
                         segments)
    memory = os.memfd_create('orthanc-python-console', 0)   # for the Python that follows, too
    os.fchmod(memory, 0o600)
    os.write(memory, wire.HEAD.pack(len(envelope), 0, 0) + envelope)
    return '/proc/self/fd/%d' % memory


def console(arguments):
    pid = choose_host(arguments)
    session = os.path.join(os.path.dirname(os.path.abspath(__file__)), SESSION)
    become_user_of(pid)
    path = find_file(pid)
    told = read_file(path)
    library = parts.library_of(pid)
    program = arguments.python or parts.python_program(library)
    module = str(parts.module_folder(library))
    environment = dict(os.environ, ORTHANC_PYTHON_BRIDGE_CREDENTIALS=reachable(pid, path, told),
                       ORTHANC_PYTHON_BRIDGE_CONSOLE='1', ORTHANC_PYTHON_BRIDGE_NODE_VERSION=told['version'])
    words = [program, '-B', '-P', session, module, str(pid), ', '.join(told['scripts']), told['version']]
    if arguments.code is not None:
        words.append(arguments.code)
    try:
        os.execve(program, words, environment)
    except OSError as error:
        raise Problem(FAILED, '%s cannot be run: %s' % (program, error.strerror)) from None
