# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as introspection sees it (contract 1.1 to 1.5), compared name by name."""

import os
import re

import pytest

import probe
from compare import Approved, assert_outcomes
from conftest import PLUGINS
from server import OFFICIAL_VERSION, ORTHANC_VERSION, REPOSITORY

# Contract 1.5: functions, classes and enumerations of each official plugin.
COUNTS = {(4, 0): (77, 14, 21), (5, 0): (86, 15, 24), (7, 1): (105, 17, 28)}
# Contract 10: newer than 7.1, offered all the same.
EXTENSIONS = {'DicomWebBinaryMode.ARRAY_OF_VALUES'} | {
    'ValueRepresentation.' + name for name in ('OD', 'OL', 'OV', 'SV', 'UC', 'UR', 'UV')}
# docs/compatibility.md: the bridge's own.
EXTENSIONS |= {'GetWorkerIndex', 'GetWorkersCount'}
# Appendix A, marked as custom code.
CUSTOM = re.compile(r'Register\w+(Callback\d?|StorageArea|Filter)|RegisterStorageArea|'
                    r'CreateImageFromBuffer|LookupDictionary')

DUMP = r'''
import inspect, json, numbers

def _dump():
    found = {}
    for name, value in inspect.getmembers(orthanc):
        if name.startswith('_'):
            continue
        entry = {'type': type(value).__name__, 'doc': value.__doc__, 'name': value.__name__,
                 'qualname': value.__qualname__, 'module': value.__module__}
        try:
            inspect.signature(value)
            entry['signature'] = 'yes'
        except ValueError:
            entry['signature'] = 'ValueError'
        if inspect.isroutine(value):
            entry['kind'] = 'function'
            entry['self'] = value.__self__ is orthanc
        elif inspect.isclass(value):
            entry['kind'] = 'class'
            entry['bases'] = repr(value.__bases__)
            entry['values'] = {n: v for n, v in vars(value).items()
                               if isinstance(v, numbers.Number) and not n.startswith('_')}
            entry['plain'] = all(type(v) is int for v in entry['values'].values())
            entry['methods'] = {}
            if name != 'OrthancException':
                for n, v in vars(value).items():
                    if n.startswith('_') or n in entry['values']:
                        continue
                    entry['methods'][n] = [type(v).__name__, inspect.ismethoddescriptor(v),
                                           v.__doc__, v.__qualname__, hasattr(v, '__module__')]
        found[name] = entry
    return found

def _properties():
    """What of types is not in _dump(), without what Python itself changes as it likes."""
    flags = {1 << 8: 'immutable type', 1 << 9: 'heap type', 1 << 10: 'base type', 1 << 14: 'collected'}
    types = {n: t for n, t in vars(orthanc).items() if isinstance(t, type) and n[0] != '_'}
    return {'module': {'vars()': sorted(vars(orthanc)), 'dir()': dir(orthanc)},
            'enumerations': [n for n, t in types.items() if 'enumeration' in (t.__doc__ or '')],
            'types': {n: {'vars()': sorted(vars(t)), 'dir()': dir(t),
                          'public': [m for m in vars(t) if not m.startswith('_')],
                          'flags': [text for bit, text in flags.items() if t.__flags__ & bit],
                          'words': t.__basicsize__ // 8}
                      for n, t in types.items() if n != 'OrthancException'}}

def _answer_properties(output, uri, **request):
    output.AnswerBuffer(json.dumps(_properties()), 'application/json')
orthanc.RegisterRestCallback('/_properties', _answer_properties)

def _answer_dump(output, uri, **request):
    output.AnswerBuffer(json.dumps(_dump()), 'application/json')
orthanc.RegisterRestCallback('/_dump', _answer_dump)
'''

MODULE = [
    ("repr(orthanc)", '"<module \'orthanc\' (built-in)>"'),
    ("type(orthanc)", "<class 'module'>"),
    ("orthanc.__doc__", 'None'),
    ("[hasattr(orthanc, n) for n in ('__file__', '__path__', '__version__', '__all__')]",
     repr([False] * 4)),
    ("orthanc.__loader__", re.compile(r"<class '_frozen_importlib.BuiltinImporter'>")),
    ("orthanc.__spec__.origin", "'built-in'"),
    ("orthanc.__package__", "''"),
    ("'orthanc' in __import__('sys').builtin_module_names", 'True'),
    ("import importlib\nimportlib.reload(orthanc) is orthanc", 'True'),
    ("s = {}\nexec('from orthanc import *', s)\n(len(s) > 100, 'RestApiGet' in s)", '(True, True)'),
    ("orthanc.opb_patch = 1\northanc.opb_patch", '1'),
    ("del orthanc.opb_patch\nhasattr(orthanc, 'opb_patch')", 'False'),
    ("old = orthanc.ComputeMd5\northanc.ComputeMd5 = lambda x: 'mine'\nr = orthanc.ComputeMd5(1)\n"
     "orthanc.ComputeMd5 = old\nr", "'mine'"),
    ("[n for n in dir(orthanc) if n.startswith('_')]",
     "['__doc__', '__loader__', '__name__', '__package__', '__spec__']"),
    # classes and enumerations
    ("(orthanc.ErrorCode.SUCCESS, type(orthanc.ErrorCode.SUCCESS))", "(0, <class 'int'>)"),
    ("orthanc.ErrorCode.SUCCESS = 5", re.compile(
        r'raise TypeError\(.*cannot set .*immutable type.*')),
    ("orthanc.ErrorCode.FOO",
     'raise AttributeError("type object \'orthanc.ErrorCode\' has no attribute \'FOO\'",)'),
    ("orthanc.ErrorCode()", '<orthanc.ErrorCode object at 0xADDRESS>'),
    ("orthanc.ErrorCode(3)", '<orthanc.ErrorCode object at 0xADDRESS>'),
    ("[hasattr(orthanc.ErrorCode, n) for n in ('name', 'value', '__members__', '__iter__')]",
     repr([False] * 4)),
    ("import typing\ntyping.Tuple[orthanc.ReceivedInstanceAction, orthanc.Image]", None),
    ("class S(orthanc.Image): pass", 'raise TypeError("type \'orthanc.Image\' is not an acceptable '
     'base type",)'),
    ("class S(orthanc.ErrorCode): pass",
     'raise TypeError("type \'orthanc.ErrorCode\' is not an acceptable base type",)'),
    ("i = orthanc.Image(0, 0)\ni.x = 1", re.compile('raise AttributeError.*')),
    ("i == i, i == orthanc.Image(0, 0), len({i: 1, orthanc.Image(0, 0): 2})", '(True, False, 2)'),
    ("import copy\ncopy.copy(i)", 'raise TypeError("cannot pickle \'orthanc.Image\' object",)'),
    ("import pickle\npickle.dumps(i)", 'raise TypeError("cannot pickle \'orthanc.Image\' object",)'),
    ("import weakref\nweakref.ref(i)", re.compile(r'raise TypeError\("cannot create weak reference.*')),
    ("repr(i)", "'<orthanc.Image object at 0xADDRESS>'"),
    ("orthanc.DicomInstance.GetInstanceSize(12)", None),
    ("orthanc.Image.__doc__", "'Generated from Orthanc C class: OrthancPluginImage'"),
    ("orthanc.ErrorCode.__doc__",
     "'Generated from C enumeration OrthancPluginOrthancPluginErrorCode'"),
    ("orthanc.RestApiGet.__doc__", "'Generated from C function OrthancPluginRestApiGet()'"),
    # the exception
    ("orthanc.OrthancException.__bases__", "(<class 'Exception'>,)"),
    ("orthanc.OrthancException.__module__, orthanc.OrthancException.__doc__", "('orthanc', None)"),
    ("class M(orthanc.OrthancException): pass\n(M(1, 2).args, str(orthanc.OrthancException('x')))",
     "((1, 2), 'x')"),
    ("callable(orthanc.RestApiGet), repr(orthanc.RestApiGet)", None),
    ("repr(orthanc.Image.GetImageWidth)", None),
]


@pytest.fixture(scope='module')
def servers(module_orthanc):
    return {name: module_orthanc(name, script=probe.SCRIPT + DUMP) for name in PLUGINS}


@pytest.mark.smoke
def test_the_module_object(servers):
    outcomes = {name: probe.run(server, {row[0]: row[0] for row in MODULE})
                for name, server in servers.items()}
    assert_outcomes(outcomes, {row[0]: row[1] for row in MODULE if row[1] is not None})


def inventory():
    """The names of the contract that a server of this version has: {name: (kind, value)}."""
    found = {}
    path = os.path.join(REPOSITORY, 'tests', 'golden', 'inventory.txt')
    with open(path, encoding='utf-8') as f:
        for line in f:
            if line.startswith('#') or not line.strip():
                continue
            since, kind, name, value = line.split()
            age = () if since in '-?' else tuple(int(part) for part in since.split('.'))
            owner = name.partition('.')[0]
            if age <= ORTHANC_VERSION and (owner == name or owner in found):
                found[name] = (kind, value)
    return found


def names_of(dump):
    """All public names in a dump, as in the inventory."""
    found = set(dump) - {'OrthancException'}
    for name, entry in dump.items():
        if name != 'OrthancException':
            found |= {'%s.%s' % (name, n) for n in entry.get('values', ())}
            found |= {'%s.%s' % (name, n) for n in entry.get('methods', ())}
    return found


def table(heading):
    """The rows of docs/compatibility.md below a heading, for the official plugin here, as lists
    of their cells before the versions."""
    path = os.path.join(REPOSITORY, 'docs', 'compatibility.md')
    with open(path, encoding='utf-8') as f:
        section = f.read().partition('\n## %s\n' % heading)[2].partition('\n## ')[0]
    head, _, *rows = [[cell.strip() for cell in line.strip('|').split('|')]
                      for line in section.splitlines() if line.startswith('|')]
    versions = [cell.partition(' on ')[0] for cell in head]
    version = '%d.%d' % OFFICIAL_VERSION[:2]
    assert version in versions, 'docs/compatibility.md has no column for version ' + version
    first = min(index for index, cell in enumerate(head) if ' on ' in cell)
    for row in rows:
        assert len(row) == len(head) and row[-1], row
        assert set(row[first:-1]) <= {'yes', ''} and 'yes' in row, row
    return [row[:first] for row in rows if row[versions.index(version)] == 'yes']


def quoted(cells):
    """The names in `backquotes` in the first cell of the rows."""
    found = [name for cell in cells for name in re.findall('`([^`]+)`', cell)]
    assert len(found) == len(set(found)), 'twice in docs/compatibility.md: %s' % found
    return set(found)


def docstrings(dump):
    found = {name: entry['doc'] for name, entry in dump.items()}
    for name, entry in dump.items():
        found.update({'%s.%s' % (name, n): row[2] for n, row in entry.get('methods', {}).items()})
    return found


def differences(official, ours):
    """What differs of what both have, but for docstrings."""
    for name, entry in official.items():
        for key, value in entry.items():
            mine = ours[name].get(key)
            if key == 'values':
                mine = {n: v for n, v in mine.items() if n in value}
            elif key == 'methods':
                value = {n: row[:2] + row[3:] for n, row in value.items()}
                mine = {n: row[:2] + row[3:] for n, row in mine.items() if n in value}
            elif key == 'doc':
                continue
            if mine != value:
                yield '%s %s: %r, official %r' % (name, key, mine, value)


def properties(official, ours):
    """{(of, property): {what is more of it here}}, and for classes from all of them."""
    found = {}
    for name, entry in official['types'].items():
        kind = 'enumeration' if name in official['enumerations'] else 'class'
        mine = ours['types'][name]
        common = set(entry['public'])
        for key in ('vars()', 'dir()'):
            more = {n for n in mine[key] if n.startswith('_')} - set(entry[key])
            fewer = set(entry[key]) - set(mine[key])
            assert not fewer and common <= set(mine['public']), (name, fewer)
            found.setdefault((kind, key), []).append(', '.join('`%s`' % n for n in sorted(more)))
        flags = [flag for flag in mine['flags'] if flag not in entry['flags']]
        assert set(entry['flags']) <= set(mine['flags']), (name, entry['flags'], mine['flags'])
        found.setdefault((kind, '__flags__'), []).append(', '.join(flags))
        words = mine['words'] - entry['words']
        found.setdefault((kind, '__basicsize__'), []).append(
            {0: '', 1: 'one word'}.get(words, '%d words' % words))
    for key in ('vars()', 'dir()'):
        more = {n for n in ours['module'][key] if n.startswith('_')} - set(official['module'][key])
        assert not set(official['module'][key]) - set(ours['module'][key])
        found['module', key] = [', '.join('`%s`' % n for n in sorted(more))]
    for key, values in found.items():
        assert len(set(values)) == 1, 'not alike: %s %s' % (key, sorted(set(values)))
    return {key: values[0] for key, values in found.items() if values[0]}


@pytest.fixture(scope='module')
def dumps(servers):
    return {name: server.get('/_dump').json() for name, server in servers.items()}


def test_every_name_its_type_and_its_documentation(dumps):
    for dump in dumps.values():
        assert dump['RestApiGet']['self'] is True
        assert all(entry['plain'] for entry in dump.values() if entry['kind'] == 'class')
    for name, text in docstrings(dumps['ours']).items() if 'ours' in dumps else ():
        if CUSTOM.fullmatch(name):
            assert text == 'Implemented in C++ function %s()' % name
    if 'official' in dumps:
        kinds = [entry['kind'] for entry in dumps['official'].values()]
        functions, classes, enumerations = COUNTS[OFFICIAL_VERSION]
        assert (kinds.count('function'), kinds.count('class')) == (functions, classes + enumerations)
    if len(dumps) == 2:
        problems = list(differences(dumps['official'], dumps['ours']))
        assert not problems, '\n'.join(problems)


def test_the_differences_are_those_that_the_documentation_lists(dumps, servers):
    """Neither more nor fewer: names, docstrings, properties of the module and its types."""
    if len(dumps) < 2:
        pytest.skip('OPB_TEST_PLUGINS leaves out what this compares with')
    official, ours = names_of(dumps['official']), names_of(dumps['ours'])
    assert not official - ours
    listed = quoted(cells[0] for cells in table('Names that only this plugin has'))
    # a type that is only here is listed by its own name, without those in it
    found = {name for name in ours - official if name.partition('.')[0] not in (ours - official)
             or '.' not in name}
    assert found == listed

    theirs, mine = docstrings(dumps['official']), docstrings(dumps['ours'])
    assert {name for name in theirs if theirs[name] != mine[name]} == quoted(
        cells[0] for cells in table('Docstrings'))

    shown = {name: server.get('/_properties').json() for name, server in servers.items()}
    assert properties(shown['official'], shown['ours']) == {
        (of, name.strip('`')): more for of, name, more in table('Properties')}


@pytest.mark.ours
def test_the_names_are_those_of_the_current_release_that_this_server_supports(dumps):
    """Contract 1.5: all names of 7.1 and of its predecessors, as far as the running server goes."""
    wanted = inventory()
    found = names_of(dumps['ours'])
    assert found - set(wanted) <= EXTENSIONS
    assert not set(wanted) - found
    for name, (kind, value) in wanted.items():
        if kind == 'value':
            owner, _, item = name.partition('.')
            assert dumps['ours'][owner]['values'][item] == int(value), name
    values = set(dumps['ours']['ErrorCode']['values'])
    assert len(values) == 112


def test_a_sibling_of_the_same_name_is_ignored(orthanc, plugin):
    """Contract 1.1: the built-in module wins over orthanc.py in the script's directory."""
    server = orthanc(plugin, script=probe.SCRIPT, files={
        'orthanc.py': 'raise RuntimeError("the wrong orthanc")\n'})
    assert probe.run(server, {'a': 'repr(orthanc)'})['a'] == '"<module \'orthanc\' (built-in)>"'


def test_the_module_is_not_imported_before_the_script_does(orthanc, plugin):
    server = orthanc(plugin, script="import sys\nFOUND = 'orthanc' in sys.modules\n"
                     + probe.SCRIPT + "\n_SPACE['FOUND'] = FOUND\n")
    assert probe.run(server, {'a': 'FOUND'})['a'] == 'False'


def test_approved_differences_are_strict():
    """The comparison itself can fail."""
    with pytest.raises(AssertionError):
        assert_outcomes({'official': {'a': '1'}, 'ours': {'a': '2'}})
    with pytest.raises(AssertionError):
        assert_outcomes({'official': {'a': '1'}, 'ours': {'a': '1'}}, {}, {'a': Approved('x', '2')})
    with pytest.raises(AssertionError):
        assert_outcomes({'official': {'a': '1'}}, {'a': '2'})
    assert_outcomes({'official': {'a': '1'}, 'ours': {'a': '2'}}, {'a': '1'}, {'a': Approved('x', '2')})
