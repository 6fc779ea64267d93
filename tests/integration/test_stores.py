# SPDX-License-Identifier: GPL-3.0-or-later
"""What a script keeps in the server: metadata, attachments, properties, metrics, jobs, and from
newer servers on key-value stores and queues (contract 2.4)."""

import re

import pytest

import dicom
import rows
from conftest import PLUGINS
from rows import INVALID, bad, check, has, name_values, oe, since
from server import OFFICIAL_VERSION, ORTHANC_VERSION


@pytest.fixture(scope='module')
def servers(module_orthanc):
    made = {}
    content = dicom.make_dicom('gray8', SOPInstanceUID='1.2.3.4.6.1', StudyInstanceUID='1.2.3.4.6.2',
                               SeriesInstanceUID='1.2.3.4.6.3')
    for name in PLUGINS:
        server = made[name] = module_orthanc(name, script=rows.SCRIPT, config={
            'StableAge': 600, 'UserMetadata': {'opb': 4500}, 'UserContentType': {'opb-file': 4600}},
            python={'AdminPath': ''} if name == 'ours' else None)     # its page is one of ours
        instance = server.upload(content)
        study = server.get('/instances/%s/study' % instance).json()
        name_values(server, INSTANCE=instance, STUDY=study['ID'], PATIENT=study['ParentPatient'],
                    SERIES=study['Series'][0], ALL=bytes(range(256)))
    return made


def test_metadata(servers):
    table = []
    for where in ("'/instances/' + INSTANCE", "'/series/' + SERIES", "'/studies/' + STUDY",
                  "'/patients/' + PATIENT"):
        base = where + " + '/metadata"
        table.append(("import json\nsorted(json.loads(orthanc.RestApiGet(%s')))" % base, None))
        for name in ('4000', 'opb', '4500', 'nope', '100', 'ReceptionDate', 'LastUpdate', '70000', '-1'):
            for value in ("''", "b'x'", "'M\\xfcller'", "'x' * 100000", "b'a\\0b'", "b'\\xff\\xfe'"):
                table += [("orthanc.RestApiPut(%s/%s', %s)" % (base, name, value), None)]
                if name != 'LastUpdate' and name != 'ReceptionDate':
                    table.append(("orthanc.RestApiGet(%s/%s')" % (base, name), None))
            table += [("orthanc.RestApiDelete(%s/%s')" % (base, name), None) for _ in range(2)]
        table.append(("sorted(json.loads(orthanc.RestApiGet(%s')))" % base, None))
    table += [("orthanc.RestApiGet('/instances/nope/metadata')", None),
              ("orthanc.RestApiPost('/instances/%s/metadata/4000' % INSTANCE, 'x')", None)]
    check(servers, table)


def test_attachments(servers):
    """Nothing, one byte and ten megabytes; compressed and as they are."""
    table = []
    for where in ("'/instances/' + INSTANCE", "'/patients/' + PATIENT"):
        base = where + " + '/attachments"
        for name, value in (('1024', "b''"), ('1025', "b'x'"), ('opb-file', "ALL * 40000"),
                            ('4601', "'te\\xd6xt'"), ('4602', "bytearray(ALL)"), ('100', "b'x'"),
                            ('nope', "b'x'"), ('dicom', "b'x'")):
            one = "%s/%s" % (base, name)
            table.append(("v = %s\nv = v.encode() if isinstance(v, str) else bytes(v)\n"
                          "orthanc.RestApiPut(%s', %s)" % (value, one, value), None))
            for path in ('/size', '/md5', '/is-compressed', '/compressed-size', '/compressed-md5', '', '/info'):
                if name != 'dicom' or path in ('/size', '/is-compressed'):
                    table.append(("orthanc.RestApiGet(%s%s')" % (one, path), None))
            for path in ('/data', '/compressed-data'):
                table.append(("r = orthanc.RestApiGet(%s%s')\n(len(r), r == v)" % (one, path), None))
            for path in ('/compress', '/verify-md5', '/uncompress'):
                table += [("orthanc.RestApiPost(%s%s', b'')" % (one, path), None),
                          ("orthanc.RestApiGet(%s/is-compressed')" % one, None),
                          ("r = orthanc.RestApiGet(%s/data')\n(len(r), r == v)" % one, None),
                          ("len(orthanc.RestApiGet(%s/compressed-data'))" % one, None)]
            table.append(("orthanc.RestApiPut(%s', b'again')\northanc.RestApiGet(%s/data')" % (one, one), None))
            table += [("orthanc.RestApiDelete(%s')" % one, None) for _ in range(2)]
            table.append(("orthanc.RestApiGet(%s/data')[:9]" % one, None))
    check(servers, table)


def test_global_properties(servers):
    table = [("orthanc.GetGlobalProperty(%s)" % rest, None) for rest in (
        "1024, ''", "2000, 'd\\xe9'", "1, 'x'", "1023, 'x'", "2**31 - 1, 'x'", "2**31, 'x'", "-1, 'x'")]
    for value in ("'v'", "''", "'M\\xfcller \\u5c71'", "'x' * 1000000", "'{\"json\": [1]}'", "'a\\nb'"):
        table += [("orthanc.SetGlobalProperty(6000, %s)" % value, None),
                  ("orthanc.GetGlobalProperty(6000, 'd') == %s" % value, 'True')]
    table += [("orthanc.SetGlobalProperty(%s)" % rest, None) for rest in (
        "1023, 'x'", "1024, 'x'", "-1, 'x'", "2**32 + 6001, 'wrapped'", "6002, None", "6002, b'x'",
        "6002, 'a\\0b'")]
    table += [("orthanc.GetGlobalProperty(6001, 'd')", None), ("orthanc.GetGlobalProperty(1024, 'd')", None)]
    check(servers, table)


METRICS = r'''
def metrics():
    import re
    text = orthanc.RestApiGet('/tools/metrics-prometheus').decode()
    return sorted(line.rsplit(' ', 1)[0] for line in text.splitlines() if line.startswith('opb'))
None'''


def test_metrics_as_the_server_shows_them(servers):
    table = [(METRICS, None), ("metrics()", None)]
    for number, value in enumerate((
            '0', '1', '1.5', '-3', 'True', '1e10', '3.4e38', '1e39', '-1e39', '1e-45', '16777217', '0.1',
            "float('inf')", "-0.0", "2**63", '10**30')):
        for kind in ('DEFAULT', 'TIMER'):
            table.append(("orthanc.SetMetricsValue('opb_%d_%s', %s, orthanc.MetricsType.%s)" % (
                number, kind.lower(), value, kind), 'None'))
    table += [("metrics()", None),
              ("orthanc.SetMetricsValue('opb_0_default', 7, 0)\northanc.SetMetricsValue('opb_1_timer', 9, 1)\n"
               "orthanc.SetMetricsValue('opb_1_timer', 3, 1)\nmetrics()", None),
              ("orthanc.SetMetricsValue('opb_0_default', 8, 1)\nmetrics()", None),
              ("orthanc.SetMetricsValue('opb \\xe9', 1, 0)\northanc.SetMetricsValue('', 1, 0)\n"
               "metrics()", None)]
    table += since((1, 12, 1), (6, 0), [
        ("orthanc.SetMetricsIntegerValue('opb_int', %s, 0)\nmetrics()" % value, None)
        for value in ('0', '-5', '2**62', '2**63 - 1', '-2**63', 'True', '2**63', '1.5')])
    check(servers, table)


@pytest.mark.ours
def test_metrics_of_whole_numbers(servers):
    """Contract 1.5: of release 6.0, and here wherever Orthanc has them."""
    if ORTHANC_VERSION < (1, 12, 1):
        check({'ours': servers['ours']}, [("orthanc.SetMetricsIntegerValue('opb_whole', 1, 0)", re.compile(
            r'raise AttributeError\("module .* it needs Orthanc 1\.12\.1, and .*'))])
        return
    call = "orthanc.SetMetricsIntegerValue('opb_whole', %s, %d)"
    check({'ours': servers['ours']}, [(METRICS, None)] + [
        (call % (value, kind) + "\n[m for m in metrics() if m.startswith('opb_whole')]",
         "['opb_whole %d']" % eval(value))
        for value, kind in (('0', 0), ('-5', 0), ('2**62', 0), ('2**63 - 1', 0), ('-2**63', 0),
                            ('True', 0))] + [
        (call % (value, 0), bad(3)) for value in ('2**63', '1.5', 'None')])


def test_jobs(servers):
    """Jobs of the core that a script starts, follows and ends.

    They are started by a thread of the script: the routes of archives need more stack than an
    HTTP thread of Orthanc 1.13 has left, which ends a server under the official plugin."""
    table = [(r'''
import json, threading, time
def job(path, **body):
    made = []
    def post():
        try:
            made.append(orthanc.RestApiPost(path, json.dumps(dict(body, Asynchronous=True))))
        except Exception as e:
            made.append(e)
    thread = threading.Thread(target=post)
    thread.start()
    thread.join()
    if isinstance(made[0], Exception):
        raise made[0]
    return json.loads(made[0])['ID']
def wait(name):
    for turn in range(400):
        j = json.loads(orthanc.RestApiGet('/jobs/' + name))
        if j['State'] not in ('Pending', 'Running', 'Retry'):
            break
        time.sleep(0.02)
    return (j['State'], j['Type'], j['Priority'], j['Progress'], j['ErrorCode'], j['ErrorDescription'],
            sorted(j), sorted(j['Content']))
None''', None),
             ("a = job('/studies/' + STUDY + '/anonymize', Priority=7)\nwait(a)", None),
             ("b = job('/studies/' + STUDY + '/archive')\nwait(b)", None),
             ("orthanc.RestApiGet('/jobs/%s/archive' % b)[:2]", None),
             ("orthanc.RestApiGet('/jobs/%s/nope' % b)", None),
             ("c = job('/tools/create-media', Resources=[STUDY])\nwait(c)", None),
             ("orthanc.RestApiPost('/jobs/%s/cancel' % a, b'')", None),
             ("orthanc.RestApiPost('/jobs/%s/pause' % a, b'')", None),
             ("orthanc.RestApiPost('/jobs/%s/resume' % a, b'')", None),
             ("orthanc.RestApiPost('/jobs/%s/resubmit' % a, b'')", None),
             ("orthanc.RestApiPost('/jobs/nope/cancel', b'')", None),
             ("orthanc.RestApiGet('/jobs/nope')", None),
             ("sorted({a, b, c} - set(json.loads(orthanc.RestApiGet('/jobs'))))", '[]'),
             ("job('/tools/create-archive', Resources=['nope'])", None),
             ("job('/studies/nope/anonymize')", None)]
    # objects of these classes can be had only without what they stand for (contract 1.6)
    old = OFFICIAL_VERSION < (6, 0)
    table += [("orthanc.Job(0, 0).SubmitJob(1)", INVALID), ("orthanc.Job(0, 0).SubmitJob('x')", None),
              ("orthanc.StorageArea(0, 0).ReconstructMainDicomTags(1)", INVALID)]
    table += [("orthanc.StorageArea(0, 0).%s" % call.replace('.', 'StorageArea' if old else ''), value)
              for call, value in ((".Create('u', b'abc', 3, 1)", INVALID), (".Read('u', 1)", INVALID),
                                  (".Remove('u', 1)", INVALID), (".Remove('u')", None))]
    check(servers, table)
    if 'ours' in servers:
        check({'ours': servers['ours']}, [
            ("orthanc.RestApiPost('/studies/' + STUDY + '/archive', b'{}')[:2]", "b'PK'"),
            ("orthanc.StorageArea(0, 0).Create('u', b'abc', 3, 1)", INVALID),
            ("orthanc.StorageArea(0, 0).Read('u', 1)", INVALID),
            ("orthanc.StorageArea(0, 0).Remove('u', 1)", INVALID),
            ("orthanc.StorageArea(0, 0).StorageAreaCreate('u', b'abc', 3, 1)", INVALID),
            ("orthanc.StorageArea(0, 0).StorageAreaRead('u', 1)", INVALID),
            ("orthanc.StorageArea(0, 0).StorageAreaRemove('u', 1)", INVALID)])


def test_what_the_server_shows_of_the_plugin(servers):
    """Contract 2.4, 4.6: description, page and script of the plugin."""
    shown = ("import json\nj = json.loads(orthanc.RestApiGet('/plugins/python'))\n"
             "[j.get(x) for x in ('ID', 'Description', 'RootUri', 'ExtendsOrthancExplorer')]")
    script = "orthanc.RestApiGet('/plugins/explorer.js').decode().split('\\n', 1)[0][:20], 'opb_js' in " \
             "orthanc.RestApiGet('/plugins/explorer.js').decode()"
    table = [(shown, None), (script, None), ("json.loads(orthanc.RestApiGet('/plugins'))", None)]
    table += [(call + '\n' + what, None) for call in (
        "orthanc.SetDescription('d\\xe9')", "orthanc.SetRootUri('../r')",
        "orthanc.ExtendOrthancExplorer('// opb_js')") for what in (shown, script)]
    table += since((1, 12, 4), (5, 0), [(call + '\n' + what, None) for call in (
        "orthanc.SetDescription2('python', 'second')", "orthanc.SetRootUri2('python', '../s')",
        "orthanc.ExtendOrthancExplorer2('python', '// opb_js2')", "orthanc.SetDescription2('nope', 'x')",
        "orthanc.SetRootUri2('nope', 'x')", "orthanc.ExtendOrthancExplorer2('nope', '// x')")
        for what in (shown, script)])
    table += since((1, 12, 4), (5, 0), [
        ("orthanc.SetCurrentThreadName('opb')", None), ("orthanc.SetCurrentThreadName('x' * 17)", None),
        ("len(orthanc.GetDatabaseServerIdentifier())", None)])
    check(servers, table)


@pytest.mark.skipif(not has((1, 12, 4), (5, 0)),
                    reason='contract, appendix A: LogMessage is of 1.12.4 and plugin 5.0')
def test_log_messages_name_their_source(servers):
    check(servers, [("orthanc.LogMessage('opb %d %d', 'opb', '/a/file.c', 42, %d, %d)" % (
        category, level, category, level), 'None') for category in (1, 2, 4, 8, 16, 32, 64)
        for level in (0, 1, 2)] + [("orthanc.LogMessage('opb', 'opb', 'f', 1, 99, 99)", None)])
    for server in servers.values():
        server.wait_for_log(r'^E.*opb:/file.c:42\].*opb 2 0$')
        server.wait_for_log(r'^W.*opb:/file.c:42\].*opb 1 1$')
        server.wait_for_log(r'^I.*opb:/file.c:42\].*opb 64 2$')


STATUS = 'contract, appendix A: SetStableStatus, EmitAuditLog are of 1.12.9, the rest of 1.12.8; plugin 6.0'
needs_stores = pytest.mark.skipif(not has((1, 12, 9), (6, 0)), reason=STATUS)


@needs_stores
def test_key_value_stores(servers):
    nothing = oe(3, 'Parameter out of range')
    table = [
        ("orthanc.GetKeyValue('opb', 'k')", 'None'), ("orthanc.DeleteKeyValue('opb', 'k')", 'None'),
        ("orthanc.StoreKeyValue('opb', 'k', b'a\\0b')", 'None'),
        ("orthanc.GetKeyValue('opb', 'k')", "b'a\\x00b'"),
        ("orthanc.StoreKeyValue('opb', 'k', 'te\\xd6xt')\northanc.GetKeyValue('opb', 'k')", None),
        ("orthanc.GetKeyValue('other', 'k')", 'None'),
        ("orthanc.StoreKeyValue('opb', 'empty', b'')", nothing),
        ("orthanc.StoreKeyValue('opb', 'empty', None)", nothing),
        ("orthanc.StoreKeyValue('opb', 'k', 12)", bad(3)),
        ("orthanc.GetKeyValue('opb')", "raise TypeError('Bad arguments',)"),
        ("b = bytes(range(256)) * 40000\northanc.StoreKeyValue('opb', 'large', b)\n"
         "orthanc.GetKeyValue('opb', 'large') == b", 'True'),
        ("for n in range(250):\n    orthanc.StoreKeyValue('many', 'key \\xe9 %03d' % n, str(n))\nNone", None),
        ("i = orthanc.CreateKeysValuesIterator('many')\n(type(i).__name__, i.GetKey())", None),
        ("i.GetValue()", oe(6, 'Bad sequence of calls')),
        ("l = []\nwhile i.Next():\n    l.append((i.GetKey(), i.GetValue()))\n(len(l), l[:3], l[-1])", None),
        ("i.GetKey()", None), ("i.GetValue()", None),
        ("i.Next()", "raise TypeError('Bad sequence of calls',)"),
        ("orthanc.CreateKeysValuesIterator('none').Next()", 'False'),
        ("i = orthanc.CreateKeysValuesIterator('many')\ni.Next()\northanc.DeleteKeyValue('many', i.GetKey())\n"
         "i.GetValue()", None),
        ("orthanc.DeleteKeyValue('opb', 'k')\northanc.GetKeyValue('opb', 'k')", 'None'),
        ("orthanc.StoreKeyValue('', '', b'x')", None), ("orthanc.GetKeyValue('', '')", None),
    ]
    check(servers, table)


@needs_stores
def test_queues(servers):
    front, back = 'orthanc.QueueOrigin.FRONT', 'orthanc.QueueOrigin.BACK'
    table = [
        ("orthanc.GetQueueSize('opb')", '0'), ("orthanc.DequeueValue('opb', %s)" % front, 'None'),
        ("[orthanc.EnqueueValue('opb', b'%d\\0' % n) for n in range(6)]", None),
        ("orthanc.GetQueueSize('opb')", '6'),
        ("orthanc.DequeueValue('opb', %s)" % front, None),
        ("orthanc.DequeueValue('opb', %s)" % back, None),
        ("orthanc.EnqueueValue('opb', 'te\\xd6xt')\northanc.DequeueValue('opb', %s)" % back, None),
        ("orthanc.EnqueueValue('opb', b'')", oe(3, 'Parameter out of range')),
        ("orthanc.EnqueueValue('opb', None)", oe(3, 'Parameter out of range')),
        ("orthanc.DequeueValue('opb', 99)", "raise TypeError('Parameter out of range',)"),
        ("orthanc.DequeueValue('opb', 'x')", "raise TypeError('Bad arguments',)"),
        ("b = bytes(range(256)) * 40000\northanc.EnqueueValue('opb-large', b)\n"
         "orthanc.DequeueValue('opb-large', 0) == b", 'True'),
    ]
    table += since((1, 12, 10), (7, 0), [
        ("v, n = orthanc.ReserveQueueValue('opb', %s, 60)\n(v, type(n))" % front, None),
        ("orthanc.GetQueueSize('opb')", '4'),
        ("w, m = orthanc.ReserveQueueValue('opb', %s, 1)\n(w, m == n)" % back, None),
        ("orthanc.AcknowledgeQueueValue('opb', n)", 'None'),
        ("orthanc.AcknowledgeQueueValue('opb', n)", oe(17, 'Unknown resource')),
        ("orthanc.AcknowledgeQueueValue('opb', 2**64 - 1)", None),
        ("import time\ntime.sleep(2.2)\northanc.ReserveQueueValue('opb', %s, 60)[0] == w" % back, 'True'),
        ("orthanc.ReserveQueueValue('none', 0, 60)", '(None, None)'),
        ("orthanc.ReserveQueueValue('opb', 99, 60)", None),
        ("orthanc.ReserveQueueValue('opb', 0)", "raise TypeError('Bad arguments',)")])
    check(servers, table)


@needs_stores
def test_stability_audit_and_custom_data(servers):
    table = [("orthanc.SetStableStatus(%s, %d)" % (what, status), None) for what in (
        'STUDY', 'SERIES', 'PATIENT', 'INSTANCE', "'nope'") for status in (0, 0, 1, 1, 99)]
    table += [("orthanc.SetStableStatus(STUDY)", None), ("orthanc.SetStableStatus(12, 0)", None)]
    table += [("orthanc.EmitAuditLog(%s)" % rest, None) for rest in (
        "'opb', 'user', 1, STUDY, 'read', b'{}'", "'', '', 99, '', '', None",
        "'opb', 'u', 1, STUDY, 'a', 'text'",
        "'opb'", "'opb', 'user', 1, STUDY, 'read', 12")]
    table += [("import json\nu = orthanc.RestApiGet('/instances/%s/attachments/dicom/uuid' % INSTANCE)\n"
               "u = u.decode()\northanc.GetAttachmentCustomData(u)", None),
              ("orthanc.SetAttachmentCustomData(u, b'a\\0b')\northanc.GetAttachmentCustomData(u)", None),
              ("orthanc.SetAttachmentCustomData(u, b'')\northanc.GetAttachmentCustomData(u)", None),
              ("orthanc.SetAttachmentCustomData('nope', b'x')", None),
              ("orthanc.GetAttachmentCustomData('nope')", None)]
    check(servers, table)
