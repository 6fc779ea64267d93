# SPDX-License-Identifier: GPL-3.0-or-later
"""reload, status and stacks: what the bridge's REST routes offer."""

import json
import re

from orthanc_python import DONE, FAILED, LATER, NO_ANSWER, Problem
from orthanc_python.rest import Server


def show(arguments, value, text):
    """On stdout: for programs, or for people."""
    print(json.dumps(value, indent=3) if arguments.json else text)


def reload(arguments):
    server = Server(arguments)
    status, answer = server.ask('POST', 'reload')
    if not isinstance(answer, dict):
        raise server.unexpected(status)
    if status == 200 and 'Generation' in answer:
        show(arguments, answer, 'Generation %s serves (pid %s)' % (answer['Generation'], answer.get('Pid')))
        return DONE
    if 'Error' not in answer:
        raise server.unexpected(status)
    if arguments.json:
        print(json.dumps(answer, indent=3))
    text = '%s%s' % (answer['Error'], ':\n' + answer['Details'].rstrip() if answer.get('Details') else '')
    if status == 500:
        raise Problem(FAILED, text)
    if status in (409, 503):
        raise Problem(LATER, text)
    raise server.unexpected(status)


def seconds(value):
    number = int(value)
    for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
        if number >= 2 * size:
            return '%d %s' % (number // size, unit)
    return '%d s' % number


def describe_exception(exception, with_script):
    """Its class, and where it came from: the traceback is on the status page, and in Orthanc's log."""
    found = re.match(r"<class '([^']+)'>", exception['Traceback'])
    return '%s in %s%s' % (found.group(1) if found else 'an exception', exception['What'],
                           ' (%s)' % exception['Script'] if with_script else '')


def describe(status):
    """The status in lines for people; what is zero or empty is left out."""
    def counts(names, group):
        return ', '.join('%d %s' % (group[key], text) for key, text in names if group[key])

    yield 'bridge        %s in Orthanc %s, up %s' % (status['Version'], status['Orthanc'], seconds(status['Uptime']))
    yield 'script        %s%s' % (status['Script'], ' (does not load now)' if status['Reload']['ScriptIsBroken'] else '')
    if len(status.get('Scripts', [])) > 1:
        for script in status['Scripts']:
            yield '              ' + script
    yield 'generation    %d%s%s' % (
        status['Generation'], ', the next one is starting' if status['Reload']['Running'] else '',
        ', %d before it are ending' % status['EndingGenerations'] if status['EndingGenerations'] else '')
    if status['Workers']['Given'] < status['Workers']['Wanted']:
        yield 'workers       %d of the %d that Python.Workers asks for' % (
            status['Workers']['Given'], status['Workers']['Wanted'])
    for host in status['Hosts']:
        yield 'host          pid %d, up %s, %d calls, %d of them running' % (
            host['Pid'], seconds(host['Uptime']), host['Calls'], host['Running'])
    for host in status['EndingHosts']:
        yield 'ending host   pid %d, up %s, %d calls, %d of them running' % (
            host['Pid'], seconds(host['Uptime']), host['Calls'], host['Running'])
    if not status['Hosts']:
        yield 'host          none serves'
    text = counts([('Died', 'with a host that died'), ('Late', 'not in time'), ('NoHost', 'without a host'),
                   ('Repeated', 'repeated'), ('GivenUp', 'given up'), ('Refused', 'times refused unseen'),
                   ('LetIn', 'times let in unseen')], status['Calls'])
    if text:
        yield 'failed calls  ' + text
    text = counts([('Queued', 'waiting'), ('Lost', 'lost'), ('SetAside', 'set aside')], status['Events'])
    if text:
        yield 'events        ' + text
    exceptions = status.get('Exceptions')       # a bridge of an earlier release has none
    if exceptions and exceptions['Count']:
        yield 'exceptions    %d%s' % (exceptions['Count'], ''.join(
            ', the last at %s: %s' % (last['At'], describe_exception(last, len(status['Scripts']) > 1))
            for last in exceptions['List'][:1]))
    if status['Deaths']['Last']:
        last = status['Deaths']['Last']
        yield 'deaths        %d, the last at %s: %s%s' % (
            status['Deaths']['Count'], last['At'], last['Reason'],
            ' (pid %d)' % last['Pid'] if last['Pid'] else '')     # a shared pool that was lost has none
    for route in status['WaitingRoutes']:
        yield 'route waits   ' + route
    for what in status['NeedRestart']:
        yield 'needs a restart of Orthanc: ' + what
    if status['Reload']['Failure']:
        yield 'the last reload has failed%s:' % (
            ', and the generation before has ended' if status['Reload'].get('OldIsGone') else '')
        yield '    ' + status['Reload']['Failure'].rstrip().replace('\n', '\n    ')


def get_status(server):
    status, answer = server.ask('GET', 'status')
    if status != 200 or not isinstance(answer, dict) or 'Generation' not in answer:
        raise server.unexpected(status)
    return answer


def show_status(arguments):
    server = Server(arguments)
    answer = get_status(server)
    try:
        text = '\n'.join(describe(answer))
    except (KeyError, TypeError, ValueError):       # the bridge is of another release
        raise server.unexpected(200) from None
    show(arguments, answer, text)
    return DONE if answer['Hosts'] else FAILED


def describe_stacks(host):
    """The Python threads of one host in lines for people, as Python shows where they are."""
    problem = ': ' + host['Problem'] if host['Problem'] else ''
    yield 'Host %d (pid %d), %s%s' % (host['Worker'], host['Pid'], host['State'], problem)
    if not host['Threads'] and not host['Problem']:
        yield '  no thread is in Python'
    for thread in host['Threads']:
        yield ''
        yield 'Thread %s%s (most recent call first)' % (thread['Id'], ' (%s)' % thread['Name'] if thread['Name'] else '')
        for frame in thread['Frames']:
            if 'Text' in frame:
                yield '  ' + frame['Text']
            else:
                yield '  File "%s", line %d in %s' % (frame['File'], frame['Line'], frame['Function'])


def stacks(arguments):
    server = Server(arguments)
    status, answer = server.ask('GET', 'stacks')
    if status == 404:
        found = get_status(server)
        raise Problem(NO_ANSWER, 'The bridge in %s is of release %s, which cannot show stacks yet: upgrade the plugin'
                      % (server.url, found.get('Version')))
    if status == 503 and isinstance(answer, dict) and 'Error' in answer:
        raise Problem(LATER, answer['Error'])
    hosts = answer.get('Hosts') if isinstance(answer, dict) else None
    if status != 200 or not isinstance(hosts, list):
        raise server.unexpected(status)
    try:
        text = '\n\n'.join('\n'.join(describe_stacks(host)) for host in hosts)
    except (KeyError, TypeError, ValueError):
        raise server.unexpected(status) from None
    show(arguments, answer, text or 'No host serves')
    return DONE if hosts else FAILED
