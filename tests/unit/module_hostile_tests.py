# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole generated surface, called as it should not be, against a node without Orthanc.

Here:      objects of every class for hostile_arguments.py, and that none is left at the end.
Elsewhere: the calls and what comes of them (hostile_arguments.py).
"""

import gc
import json
import os

import fake_node
import orthanc
from hostile_arguments import Surface, version
from module_support import settle

with open(os.environ['OPB_TEST_MODEL'], encoding='utf-8') as model_file:
    MODEL = json.load(model_file)
# This node serves four kinds of callbacks, and two functions not as the module knows them.
NOT_SERVED = 'is not supported yet by the Python bridge'
NOT_OFFERED = {'GetFontSize': 'is not offered by', 'GetFontsCount': 'is another function'}


def node_version():
    text = fake_node.version()
    return (99,) if text == 'mainline' else version(text)


def allowed(function, exception):
    if type(exception) is not RuntimeError:
        return False
    if function['name'].startswith('Register'):
        return NOT_SERVED in str(exception) or str(exception).startswith('Can only register one')
    return NOT_OFFERED.get(function['name'], '?') in str(exception)


def leaves_out(function, args):
    """Python's own checks of its memory would look at each byte."""
    return function['name'] == 'CreateMemoryBuffer' and not (
        isinstance(args[0], int) and 0 <= args[0] % 2**32 < 2**20)


def a_queue_value_is_reserved_with_its_number():
    """Where the header of the build has the function, from 1.12.10 on."""
    if node_version() >= (1, 12, 10) and hasattr(orthanc, 'ReserveQueueValue'):
        assert orthanc.ReserveQueueValue('a queue', 0, 60) == (b'reserved', 2**64 - 1)
        fake_node.take()


def make_surface():
    surface = Surface(orthanc, MODEL, node_version())
    surface.allowed = allowed
    surface.leaves_out = leaves_out
    for number, item in enumerate(surface.classes):
        surface.live[item['name']] = fake_node.new(item['name'], 100 + number, False)
        surface.stale[item['name']] = fake_node.new(item['name'], 200 + number, False)
        fake_node.end(surface.stale[item['name']])
    return surface


def end(surface, at_least):
    fake_node.take()
    assert not surface.problems, '%d of %d:\n%s' % (
        len(surface.problems), surface.calls, '\n'.join(surface.problems[:30]))
    assert surface.calls >= at_least, surface.calls


def the_model_is_what_the_module_has():
    surface = make_surface()
    found = {name for name in dir(orthanc) if callable(getattr(orthanc, name))
             and not isinstance(getattr(orthanc, name), type) and not name.startswith('_')}
    assert found == {f['name'] for f in surface.functions if '.' not in f['name']}
    for item in surface.classes:
        found = {name for name in vars(getattr(orthanc, item['name'])) if not name.startswith('_')}
        assert found == {f['name'].partition('.')[2] for f in surface.methods(item['name'])}
    assert len(surface.functions) > 100 and len(surface.classes) > 10


def no_arguments_break_a_function():
    surface = make_surface()
    surface.call_functions()
    end(surface, 5000)
    assert all('.' in name for name in surface.missing())


def no_arguments_break_a_method():
    surface = make_surface()
    for item in surface.classes:
        surface.call_methods(item['name'])
    end(surface, 4000)
    assert all('.' not in name for name in surface.missing())


def no_arguments_break_a_method_inside_a_call():
    """What has no result is posted there."""
    def bound():
        surface = make_surface()
        for item in surface.classes:
            surface.call_methods(item['name'])
        end(surface, 4000)

    fake_node.bound(bound)


def objects_are_not_forged_and_do_not_outlive_their_call():
    surface = make_surface()
    surface.call_constructors()
    surface.call_unbound()
    for name, thing in surface.stale.items():
        surface.call_dead(name, thing)
    fake_node.take()
    surface.call_constructors()
    assert [line for line in fake_node.take() if not line.startswith('_Release')] == []
    end(surface, 1000)


def every_object_that_was_made_is_released():
    surface = make_surface()
    made = fake_node.made()
    surface.call_functions()
    for item in surface.classes:
        surface.call_methods(item['name'])
    makers = [f for f in surface.functions if f['result'].startswith('O')]
    assert len(makers) > 5 and fake_node.made() - made > 10 * len(makers)
    del surface
    settle()
    assert fake_node.live() == 0, fake_node.live()
    kept = orthanc.CreateImage(1, 1, 1)    # the count can be another one
    assert fake_node.live() == 1
    del kept
    settle()
    assert fake_node.live() == 0


def no_call_loses_memory():
    """Python's own allocations included, so references too, in builds with the sanitizer."""
    surface = make_surface()
    surface.call_functions()
    for item in surface.classes:
        surface.call_methods(item['name'])
    surface.call_constructors()
    surface.call_unbound()
    for name, thing in surface.stale.items():
        surface.call_dead(name, thing)
    del surface, thing
    fake_node.take()
    settle()
    gc.collect()
    assert not fake_node.loses_memory()
