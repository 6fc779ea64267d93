# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing what the two plugins did, with the differences that the contract approves."""

import re

import tally


class Approved:
    """An outcome of ours that differs from the official plugin's by decision.

    section: where the contract says so. ours: the exact text, or a compiled pattern.
    """

    def __init__(self, section, ours):
        self.section = section
        self.ours = ours

    def matches(self, value):
        if isinstance(self.ours, re.Pattern):
            return self.ours.fullmatch(value) is not None
        return value == self.ours

    def __repr__(self):
        return 'contract %s: %r' % (self.section, self.ours)


def assert_outcomes(outcomes, expected=None, approved=None):
    """outcomes: {plugin: {label: outcome}}. expected: what the official one says, where the
    contract states it; a pattern or a text. approved: {label: Approved} for ours."""
    expected = expected or {}
    approved = approved or {}
    problems = []
    official = outcomes.get('official')
    ours = outcomes.get('ours')
    if official is not None and ours is not None:
        tally.compared(len(ours))
    for name, value in expected.items():
        if official is not None and not _fits(value, official.get(name)):
            problems.append('official %s: expected %s, got %s' % (name, value, official.get(name)))
    for name, value in (ours or {}).items():
        if name in approved:
            if not approved[name].matches(value):
                problems.append('ours %s: expected %r, got %s' % (name, approved[name], value))
        elif name in expected:
            if not _fits(expected[name], value):
                problems.append('ours %s: expected %s, got %s' % (name, expected[name], value))
        elif official is not None and official.get(name) != value:
            problems.append('ours %s: official said %s, ours %s' % (name, official.get(name), value))
    if official is not None and ours is not None and set(official) != set(ours):
        problems.append('different labels: %s' % (set(official) ^ set(ours)))
    assert not problems, '\n'.join(problems)


def _fits(expected, value):
    if isinstance(expected, re.Pattern):
        return value is not None and expected.fullmatch(value) is not None
    return expected == value


def assert_same(results, ours_differs=None):
    """results: {plugin: value}; equal, unless ours_differs is (section, value)."""
    if len(results) == 2:
        tally.compared()
    if ours_differs is not None:
        if 'ours' in results:
            assert results['ours'] == ours_differs[1], 'contract %s: %r' % (
                ours_differs[0], results['ours'])
    elif len(results) == 2:
        assert results['ours'] == results['official'], 'ours %r, official %r' % (
            results['ours'], results['official'])


# Headers that say something about the answer rather than about the connection.
RELEVANT = ('content-type', 'content-length', 'location', 'set-cookie', 'allow',
            'www-authenticate', 'transfer-encoding', 'content-disposition')


def response(answer):
    """What of a requests.Response is compared."""
    headers = sorted((name.lower(), value) for name, value in answer.headers.items()
                     if name.lower() in RELEVANT or name.lower().startswith('x-'))
    return answer.status_code, headers, answer.content
