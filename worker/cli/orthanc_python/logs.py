# SPDX-License-Identifier: GPL-3.0-or-later
"""logs: the lines of the bridge and of the script, wherever they go.

Here:      finding out where that is, and handing on to journalctl or tail.
Elsewhere: nothing of ours keeps lines: a shared pool is a service, whose lines are in the
           journal; a managed pool's are in the log of its Orthanc.
"""

import os
import re
import shutil
import subprocess
import sys

from orthanc_python import FAILED, LATER, NO_ANSWER, USAGE, Problem
from orthanc_python.rest import Server
from orthanc_python.status import get_status

UNITS = ['orthanc-python-worker.service', 'orthanc-python-worker@*.service']
STATES = 'active,reloading,activating,deactivating,failed'
WORKER = 'orthanc-python-worker'
SYSTEMCTL_SECONDS = 30


def hand_on(words):
    """Becomes another program. Does not return."""
    try:
        os.execvp(words[0], words)
    except OSError as error:
        raise Problem(FAILED, '%s cannot be run: %s' % (words[0], error.strerror)) from None


def journal(arguments, units):
    words = ['journalctl']
    for unit in units:
        words += ['--unit', unit]
    words += ['--lines', str(arguments.lines)]
    if arguments.since:
        words += ['--since', arguments.since]
    if arguments.json:
        words += ['--output', 'json']
    words += ['--follow'] if arguments.follow else ['--no-pager']
    hand_on(words)


def find_units():
    """The pools that are services of systemd: those that run, or are about to again, and those that have failed."""
    if not shutil.which('systemctl'):
        return [], []
    try:
        done = subprocess.run(['systemctl', 'list-units', '--plain', '--no-legend', '--state=' + STATES, *UNITS],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=SYSTEMCTL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Problem(LATER, 'systemctl has not said within %g s which pools are services: name the service with --unit'
                      % SYSTEMCTL_SECONDS) from None
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]      # unit, loaded, state...
    return [row[0] for row in rows if row[2] != 'failed'], [row[0] for row in rows if row[2] == 'failed']


def find_hosts(arguments, failed):
    """Those of the server. Without any, a service that has failed is why: its lines are shown then."""
    try:
        hosts = get_status(Server(arguments)).get('Hosts') or []
    except Problem as problem:
        if problem.code != NO_ANSWER or not failed:
            raise
        hosts = []
    if not hosts and failed:
        say('A pool has failed, and its service does not start it again: %s' % ', '.join(failed))
        journal(arguments, failed)
    return hosts


def read(pid, name):
    with open('/proc/%d/%s' % (pid, name), 'rb') as file:
        return file.read()


def parent_of(pid):
    return int(re.search(r'^PPid:\s+(\d+)', read(pid, 'status').decode(), re.M).group(1))


def is_worker(pid):
    return os.path.basename(read(pid, 'cmdline').split(b'\0')[0].decode('utf-8', 'replace')) == WORKER


def find_orthanc(host):
    """The server that has started the pool of a host; None for a pool that is a service."""
    try:
        worker = parent_of(host)
        if not is_worker(worker):
            raise Problem(FAILED, 'Process %d, the host that the server names, is none here: run this command on the '
                          'machine and in the container of Orthanc' % host)
        # as a service, or by hand: then with a socket of its own
        return parent_of(worker) if b'--managed-fd' in read(worker, 'cmdline').split(b'\0') else None
    except (OSError, AttributeError):
        raise Problem(FAILED, 'There is no process %d here: run this command on the machine and in the container of '
                      'Orthanc' % host) from None


def unit_of(pid):
    """The service of a process, or None."""
    found = re.search(r'/([^/\n]+\.service)(?:/[^\n]*)?$', read(pid, 'cgroup').decode('utf-8', 'replace'), re.M)
    return found.group(1) if found else None


def log_file_of(pid):
    """Where Orthanc writes: what it holds open for writing and calls a log, or its stderr."""
    folder = '/proc/%d/fd' % pid
    stderr = os.readlink(folder + '/2')
    words = read(pid, 'cmdline').decode('utf-8', 'replace').split('\0')
    for word in words:
        name, _, value = word.partition('=')
        if name in ('--logfile', '--logdir') and value:
            directory = os.path.realpath(os.path.join('/proc/%d/cwd' % pid, value))
            for descriptor in os.listdir(folder):
                path = os.readlink(os.path.join(folder, descriptor))
                if path == directory or os.path.dirname(path) == directory:
                    return path
    return stderr


def hint_at_prints(orthanc, unit, shown):
    """What scripts print goes to Orthanc's stdout and stderr, which --logdir and --logfile leave alone."""
    try:
        stdout = os.readlink('/proc/%d/fd/1' % orthanc)
    except OSError:
        return      # it has ended meanwhile
    if stdout == shown:
        return
    if stdout.startswith('/') and os.path.isfile(stdout):
        where = 'in ' + stdout
    elif unit and stdout.startswith('socket:'):     # of the journal
        where = 'in the journal: journalctl -u %s' % unit
    else:
        where = 'where Orthanc was started: it goes to %s' % stdout
    say('What scripts print is not in that file, but %s' % where)


def refuse_what_needs_the_journal(arguments, path):
    wrong = [word for word, given in (('--json', arguments.json), ('--since', arguments.since)) if given]
    if wrong:
        raise Problem(USAGE, 'The lines are in a file, %s: %s is for those that are in the journal'
                      % (path, ' or '.join(wrong)))


def show_file(arguments, path):
    hand_on(['tail', '--lines', str(arguments.lines), *(['--follow=name'] if arguments.follow else []), '--', path])


def show_managed(arguments, orthanc):
    try:
        unit, path = unit_of(orthanc), log_file_of(orthanc)
    except OSError as error:
        raise Problem(FAILED, 'Orthanc (process %d) has started the pool itself, so that its lines are in Orthanc\'s '
                      'log. Where that is can be seen by its user and by root only: %s' % (orthanc, error.strerror)
                      ) from None
    if os.path.isfile(path):
        say('Orthanc (process %d) has started the pool itself: its lines are in Orthanc\'s log, %s' % (orthanc, path))
        refuse_what_needs_the_journal(arguments, path)
        hint_at_prints(orthanc, unit, path)
        show_file(arguments, path)
    if unit and shutil.which('journalctl'):
        say('Orthanc (process %d) has started the pool itself: its lines are in those of %s' % (orthanc, unit))
        journal(arguments, [unit])
    raise Problem(FAILED, 'Orthanc (process %d) has started the pool itself, so that its lines are in Orthanc\'s log. '
                  'This goes to %s: look where Orthanc was started, or start it with --logdir' % (orthanc, path))


def say(text):
    print('== ' + text, file=sys.stderr, flush=True)


def logs(arguments):
    if arguments.unit:
        journal(arguments, arguments.unit)
    units, failed = find_units()
    if units:
        journal(arguments, units)
    hosts = find_hosts(arguments, failed)
    if not hosts:
        raise Problem(FAILED, 'No host serves in %s, and no pool runs as a service of systemd: look into the log of Orthanc'
                      % arguments.url)
    orthanc = find_orthanc(hosts[0]['Pid'])
    if orthanc is None:
        raise Problem(FAILED, 'The pool was started by hand: its lines are where it was started, on stderr')
    show_managed(arguments, orthanc)
