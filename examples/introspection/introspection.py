# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints everything that the module "orthanc" offers here, with its documentation."""

import inspect
import numbers

import orthanc


def describe_class(name: str, cls: type) -> None:
    """Prints a class with its enumeration values and methods."""
    print('Class %s:\n  Documentation: %s' % (name, inspect.getdoc(cls)))
    for member_name, member in inspect.getmembers(cls):
        if isinstance(member, numbers.Number):
            print('  - Enumeration value %s: %s' % (member_name, member))
        elif not member_name.startswith('_') and inspect.ismethoddescriptor(member):
            print('  - Method %s(): %s' % (member_name, inspect.getdoc(member)))
    print()


for member_name, member in inspect.getmembers(orthanc):
    if inspect.isroutine(member):
        print('Function %s():\n  Documentation: %s\n' % (member_name, inspect.getdoc(member)))
    elif inspect.isclass(member):
        describe_class(member_name, member)
