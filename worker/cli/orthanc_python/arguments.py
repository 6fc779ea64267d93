# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: commands, options, help."""

import argparse
import os

from orthanc_python import check, console, logs, parts, status
from orthanc_python.rest import DEFAULT_URL

DESCRIPTION = """\
Looks after the Python bridge of an Orthanc server, and its scripts.

reload, status and stacks use the REST API of Orthanc, as does whatever else needs to know
what serves. The server is --url, else $ORTHANC_PYTHON_URL, else http://localhost:8042. If it
asks for a user, name and password are taken from $ORTHANC_PYTHON_USER and
$ORTHANC_PYTHON_PASSWORD, else from $NETRC or ~/.netrc: never from the command line, which
every user of the machine can read.
"""
EXIT_CODES = """\
Exit codes: 0 done; 1 the script does not load, or no host serves; 2 wrong usage,
or what the command itself needs is missing; 3 the server does not answer,
or not as expected; 4 it does not allow this; 5 not now: try again later;
6 the script loads, but needs what the server does not have.
"""


class ShowVersion(argparse.Action):
    """Looks for it only if it is wanted."""

    def __call__(self, parser, *_):
        print('orthanc-python ' + parts.version())
        parser.exit()


def positive(text):
    value = float(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError('must be seconds, up to a day')
    return value


def server_options():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--url', default=os.environ.get('ORTHANC_PYTHON_URL') or DEFAULT_URL,
                        help='of Orthanc (%s, or $ORTHANC_PYTHON_URL)' % DEFAULT_URL)
    common.add_argument('--path', default='/python-bridge', metavar='PATH',
                        help='what Orthanc\'s configuration has as Python.AdminPath (/python-bridge)')
    common.add_argument('--timeout', type=positive, default=300, metavar='S',
                        help='how long to wait for an answer (300 s)')
    return common


def json_option():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--json', action='store_true', help='print the answer in JSON, for programs')
    return common


def add_check(commands, parents):
    one = commands.add_parser(
        'check', parents=parents, help='load a script without an Orthanc, and say what it registers and needs',
        description='Imports the script in a real host, as Orthanc would at its start, but without an Orthanc: SDK '
        'calls get made-up answers, or the error that they get while Orthanc starts. Says what it registers and calls, '
        'how long the import takes, and which names of its source the chosen server lacks. What the script itself does '
        'to files or to the network it does.')
    one.add_argument('scripts', metavar='SCRIPT', nargs='+',
                     help='a script, or a directory of them; several are loaded together, as one server has them')
    one.add_argument('--orthanc', metavar='VERSION', help='of the server, as 1.12.6, or mainline (that of the SDK of the bridge)')
    one.add_argument('--config', metavar='FILE', help='configuration of Orthanc that the script sees, or its folder')
    one.add_argument('--venv', metavar='DIR', help='virtual environment of the script (Python.VirtualEnv of --config)')
    one.add_argument('--timeout', type=positive, default=60, metavar='S', help='how long the import may take (60 s)')
    one.set_defaults(run=check.check)


def add_console(commands, parents):
    one = commands.add_parser(
        'console', parents=parents, help='open a Python prompt with the orthanc module, attached to a running server',
        description='Opens a Python prompt in which the orthanc module calls the running server, as a child process of '
        'the script could. It is not the script: it has none of its variables, and cannot register callbacks. Must be '
        'run on the machine of the host, by its user or by root, who becomes that user. Orthanc\'s log tells of it.')
    one.add_argument('-c', dest='code', metavar='CODE', help='run this instead, and show its value (else: stdin, if it '
                     'is no terminal)')
    one.add_argument('--worker', type=int, default=0, metavar='N', help='of several hosts, the one with this number (0)')
    one.add_argument('--pid', type=int, metavar='PID', help='of the host, without asking the server for it')
    one.add_argument('--python', metavar='PROGRAM', help='Python to use, as that of a virtual environment (the one that '
                     'the host was built for)')
    one.set_defaults(run=console.console)


def add_logs(commands, parents):
    one = commands.add_parser(
        'logs', parents=parents, help='show the lines of the bridge and of the script, wherever they go',
        description='Shows the newest lines: of the pools that are services of systemd, from the journal; else of the '
        'log of the Orthanc that has started the pool, and says where that is.')
    one.add_argument('-f', '--follow', action='store_true', help='go on with new lines')
    one.add_argument('-n', '--lines', type=int, default=100, metavar='N', help='how many (100)')
    one.add_argument('--since', metavar='WHEN', help='of the journal: only lines since then, as journalctl takes it')
    one.add_argument('--json', action='store_true', help='of the journal: lines in JSON, for programs')
    one.add_argument('--unit', action='append', metavar='UNIT', help='the journal of this unit')
    one.set_defaults(run=logs.logs)


def make_parser():
    server, json_too = server_options(), json_option()
    parser = argparse.ArgumentParser(prog='orthanc-python', description=DESCRIPTION, epilog=EXIT_CODES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action=ShowVersion, nargs=0, help='show the version of the bridge')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add_check(commands, [json_too])
    one = commands.add_parser('reload', parents=[server, json_too],
                              help='load the script again, without a restart of Orthanc',
                              description='Loads the script again: the next generation of hosts starts beside the '
                              'one that serves, and takes over once it has loaded the script. Otherwise the old one '
                              'goes on, and the traceback is shown. With "Python.Reload": "replace" the old one ends '
                              'before the script is loaded.')
    one.set_defaults(run=status.reload)
    one = commands.add_parser('status', parents=[server, json_too], help='say what serves, and what has gone wrong',
                              description='Says what serves, and what has gone wrong. The exit code is 1 if no host '
                              'serves.')
    one.set_defaults(run=status.show_status)
    one = commands.add_parser('stacks', parents=[server, json_too], help='show what every Python thread is doing',
                              description='Shows the Python stacks of all threads of all hosts, without stopping them.')
    one.set_defaults(run=status.stacks)
    add_console(commands, [server])
    add_logs(commands, [server])
    return parser
