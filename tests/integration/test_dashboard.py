# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboard of examples/, as far as it can be proved without Grafana: a real Prometheus
reads the metrics of two real servers, and answers every query of every panel.
"""

import json
import re
import shutil
import subprocess

import pytest
import requests

from server import PATIENCE, free_port, wait_until
from test_admin import SCRIPT
from test_metrics import CHANGES, dashboard

pytestmark = pytest.mark.ours

PROGRAM = shutil.which('prometheus')
CONFIGURATION = {'global': {'scrape_interval': '500ms', 'scrape_timeout': '500ms'}}
ENOUGH = 4    # scrapes, for what needs two of them within some seconds


class Prometheus:
    """A throw-away server that reads the metrics of some Orthancs."""

    def __init__(self, directory, servers):
        self.targets = ['127.0.0.1:%d' % server.http_port for server in servers]
        jobs = [{'job_name': 'orthanc', 'metrics_path': '/tools/metrics-prometheus', 'static_configs': [{'targets': self.targets}]}]
        file = directory / 'prometheus.yml'
        file.write_text(json.dumps(dict(CONFIGURATION, scrape_configs=jobs)), encoding='utf-8')    # JSON is YAML
        self.log = open(directory / 'prometheus.log', 'w+', encoding='utf-8')
        address = '127.0.0.1:%d' % free_port()
        self.url = 'http://%s/api/v1/' % address
        self.process = subprocess.Popen(
            [PROGRAM, '--config.file=%s' % file, '--storage.tsdb.path=%s' % (directory / 'tsdb'), '--web.listen-address=' + address],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        try:
            wait_until(self.has_enough, 60, '%d scrapes of each server' % ENOUGH, interval=0.1)
        except BaseException:
            self.log.seek(0)
            print(self.log.read())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.log.close()
        assert self.process.wait(60 * PATIENCE) == 0

    def has_enough(self):
        assert self.process.poll() is None, 'Prometheus has ended'
        try:
            found = self.query('count_over_time(python_bridge_hosts[1m])')
        except requests.ConnectionError:
            return False
        return len(found) == len(self.targets) and all(float(each['value'][1]) >= ENOUGH for each in found)

    def ask(self, path, **parameters):
        answer = requests.get(self.url + path, params=parameters, timeout=30 * PATIENCE)
        assert answer.status_code in (200, 503), '%s: %s' % (parameters, answer.text)
        return answer.json()['data'] if answer.status_code == 200 else []

    def query(self, text):
        data = self.ask('query', query=text)
        return data['result'] if data else []


@pytest.fixture(scope='module')
def prometheus(module_orthanc, tmp_path_factory):
    """Which has read two servers, of which scripts have raised and died."""
    assert PROGRAM is not None, 'prometheus is missing: tests/install-deps installs it'
    servers = [module_orthanc(script=SCRIPT + CHANGES) for _ in range(2)]
    for server in servers:
        server.get('/hello')
        server.get('/broken')
    with Prometheus(tmp_path_factory.mktemp('prometheus'), servers) as started:
        yield started


def as_grafana_asks(text, instance):
    """A query with the variables of Grafana and of the dashboard replaced."""
    text = text.replace('$__rate_interval', '10s').replace('$instance', re.escape(instance).replace('\\', '\\\\'))
    assert '$' not in text, text
    return text


def queries():
    return [pytest.param(panel, target, id='%s-%s' % (panel['title'].replace(' ', '_'), target['refId']))
            for panel in dashboard()['panels'] for target in panel['targets']]


@pytest.mark.parametrize('panel, target', queries())
def test_prometheus_answers_each_query_for_the_chosen_server(prometheus, panel, target):
    for instance in prometheus.targets:
        found = prometheus.query(as_grafana_asks(target['expr'], instance))
        assert found, '%s: no data for %s' % (panel['title'], target['expr'])
        for series in found:
            labels = series['metric']
            assert labels['instance'] == instance, '%s shows another server than the one that was chosen' % panel['title']
            assert all(name in labels for name in re.findall(r'{{ *(\w+) *}}', target['legendFormat'])), (target['legendFormat'], labels)


def test_prometheus_has_what_the_variables_ask_for(prometheus):
    (text,) = [variable['query']['query'] for variable in dashboard()['templating']['list'] if variable['type'] == 'query']
    metric, label = re.fullmatch(r'label_values\((\w+), (\w+)\)', text).groups()
    assert sorted(prometheus.ask('label/%s/values' % label, **{'match[]': metric})) == sorted(prometheus.targets)


def test_numbers_are_those_of_the_servers(prometheus):
    """Two calls each, one of which has raised; and no error in reading them."""
    assert [each['value'][1] for each in prometheus.query('python_bridge_rest_calls_total')] == ['2', '2']
    assert [each['value'][1] for each in prometheus.query('python_bridge_rest_errors_total')] == ['1', '1']
    states = prometheus.ask('targets')['activeTargets']
    assert [(state['health'], state['lastError']) for state in states] == [('up', '')] * 2


def test_the_dashboard_has_what_grafana_needs():
    """Names of data sources and variables, kinds of panels and their letters."""
    board = dashboard()
    variables = {variable['name']: variable for variable in board['templating']['list']}
    assert variables['datasource']['type'] == 'datasource' and variables['datasource']['query'] == 'prometheus'
    source = {'type': 'prometheus', 'uid': '${datasource}'}
    for panel in board['panels']:
        assert panel['type'] in ('stat', 'timeseries') and panel['title'] and panel['datasource'] == source
        assert panel['fieldConfig']['defaults']['unit'] and panel['targets']
        letters = [target['refId'] for target in panel['targets']]
        assert len(set(letters)) == len(letters), panel['title']
        for target in panel['targets']:
            assert target['datasource'] == source and target['legendFormat']
            assert set(re.findall(r'\$\{?(\w+)', target['expr'])) <= set(variables) | {'__rate_interval'}, target['expr']
