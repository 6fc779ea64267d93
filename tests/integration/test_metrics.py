# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge in Orthanc's /tools/metrics-prometheus, and the Grafana dashboard that shows it."""

import json
import os
import re
import threading

import pytest

from server import PID_ROUTE, REPOSITORY, wait_until
from test_admin import SCRIPT

pytestmark = pytest.mark.ours

DASHBOARD = os.path.join(REPOSITORY, 'examples', 'grafana', 'dashboard.json')
PREFIX = 'python_bridge_'
CHANGES = '''
def on_change(change, level, resource):
    pass
orthanc.RegisterOnChangeCallback(on_change)
'''


def scrape(server, **kwargs):
    """{name: value} of the bridge's metrics, as Prometheus would read them."""
    answer = server.get('/tools/metrics-prometheus', **kwargs)
    assert answer.status_code == 200
    found = {}
    for line in answer.text.splitlines():
        if line.startswith(PREFIX):
            name, value, when = line.split()
            assert re.fullmatch('[a-z_0-9]+', name) and int(when) > 10 ** 12, line
            found[name[len(PREFIX):]] = float(value)
    return found


def test_metrics_are_those_of_the_status(orthanc):
    server = orthanc(script=SCRIPT + CHANGES, python={'Workers': 2})
    for _ in range(5):
        server.get('/hello')
    server.get('/broken')
    server.get('/die')
    wait_until(lambda: len(server.get('/python-bridge/status').json()['Hosts']) == 2, 30, 'both hosts')
    found = scrape(server)
    status = server.get('/python-bridge/status').json()
    rest = status['Callbacks']['Rest']
    assert (found['rest_calls_total'], found['rest_errors_total'], found['rest_died_total']) == (
        rest['Calls'], rest['Errors'], rest['Died']) == (7, 1, 1)
    assert found['calls_total'] == sum(kind['Calls'] for kind in status['Callbacks'].values())
    assert found['errors_total'] == found['exceptions_total'] == found['restarts_total'] == 1
    assert found['change_calls_total'] >= 1 and found['late_total'] == found['no_host_total'] == 0
    assert found['hosts'] == 2 and found['hosts_other'] == 0 and found['generation'] == 1
    assert 0 < found['rest_latency_p50_seconds'] <= found['rest_latency_p95_seconds'] <= found[
        'rest_latency_p99_seconds'] <= rest['Max'] * 1.01
    assert found['rest_latency_seconds_total'] == pytest.approx(rest['Mean'] * rest['Calls'], rel=0.05)
    assert 0 < found['uptime_seconds'] <= status['Uptime'] * 1.01
    assert 2000000 < found['memory_pss_bytes'] <= found['memory_rss_bytes']
    assert found['events_queued'] == found['events_lost_total'] == found['events_set_aside_total'] == 0


def test_metrics_while_a_call_runs(orthanc):
    """The scrape waits for nothing of the script's."""
    server = orthanc(script=SCRIPT)
    running = threading.Thread(target=lambda: server.get('/slow/3'))
    running.start()
    wait_until(lambda: scrape(server, timeout=2)['calls_running'] == 1, 20, 'the call to run')
    assert scrape(server)['calls_waiting'] == 0 and 'rest_calls_total' not in scrape(server)
    running.join()
    assert scrape(server)['calls_running'] == 0


def test_metrics_in_the_script(orthanc):
    """A script may have metrics of its own, and read all of them."""
    server = orthanc(script=SCRIPT + '''
def all_metrics(output, uri, **request):
    orthanc.SetMetricsValue('mine', 1.5, orthanc.MetricsType.DEFAULT)
    output.AnswerBuffer(orthanc.RestApiGet('/tools/metrics-prometheus'), 'text/plain')
orthanc.RegisterRestCallback('/metrics', all_metrics)
''' + PID_ROUTE)
    text = server.get('/metrics').text
    assert re.search('^mine 1.5 ', text, re.MULTILINE) and 'python_bridge_calls_running 1 ' in text


def dashboard():
    with open(DASHBOARD, encoding='utf-8') as f:
        return json.load(f)


def expressions(board):
    for panel in board['panels']:
        for target in panel['targets']:
            yield panel['title'], target['expr']
    for variable in board['templating']['list']:
        if variable['type'] == 'query':
            yield variable['name'], variable['query']['query']


def test_every_metric_of_the_dashboard_is_there(orthanc):
    server = orthanc(script=SCRIPT)
    server.get('/hello')
    found = {PREFIX + name for name in scrape(server)}
    used = set()
    for title, text in expressions(dashboard()):
        patterns = re.findall(r'__name__=~"([^"]*)"', text)
        for pattern in patterns:
            matched = {name for name in found if re.fullmatch(pattern, name)}
            assert matched, '%s: no metric is like %s' % (title, pattern)
        names = set(re.findall(PREFIX + r'\w+', re.sub(r'"[^"]*"', '', text)))
        assert names or patterns, '%s: %s names no metric' % (title, text)
        assert names <= found, '%s: there is no %s' % (title, names - found)
        used |= names
    assert len(used) > 20


def test_the_dashboard_is_one_that_grafana_takes():
    board = dashboard()
    assert board['title'] and board['uid'] and board['schemaVersion'] >= 36
    numbers = [panel['id'] for panel in board['panels']]
    assert len(set(numbers)) == len(numbers)
    taken = set()
    for panel in board['panels']:
        place = panel['gridPos']
        cells = {(x, y) for x in range(place['x'], place['x'] + place['w'])
                 for y in range(place['y'], place['y'] + place['h'])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel['title']
        taken |= cells


def test_every_metric_is_documented(orthanc):
    server = orthanc(script=SCRIPT)
    server.get('/hello')
    with open(os.path.join(REPOSITORY, 'docs', 'admin-api.md'), encoding='utf-8') as f:
        documented = set(re.findall(r'`python_bridge_(\w+)`', f.read()))
    found = {re.sub('^rest_', '', name) for name in scrape(server)}
    assert not found - documented and not documented - found
