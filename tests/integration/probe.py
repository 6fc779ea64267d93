# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that a test sends into a script, and what came out of it as text.

SCRIPT offers the route /_probe: it runs Python text inside the REST callback and answers
the outcome of each as one line of text: the repr() of the value of the last expression,
or 'Type(args)' of the exception. So hundreds of behaviours need one server.
"""

import json
import re

import tally

PRELUDE = r'''
import ast as _ast, json as _json, traceback as _traceback
import orthanc

def _outcome(code, namespace):
    tree = _ast.parse(code)
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = _ast.Expression(tree.body.pop().value)
    try:
        exec(compile(tree, '<probe>', 'exec'), namespace)
        if last is None:
            return 'done'
        return repr(eval(compile(last, '<probe>', 'eval'), namespace))
    except BaseException as e:
        return 'raise %s%s' % (type(e).__name__, repr(tuple(e.args)))

_SPACE = {'orthanc': orthanc}

def _probe(output, uri, **request):
    space = dict(_SPACE, output=output, uri=uri, request=request)
    answer = {}
    for label, code in _json.loads(request['body']).items():
        answer[label] = _outcome(code, space)
    output.AnswerBuffer(_json.dumps(answer), 'application/json')

orthanc.RegisterRestCallback('/_probe', _probe)
'''
SCRIPT = PRELUDE


def at_import(table):
    """A script that runs the table while it is imported; ask it with import_outcomes()."""
    return PRELUDE + r'''
_RESULT = {}
for _label, _code in %s:
    _RESULT[_label] = _outcome(_code, dict(_SPACE))

def _answer(output, uri, **request):
    output.AnswerBuffer(_json.dumps(_RESULT), 'application/json')

orthanc.RegisterRestCallback('/_import', _answer)
''' % repr(list(table.items()))


def run(server, table):
    """Runs {label: code} inside a REST callback; returns {label: outcome}."""
    if server.plugin == 'ours':
        tally.script('\n'.join(table.values()))
    answer = server.post('/_probe', json.dumps(table), timeout=60)
    assert answer.status_code == 200, answer.text
    return {label: normalise(text) for label, text in answer.json().items()}


def import_outcomes(server):
    answer = server.get('/_import')
    assert answer.status_code == 200, answer.text
    return {label: normalise(text) for label, text in answer.json().items()}


def normalise(text):
    """Addresses, UUIDs and the like differ between any two runs."""
    text = re.sub(r'0x[0-9a-f]{6,}', '0xADDRESS', text)
    # A multipart boundary ends within the last group of its UUID.
    return re.sub(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{9,12}', 'UUID', text)
