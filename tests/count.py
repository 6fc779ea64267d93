# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the tests in JUnit files: prints 'passed failed skipped', with --reasons how often
each reason for skipping was given, with --failures what the tests that failed said.

One entry of ctest is a program with many tests; what cmocka or pytest say at its end
is counted instead of the entry. A program that ends badly without saying so is one failure.
"""

import collections
import re
import sys
import xml.etree.ElementTree as ElementTree

CMOCKA = re.compile(r'^\[  (PASSED|FAILED)  \] (\d+) test\(s\)', re.MULTILINE)
PYTEST = re.compile(r'^=* ?(?:\d+ \w+, )*\d+ \w+ in [\d.]+s.*$', re.MULTILINE)
TELLING = re.compile(r'LINE   |ERROR|Error|FAILED|Sanitizer|SUMMARY|did not come true')
LAST_LINES = 20
UNITTEST = re.compile(r'^Ran (\d+) tests? in ', re.MULTILINE)


def program_counts(output):
    """(passed, failed) as the program itself says, or None."""
    found = CMOCKA.findall(output)
    if found:
        return (sum(int(n) for word, n in found if word == 'PASSED'),
                sum(int(n) for word, n in found if word == 'FAILED'))
    lines = PYTEST.findall(output)
    if lines:
        numbers = {word: int(n) for n, word in re.findall(r'(\d+) (\w+)', lines[-1])}
        return (numbers.get('passed', 0),
                numbers.get('failed', 0) + numbers.get('error', 0) + numbers.get('errors', 0))
    ran = UNITTEST.search(output)
    if ran:
        bad = sum(int(n) for n in re.findall(r'(?:failures|errors)=(\d+)', output))
        return int(ran.group(1)) - bad, bad
    return None


def has_failed(case):
    return (case.find('failure') is not None or case.find('error') is not None
            or case.get('status') == 'fail')


def failures(paths):
    """Of each test that failed: its name, the lines that tell why, and its last ones."""
    result = []
    for path in paths:
        for case in filter(has_failed, ElementTree.parse(path).iter('testcase')):
            said = '\n'.join(filter(None, (case.findtext(tag) for tag in
                                           ('failure', 'error', 'system-out')))).splitlines()
            early = [line for line in said[:-LAST_LINES] if TELLING.search(line)]
            result += ['%s:' % case.get('name'), *early[:LAST_LINES], *said[-LAST_LINES:]]
    return result


def count(path):
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).iter('testcase'):
        is_bad = has_failed(case)
        if case.find('skipped') is not None or case.get('status') in ('notrun', 'disabled'):
            skipped += 1
            continue
        own = program_counts(case.findtext('system-out') or '') if 'status' in case.attrib else None
        good, bad = own or (0 if is_bad else 1, 0)
        if is_bad and bad == 0:
            bad = 1
        passed += good
        failed += bad
    return passed, failed, skipped


def reasons(paths):
    found = collections.Counter(
        skipped.get('message') or 'NO REASON GIVEN'
        for path in paths for skipped in ElementTree.parse(path).iter('skipped'))
    return ['%4d %s' % (count, reason) for reason, count in found.most_common()]


def main():
    if sys.argv[1:2] == ['--reasons']:
        print('\n'.join(reasons(sys.argv[2:])))
        return
    if sys.argv[1:2] == ['--failures']:
        print('\n'.join(failures(sys.argv[2:])))
        return
    totals = [0, 0, 0]
    for path in sys.argv[1:]:
        totals = [a + b for a, b in zip(totals, count(path))]
    print(*totals)


if __name__ == '__main__':
    main()
