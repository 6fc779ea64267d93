# SPDX-License-Identifier: GPL-3.0-or-later
"""check: loads scripts without an Orthanc, and says what they register and need.

Here:      which scripts, their configuration, and the report.
Elsewhere: the load (recorder.py), the look at its source (source.py).
"""

import json
import os
import pathlib
import re

from orthanc_python import CONCERNS, DONE, FAILED, USAGE, Problem, parts
from orthanc_python.recorder import Node, Orthanc
from orthanc_python.source import Names, look, number

OLDEST = (1, 10, 1)
IMPOSSIBLE = re.compile(r'^[\w-]|./$')     # no path is like this
VARIABLE = re.compile(r'\$\{([^:}]+)(?::-([^}]*))?\}')      # ${NAME} and ${NAME:-default}
WORDS = {'missing': 'error', 'deprecated': 'note', 'guarded': 'note'}


def read_configuration(path):
    """What GetConfiguration() gives: all of a folder's files together, as in Orthanc."""
    merged, origin = {}, {}
    try:
        files = configuration_files(path) if path.is_dir() else [path]
        for file in files:
            for key, value in read_file(file).items():
                if key in merged:
                    raise Problem(USAGE, 'The configuration section "%s" is defined in 2 different configuration files, '
                                  '%s and %s' % (key, origin[key], file))
                merged[key], origin[key] = value, file
    except OSError as error:
        raise Problem(USAGE, 'The configuration cannot be read: %s' % error) from None
    return merged


def configuration_files(folder):
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() == '.json' and each.is_file())
    if not files:
        raise Problem(USAGE, '%s is no configuration of Orthanc: it has no files *.json in it' % folder)
    return files


def read_file(path):
    """One file: JSON with variables of the environment, comments and a comma too many."""
    try:
        text = VARIABLE.sub(lambda found: os.environ.get(found[1], found[2] or ''), path.read_text(encoding='utf-8-sig'))
        found = json.loads(without_comments(text))
    except ValueError as error:
        raise Problem(USAGE, '%s is no configuration of Orthanc: %s' % (path, error)) from None
    if not isinstance(found, dict):
        raise Problem(USAGE, '%s is no configuration of Orthanc: it is no object of JSON' % path)
    return found


def without_comments(text):
    """Orthanc takes // and /* */ in its configuration, and a comma after the last value; texts keep theirs."""
    out, at = [], 0
    before, comma = '', None    # the last character that is no space, and where a comma is that follows a value
    while at < len(text):
        if text.startswith('//', at):
            at = text.find('\n', at) if '\n' in text[at:] else len(text)
            continue
        if text.startswith('/*', at):
            at = text.find('*/', at + 2) + 2 if '*/' in text[at + 2:] else len(text)
            continue
        end = at + 1
        if text[at] == '"':
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == '\\' else 1
            end += 1
        elif text[at] == ',':
            comma = len(out) if before not in '[{,:' else None
        elif text[at] in ']}' and before == ',' and comma is not None:
            out[comma] = ''
        before = before if text[at].isspace() else text[at]
        out.append(text[at:end])
        at = end
    return ''.join(out)


def wanted_version(arguments, sdk):
    """As numbers; without one, that of the SDK of the bridge."""
    if arguments.orthanc and not re.fullmatch(r'\d+\.\d+\.\d+|mainline', arguments.orthanc):
        raise Problem(USAGE, '"%s" is no version of Orthanc: it has to be three numbers, as 1.12.6, or mainline'
                      % arguments.orthanc)
    version = number(arguments.orthanc or sdk['sdk'])
    if version < OLDEST:
        raise Problem(USAGE, 'The bridge needs Orthanc 1.10.1 at least')
    return version


def find_concerns(names, version, paths, record):
    """What is to be said about the names in the files, and of how routes are written."""
    found = []
    for path in paths:
        try:
            found += look(names, version, path)
        except (OSError, SyntaxError, ValueError):
            pass        # the import has said what is wrong with it
    concerns = [{'File': path, 'Line': line, 'Name': name, 'Kind': kind, 'Text': text}
                for path, line, name, kind, text in found]
    for function, pattern in record.registrations:
        if pattern is not None and IMPOSSIBLE.search(pattern) and '|' not in pattern:
            concerns.append({'File': str(paths[0]), 'Line': None, 'Name': function, 'Kind': 'route',
                             'Text': 'the pattern %s matches no path: these begin with a slash, and do not end with one'
                                     % pattern})
    return concerns


def describe(report):
    """The report in lines for people."""
    for script in report['Scripts']:
        yield 'script        %s' % script
    yield 'server        Orthanc %s, without one: answers are made up' % report['Orthanc']
    if number(report['Orthanc']) > number(report['Sdk']):
        yield '              newer than the SDK of this bridge, %s: only names up to that one are known' % report['Sdk']
    yield 'import        %s, %.2f s' % ('failed' if report['Failure'] else 'done', report['ImportSeconds'])
    for item in report['Registrations']:
        yield 'registers     %s%s' % (item['Function'], '  ' + item['Pattern'] if item['Pattern'] is not None else '')
    if not report['Registrations'] and not report['Failure']:
        yield 'registers     nothing: Orthanc will never call it'
    if report['Calls']:
        yield 'calls         ' + ', '.join('%s%s' % (name, ' (%d)' % count if count > 1 else '')
                                           for name, count in sorted(report['Calls'].items()))
    for item in report['Log']:
        yield 'log           %s %s' % (item['Level'], item['Text'].rstrip().replace('\n', '\n              '))
    for item in report['Concerns']:
        where = '%s:%s' % (item['File'], item['Line']) if item['Line'] else item['File']
        ending = ', but the script asks first' if item['Kind'] == 'guarded' else ''
        yield '%-13s %s: %s %s%s' % (WORDS.get(item['Kind'], 'warning'), where, item['Name'], item['Text'], ending)
    if report['Failure']:
        yield 'failure       ' + report['Failure'].rstrip().replace('\n', '\n              ')


def find_scripts(names):
    """The paths, with those of a directory in the order in which Orthanc loads them."""
    found = []
    for path in (pathlib.Path(name).absolute() for name in names):
        inside = [path]
        if path.is_dir():
            inside = sorted((each for each in path.iterdir()
                             if each.suffix == '.py' and each.name[0] not in '._' and each.is_file()),
                            key=lambda each: os.fsencode(each.name))
            if not inside:
                raise Problem(USAGE, '%s has no Python scripts in it' % path)
        found += inside
    for path in found:
        if not path.is_file() or path.suffix.lower() != '.py':
            raise Problem(USAGE, '%s is no Python script' % path)
        if sum(path.stem == other.stem for other in found) > 1:
            raise Problem(USAGE, 'Two scripts are modules of one name: ' + ', '.join(
                str(other) for other in found if other.stem == path.stem))
    return [str(path) for path in found]


def find_environment(option, section):
    """The virtual environment of the option or of the configuration, or None."""
    environment = option or (section.get('VirtualEnv') if isinstance(section, dict) else None)
    if environment and not isinstance(environment, str):
        raise Problem(USAGE, 'Python.VirtualEnv of the configuration is %s, and must be a text' % json.dumps(environment))
    return os.path.abspath(environment) if environment else None


def check(arguments):
    try:
        scripts = find_scripts(arguments.scripts)
    except OSError as error:
        raise Problem(USAGE, 'The script cannot be read: %s' % error) from None
    sdk = parts.sdk()
    version = wanted_version(arguments, sdk)
    configuration = read_configuration(pathlib.Path(arguments.config)) if arguments.config else {}
    configuration.setdefault('PythonScript', scripts[0] if len(scripts) == 1 else scripts)
    functions = [each for each in sdk['functions']
                 if each['node_name'] and not each['alias_of'] and number(each['since']) <= version]
    node = Node(parts.host_program(), functions, Orthanc(version, json.dumps(configuration), scripts),
                find_environment(arguments.venv, configuration.get('Python')))
    record = node.run(arguments.timeout)
    paths = record.files or scripts
    report = {
        'Script': scripts[0], 'Scripts': scripts, 'Orthanc': '.'.join(map(str, version)), 'Sdk': sdk['sdk'],
        'ImportSeconds': round(record.seconds, 3), 'Failure': record.failure, 'Files': paths,
        'Registrations': [{'Function': function, 'Pattern': pattern} for function, pattern in record.registrations],
        'Calls': record.calls, 'Log': [{'Level': level, 'Text': text} for level, text in record.log],
        'Concerns': find_concerns(Names(sdk), version, paths, record)}
    print(json.dumps(report, indent=3) if arguments.json else '\n'.join(describe(report)))
    if record.failure:
        return FAILED
    return CONCERNS if any(item['Kind'] in ('missing', 'route') for item in report['Concerns']) else DONE
