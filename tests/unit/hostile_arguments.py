# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls everything in the orthanc module with what nobody should call it with.

Here:      values that are wrong somewhere, what the contract (2.1 to 2.3, 3.1) says comes of
           them, and the calls. What exists, and with which arguments, comes from the
           generated model.json: no list here names functions, but for their own words.
Elsewhere: objects to call methods of, and a node: module_hostile_tests.py has one that writes
           down what it is asked, tests/integration/test_hostile_arguments.py a real Orthanc.
"""

import operator

CONSTRUCTOR = 'Expected a pair (pointer, borrowed) in the constructor'
INVALID = 'Invalid object'

_ONE = 'Expected a callback function to register one Python '
_FOUR = 'Expected 4 callback functions to register Python C-MOVE SCP callback '
_TWO = ('Expected two callback functions to register '
        'Python storage commitment SCP & Lookup callback')
_STORAGE = 'Expected three callback functions to register a custom storage area'
# Contract 3.1. A registration that is not here stops the test.
REGISTER = {
    'RegisterRestCallback': 'Expected a string (URI) and a callback function',
    'RegisterOnChangeCallback': _ONE + 'on-changes callback',
    'RegisterOnStoredInstanceCallback': _ONE + 'on-stored-instance callback',
    'RegisterIncomingHttpRequestFilter': _ONE + 'incoming-http-request filter',
    'RegisterFindCallback': _ONE + 'C-FIND SCP callback',
    'RegisterFindCallback2': _ONE + 'C-FIND SCP callback (v2)',
    'RegisterMoveCallback': _ONE + 'C-MOVE SCP callback',
    'RegisterMoveCallback2': _FOUR + '(v2)',
    'RegisterMoveCallback3': _FOUR + '(v3)',
    'RegisterWorklistCallback': _ONE + 'C-FIND SCP for worklist callback',
    'RegisterWorklistCallback2': _ONE + 'C-FIND SCP for worklist callback (v2)',
    'RegisterStorageArea': _STORAGE,
    'RegisterStorageArea3': _STORAGE,
    'RegisterIncomingCStoreInstanceFilter': _ONE + 'incoming CStore instance filter',
    'RegisterReceivedInstanceCallback': _ONE + 'received instance callback',
    'RegisterStorageCommitmentScpCallback': _TWO,
    'RegisterStorageCommitmentScpCallback2': _TWO + ' (v2)',
}
# Contract 2.1: the rest of the functions with words of their own.
_BAD = 'Bad arguments'
WORDS = {
    'LookupDictionary': 'Please provide a string containing the name of the DICOM tag of interest',
    'CreateImageFromBuffer':
        '5 arguments are needed: image.PixelFormat, width, height, pitch and memory buffer',
    'GetKeyValue': _BAD, 'DequeueValue': _BAD, 'ReserveQueueValue': _BAD, 'GetQueueSize': _BAD,
    'SetStableStatus': 'Please provide a string containing the resourceId and a integer with 0 '
                       'for stable and 1 for unstable',
    'FindQuery.GetFindQueryTagGroup': 'Index is missing',
    'FindQuery.GetFindQueryTagElement': 'Index is missing',
}


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class OnlyInt:
    def __int__(self):
        return 1


class Exploding:
    def __index__(self):
        raise RuntimeError('asked for')

    __float__ = __index__


VALUES = [
    None, True, 1.5, float('nan'), 1j, [], (), {}, object(), object, Ellipsis,
    'text', '', 'with\0NUL', '\ud800', '\u00e9', '%n%s', 'x' * 70000,
    b'bytes', b'', b'\xff\xfe\x00', bytearray(b'x'), memoryview(b'abcdef')[::2], memoryview(b''),
    0, -1, 255, 256, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -2**31 - 1, -2**63, -2**63 - 1,
    10**40, -10**40, 10**400, Index(7), Index(2**70), Index('7'), OnlyInt(), Exploding(),
]
# Not good either: what (pointer, borrowed) of a constructor must never be.
FORGED = [(), (0,), (0, 0, 0), (0, 256), (0, -1), (0, None), (None, 0), ('0', 0), (b'', 0), (1.5, 0),
          (1, 0), (1, 1), (-1, 0), (4096, 1), (2**31, 0), (2**63 - 1, 1), (-2**63, 0), (2**63, 0),
          (2**64, 0), (10**40, 0), (Exploding(), 0)]


def version(text):
    return tuple(int(part) for part in text.split('.')) if text else ()


def _index(value):
    try:
        return operator.index(value)
    except Exception:
        return None


def _is_text(value):
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_buffer(value):
    if value is None or isinstance(value, str):
        return value is None or _is_text(value)
    try:
        with memoryview(value) as view:
            return view.c_contiguous
    except TypeError:
        return False


def _is_real(value):
    try:
        return not isinstance(value, (str, bytes, bytearray)) and float(value) is not None
    except Exception:
        return False


def converts(code, value):
    """Contract 2.2: whether an argument of that code takes the value."""
    if code == 's':
        return _is_text(value) and '\0' not in value
    if code in 'bp':
        return _is_buffer(value)
    if code in 'eil':
        return _index(value) is not None and -2**63 <= _index(value) < 2**63
    if code in 'huU':
        return _index(value) is not None
    if code == 'c':
        return _index(value) is not None and 0 <= _index(value) <= 255
    if code == 'f':    # float() takes text and __int__ never, __float__ and __index__
        return _is_real(value)
    raise AssertionError('the model has the unknown argument code %r' % code)


class Surface:
    """The module, what the model says about it, and the calls made so far.

    live, stale: {class name: object}. allowed(function, exception): whether this node may
    answer so to arguments that are right. leaves_out(function, args): calls not to make.
    note(what): told of each call before it is made, for the case that nothing comes after it.
    """

    def __init__(self, orthanc, model, node_version):
        self.orthanc = orthanc
        self.functions = [f for f in model['functions'] if version(f['since']) <= node_version]
        self.classes = [c for c in model['classes'] if version(c['since']) <= node_version]
        self.live = {}
        self.stale = {}
        self.allowed = lambda function, exception: False
        self.leaves_out = lambda function, args: False
        self.note = lambda what: None
        self.calls = 0
        self.called = set()
        self.problems = []

    # -- one call ---------------------------------------------------------------------------

    def expect_raise(self, what, kind, text, target, *args, **keywords):
        self.calls += 1
        self.note(what)
        try:
            value = target(*args, **keywords)
        except Exception as e:
            if type(e) is not kind or text not in (None, str(e)):
                self.problems.append('%s: %s(%.200s), and not %s(%s)' % (
                    what, type(e).__name__, e, kind.__name__, text))
        else:
            self.problems.append('%s: returned %.100r, and not %s(%s)' % (
                what, value, kind.__name__, text))

    def expect_result(self, what, function, target, args):
        """The arguments are right: a result of its type, or an error of the SDK."""
        if self.leaves_out(function, args):
            return
        self.calls += 1
        self.note(what)
        try:
            value = target(*args)
        except Exception as e:
            if not self._is_right(function, e) and not self.allowed(function, e):
                self.problems.append('%s: %s(%.200s)' % (what, type(e).__name__, e))
        else:
            if not self._fits(function['result'], value):
                self.problems.append('%s: returned %.100r' % (what, value))

    def _is_right(self, function, exception):
        """Contract 2.3, 2.4: how the SDK's own errors arrive."""
        if type(exception) is self.orthanc.OrthancException:
            return [type(a) for a in exception.args] == [int, str] and function['result'] != 'v'
        if type(exception) in (TypeError, ValueError):
            return bool(function['by_hand']) and str(exception) != self.bad(function)
        return type(exception) is UnicodeDecodeError

    def _fits(self, code, value):
        if code[0] == 'O':
            return type(value) is getattr(self.orthanc, code[1:-1])
        kinds = {'v': type(None), 'E': type(None), 'b': bytes, 's': str, 'z': (str, type(None)),
                 'i': int, 'B': bool, 'x': object}[code]
        return isinstance(value, kinds) and (code == 'x' or type(value) is not Index)

    # -- what is expected -------------------------------------------------------------------

    @staticmethod
    def bad(function):
        """Contract 2.1 and 3.1: the words for arguments that cannot be taken."""
        name = function['name']
        if name.startswith('Register') and name not in (
                'RegisterErrorCode', 'RegisterDictionaryTag', 'RegisterPrivateDictionaryTag'):
            return REGISTER[name]
        return WORDS.get(name) or ('Bad types for the arguments (%d arguments expected)'
                                   % len(function['arguments']))

    def wanted(self, function, args):
        """None, if the SDK is to be asked, or (type, text) of the refusal."""
        name, arguments = function['name'], function['arguments']
        bad = (ValueError if name in REGISTER else TypeError, self.bad(function))
        if not arguments:
            return None    # surplus ones are ignored
        counts = {len(arguments)}
        if name == 'RestOutput.SendHttpStatus':
            counts.add(3)    # 1.5: as old scripts call it
        if len(args) not in counts:
            return bad
        for argument, value in zip(arguments, args):
            if argument['code'] not in ('N', 'O', 'callable') and not converts(
                    argument['code'], value):
                return bad
        if len(args) > len(arguments) and not converts('u', args[-1]):
            return bad
        if name == 'CreateImageFromBuffer' and args[4] is None:
            return bad
        for argument, value in zip(arguments, args):
            if argument['code'] in ('N', 'O'):
                refusal = self._wanted_of_object(argument, value)
                if refusal is not None:
                    return refusal
        return None

    def _wanted_of_object(self, argument, value):
        if argument['code'] == 'N' and value is None:
            return None
        name = argument['type']
        if type(value) is not getattr(self.orthanc, name):
            return (TypeError, 'Invalid orthanc.OrthancPlugin%s object' % name)
        if value is self.stale.get(name):
            return (ValueError, INVALID)
        if value is not self.live.get(name) and argument['code'] == 'O':
            return (ValueError, INVALID)    # made around nothing
        return None

    # -- the arguments ----------------------------------------------------------------------

    def good(self, argument):
        """A value that is right, and does no harm to a server."""
        code, name = argument['code'], argument['name']
        if code == 'O':
            return self.live.get(argument['type']) or getattr(self.orthanc, argument['type'])(0, 0)
        if code == 's' and name == 'url':
            return 'http://127.0.0.1:1/'
        if code == 'h' and name == 'group':
            return 0x7fe1
        return {'s': 'opb-none', 'b': b'opb', 'p': b'x', 'f': 1.5, 'N': None,
                'callable': None}.get(code, 1)

    def rows(self, function):
        """Lists of arguments, each wrong in one place at most."""
        arguments = function['arguments']
        right = [self.good(argument) for argument in arguments]
        yield right
        for count in {0, len(right) - 1, len(right) + 1, len(right) + 2, 50} - {-1, len(right)}:
            yield (right + [None] * 50)[:count]
        for position, argument in enumerate(arguments):
            if argument['code'] == 'callable':
                continue    # 3.1: anything is taken
            for value in self.values(argument):
                yield right[:position] + [value] + right[position + 1:]
        for value in VALUES if len(arguments) > 1 else ():
            yield [value] * len(arguments)

    def values(self, argument):
        yield from VALUES
        for found in (self.live, self.stale):
            yield from found.values()
        for item in self.classes:
            yield getattr(self.orthanc, item['name'])(0, 0)

    # -- everything -------------------------------------------------------------------------

    def call_with_all(self, function, target):
        """target: the function, or a method of an object that is there."""
        self.called.add(function['name'])
        for args in self.rows(function):
            what = '%s(%s)' % (function['name'], ', '.join('%.40r' % (a,) for a in args))
            refusal = self.wanted(function, args)
            if refusal is None:
                self.expect_result(what, function, target, args)
            else:
                self.expect_raise(what, *refusal, target, *args)
        self.expect_raise(function['name'] + ' by keyword', TypeError,
                          '%s() takes no keyword arguments' % function['name'], target,
                          **{(function['arguments'] or [{'name': 'x'}])[0]['name']: 1})

    def call_functions(self):
        for function in self.functions:
            if '.' not in function['name']:
                self.call_with_all(function, getattr(self.orthanc, function['name']))

    def methods(self, class_name):
        return [f for f in self.functions if f['name'].partition('.')[0] == class_name != f['name']]

    def call_methods(self, class_name):
        """Of the object that is there: it must be used before it ends."""
        for function in self.methods(class_name):
            self.call_with_all(function, getattr(self.live[class_name],
                                                 function['name'].partition('.')[2]))

    def call_dead(self, class_name, thing):
        """No method of an object around nothing, or of another time, asks the SDK."""
        for function in self.methods(class_name):
            target = getattr(thing, function['name'].partition('.')[2])
            for args in ([self.good(a) for a in function['arguments']], [], [None] * 9):
                self.expect_raise('dead %s%.80r' % (function['name'], args), ValueError, INVALID,
                                  target, *args)

    def call_constructors(self):
        for item in self.classes:
            name = item['name']
            kind = getattr(self.orthanc, name)
            for args in FORGED:
                self.expect_raise('%s%.80r' % (name, args), ValueError, CONSTRUCTOR, kind, *args)
            for thing in (kind(0, 0), kind(False, 255), kind(Index(0), 1), kind.__new__(kind)):
                self.call_dead(name, thing)
            self.expect_raise('object.__new__ of ' + name, TypeError, None, object.__new__, kind)

    def call_unbound(self):
        """A method called with something else as its object."""
        for function in self.functions:
            owner, _, method = function['name'].rpartition('.')
            if not owner:
                continue
            target = getattr(getattr(self.orthanc, owner), method)
            self.expect_raise('unbound ' + function['name'], TypeError, None, target)
            for value in VALUES + [getattr(self.orthanc, c['name'])(0, 0) for c in self.classes
                                   if c['name'] != owner]:
                self.expect_raise(
                    'unbound %s(%.40r)' % (function['name'], value), TypeError,
                    "descriptor '%s' for 'orthanc.%s' objects doesn't apply to a '%s' object" % (
                        method, owner, type_name(value)), target, value)

    def missing(self):
        """What of the surface was not called."""
        return sorted({f['name'] for f in self.functions} - self.called)


def type_name(value):
    """As C sees it: with the module, if the type was made in C."""
    kind = type(value)
    if kind.__module__ == 'orthanc':
        return 'orthanc.' + kind.__name__
    return kind.__name__
