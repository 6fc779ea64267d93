# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as introspection sees it (contract 1.1 to 1.5), compared name by name."""

import re

import pytest

import probe
from compare import Approved, assert_outcomes
from conftest import PLUGINS

# Contract 1.5 and the appendices: what 7.1 has with this Orthanc (1.10.1) and 4.0 lacks.
NEW_FUNCTIONS = {'CreateDicom2', 'RegisterMoveCallback2', 'RegisterStorageCommitmentScpCallback'}
NEW_CLASSES = {'WebDavCollection'}
NEW_METHODS = {('FindMatcher', 'IsMatch'), ('StorageArea', 'Create'), ('StorageArea', 'Read'),
               ('StorageArea', 'Remove')}
NEW_ERRORS = {'MAIN_DICOM_TAGS_MULTIPLY_DEFINED': 44, 'FORBIDDEN_ACCESS': 45,
              'DUPLICATE_RESOURCE': 46, 'INCOMPATIBLE_CONFIGURATIONS': 47,
              'DICOM_GET_UNAVAILABLE': 2045}
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


def expected_from(official):
    """What ours must show, derived from what 4.0 shows and the contract's differences."""
    expected = {name: dict(entry) for name, entry in official.items()}
    for name, entry in expected.items():
        if entry['kind'] == 'function' and CUSTOM.fullmatch(name):
            entry['doc'] = 'Implemented in C++ function %s()' % name    # 1.3, as 5.0 and 7.1
        if name == 'CreateDicom':                                       # custom in 4.0 only
            entry['doc'] = 'Generated from C function OrthancPluginCreateDicom()'
    for name, value in NEW_ERRORS.items():
        expected['ErrorCode']['values'] = dict(expected['ErrorCode']['values'], **{name: value})
    implementation = {'GetFindQueryTagGroup': 'GetFindQueryTagGroup',
                      'GetFindQueryTagElement': 'GetFindQueryTagElement',
                      'GetInstanceData': 'GetInstanceData', 'GetImageBuffer': 'GetImageBuffer'}
    for entry in expected.values():
        for method, row in entry.get('methods', {}).items():
            if method in implementation:
                row[2] = 'Implemented in C++ function %s()' % implementation[method]
    return expected


def test_every_name_its_type_and_its_documentation(servers):
    dumps = {name: server.get('/_dump').json() for name, server in servers.items()}
    for dump in dumps.values():
        assert dump['RestApiGet']['self'] is True
        assert all(entry['plain'] for entry in dump.values() if entry['kind'] == 'class')
    if 'official' in dumps:
        kinds = [entry['kind'] for entry in dumps['official'].values()]
        assert (kinds.count('function'), kinds.count('class')) == (77, 14 + 21)
    if len(dumps) < 2:
        return
    expected = expected_from(dumps['official'])
    ours = dumps['ours']
    new = set(ours) - set(expected)
    assert new == NEW_FUNCTIONS | NEW_CLASSES
    assert not set(expected) - set(ours)
    problems = []
    for name, entry in expected.items():
        for key, value in entry.items():
            if key == 'methods':
                for method, row in value.items():
                    if ours[name]['methods'].get(method) != row:
                        problems.append('%s.%s: %s, official %s' % (
                            name, method, ours[name]['methods'].get(method), row))
                for method in set(ours[name]['methods']) - set(value):
                    if (name, method) not in NEW_METHODS:
                        problems.append('%s.%s should not be there' % (name, method))
            elif key == 'doc' and name == 'CreateMemoryBuffer':
                continue    # 1.5: removed in 4.3; ours is an alias of its own
            elif ours[name].get(key) != value:
                problems.append('%s %s: %r, official %r' % (name, key, ours[name].get(key), value))
    for class_name, method in NEW_METHODS:
        if method not in ours[class_name]['methods']:
            problems.append('%s.%s is missing' % (class_name, method))
    assert not problems, '\n'.join(problems)


@pytest.mark.ours
def test_names_of_the_current_release_that_this_server_supports(servers):
    """Contract 1.5: the set follows the version of the running server."""
    ours = servers['ours'].get('/_dump').json()
    for name in ('StoreKeyValue', 'SetStableStatus', 'KeysValuesIterator', 'QueueOrigin',
                 'LoadDicomInstance', 'ExtendOrthancExplorer2', 'RegisterFindCallback2',
                 'DicomConnection', 'LogMessage', 'GetDatabaseServerIdentifier'):
        assert name not in ours, name
    assert 'NONE' not in ours['CompressionType']['values']
    assert 'SendStreamChunk' not in ours['RestOutput']['methods']
    assert len(ours['ErrorCode']['values']) == 112


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
