# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/chaos looks at when the load has ended. Each function gives problems, in words."""

import os
import re

import dicom
import sanitizer
from server import command_line, descendants, is_zygote, wait_until, zygotes_of
from trouble import hosts_of


def read_lines(server, name):
    with open(os.path.join(server.directory, name), encoding='ascii') as f:
        return [line.split() for line in f]


def given_up(server, pattern):
    """The instances that the log names as given up: they have ended two hosts."""
    return set(re.findall(pattern, server.log()))


def stored_instances(server, uploaders, senders):
    """Nothing unmodified or refused is there; all that was called stored is there."""
    problems = []
    there = {}
    for key in server.get('/instances').json():
        data = server.get('/instances/%s/file' % key, timeout=60).content
        there[key] = patient = str(dicom.read(data).PatientID)
        if b'CHAOS^MODIFIED' not in data or b'CHAOS^ORIGINAL' in data:
            problems.append('instance %s of %s is stored as it came' % (key, patient))
        if patient.startswith('REFUSED'):
            problems.append('instance %s is stored, but was refused' % patient)
    patients = set(there.values())
    for client in uploaders:
        problems += ['instance %s was called stored, and is not there' % key
                     for key in client.ids if key not in there]
    for client in senders:
        problems += ['C-STORE of %s was called Success, and it is not there' % patient
                     for patient, is_success in client.patients.items()
                     if is_success and patient not in patients]
    return there, problems


def events(server, there, uploaders):
    """Every instance was announced at least once; in order, whichever hosts and generations saw
    them: one that is delivered again comes before all that follow it."""
    problems = []
    hosts = set()
    delivered = []
    for host, key in read_lines(server, 'events'):
        hosts.add(host)
        delivered.append(key)
    seen = set(delivered)
    lost = set(there) - seen - given_up(server, r'The event NEW_INSTANCE (\S+) \(.*two hosts')
    problems += ['NEW_INSTANCE of %s was never delivered' % key for key in sorted(lost)]
    for client in uploaders:
        place = {key: number for number, key in enumerate(client.ids)}
        order = [place[key] for key in delivered if key in place]
        late = [(one, other) for one, other in zip(order, order[1:]) if one > other]
        if late:
            problems.append('the events of %s came in another order: %s' % (client.name, late[:5]))
    return {'events delivered': len(delivered), 'hosts that took events': len(hosts),
            'events delivered again': len(delivered) - len(seen),
            'events set aside': len(set(there) - seen - lost)}, problems


def stored_callbacks(server, there):
    """OnStoredInstance saw every instance, but those that the log gives up."""
    seen = {key for (key,) in read_lines(server, 'stored')}
    lost = set(there) - seen - given_up(server, r'on-stored-instance callback for (?:instance )?(\S+) '
                                        r'(?:has ended two hosts|was not run)')
    return ['OnStoredInstance of %s never ran' % key for key in sorted(lost)]


def handles(server):
    """No session has ended with an object that was lent to a call. Asked at the end of Orthanc."""
    return re.findall(r'.*objects are lent still to a host.*', server.log())


def resources(server):
    """Descriptors, threads and memory of Orthanc, and the processes below it."""
    with open('/proc/%d/status' % server.pid, encoding='ascii', errors='replace') as f:
        status = dict(line.split(':', 1) for line in f)
    return {'descriptors': len(os.listdir('/proc/%d/fd' % server.pid)),
            'threads': int(status['Threads']),
            'memory in MB': int(status['VmRSS'].split()[0]) // 1024}


# How much more is no leak; a sanitizer keeps what was freed, and remembers what was touched.
LIMITS = {'descriptors': 24, 'threads': 8, 'memory in MB': 150 if sanitizer.NAME is None else 1000}


def settled(server, before, workers):
    """Resources are back at their base, and so many hosts are left, alone."""
    def is_back():
        now = resources(server)
        return now if all(now[key] <= before[key] + LIMITS[key] for key in now) else None

    problems = []
    try:
        wait_until(is_back, 30, 'resources')
    except AssertionError:
        problems.append('before the load: %s; after it: %s' % (before, resources(server)))
    supervisor = server.supervisor()

    def living(): # a zombie here is a child that the script does not wait for
        return [pid for pid, (_, state) in descendants(server.pid).items() if state != 'Z' and not is_zygote(pid)]

    try:
        wait_until(lambda: len(hosts_of(supervisor)) == workers and len(living()) == workers + 1
                   and len(zygotes_of(supervisor)) <= 1, 10, 'processes')
    except AssertionError:
        problems.append('processes left: %s' % {pid: command_line(pid) for pid in living()})
    return problems
