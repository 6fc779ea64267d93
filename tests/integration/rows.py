# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of behaviour: rows of Python text that run in a REST callback under both plugins.

A row is (code, expected outcome or None, Approved difference or None); the last two may be
left out. The outcomes of both plugins must be equal; a row with an expectation must also say
exactly that, and a row with an approved difference says where the contract asks for it.
"""

import probe
from compare import assert_outcomes
from conftest import PLUGINS
from server import OFFICIAL_VERSION, ORTHANC_VERSION


def bad(count):
    return "raise TypeError('Bad types for the arguments (%d arguments expected)',)" % count


def oe(code, text):
    return "raise OrthancException(%d, %r)" % (code, text)


INTERNAL = oe(-1, 'Internal error')
INVALID = "raise ValueError('Invalid object',)"
RANGE = oe(3, 'Parameter out of range')

# /_set names values for the rows; /_do runs Python text that answers itself.
ROUTES = r'''
def _set(output, uri, **r):
    _SPACE.update(eval(r['body'].decode()))
    output.AnswerBuffer('ok', 'text/plain')
def _do(output, uri, **r):
    exec(r['body'].decode(), dict(_SPACE, output=output))
orthanc.RegisterRestCallback('/_set', _set)
orthanc.RegisterRestCallback('/_do', _do)
'''
# What of an image is compared: the bytes between a row's last pixel and the next row, and
# those alone, may be anything.
PIXELS = r'''
_BYTES = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 7: 6, 8: 4, 9: 4, 10: 4, 11: 8}
def _pixels(image):
    import hashlib
    width, height, pitch = image.GetImageWidth(), image.GetImageHeight(), image.GetImagePitch()
    kind, content = image.GetImagePixelFormat(), image.GetImageBuffer()
    size = _BYTES[kind] * width
    rows = b''.join(content[y * pitch:y * pitch + size] for y in range(height))
    assert len(content) == pitch * height and len(rows) == size * height
    return (kind, width, height, pitch,
            rows.hex() if len(rows) < 200 else hashlib.md5(rows).hexdigest())
_SPACE.update(pixels=_pixels, BYTES=_BYTES)
'''
SCRIPT = probe.SCRIPT + ROUTES + PIXELS


def name_values(server, **values):
    """Lets the rows that run on this server use these values by name."""
    assert server.post('/_set', repr(values)).status_code == 200


def has(orthanc, official):
    """Whether the server is that new, and the official plugin too if it takes part."""
    return ORTHANC_VERSION >= orthanc and (
        'official' not in PLUGINS or OFFICIAL_VERSION >= official)


def since(orthanc, official, rows):
    """The rows, if this server and the official plugin here have what they call."""
    return rows if has(orthanc, official) else []


def check(servers, rows, after=None):
    """Runs the rows in order on each of {plugin: server} and compares. after(plugin) is
    called when those of one plugin have run."""
    rows = [tuple(row) + (None,) * (3 - len(row)) for row in rows]
    keys = ['%d: %s' % (index, row[0]) for index, row in enumerate(rows)]
    table = {key: row[0] for key, row in zip(keys, rows)}
    outcomes = {}
    for name, server in servers.items():
        outcomes[name] = probe.run(server, table)
        if after is not None:
            after(name)
    assert_outcomes(outcomes,
                    {key: row[1] for key, row in zip(keys, rows) if row[1] is not None},
                    {key: row[2] for key, row in zip(keys, rows) if row[2] is not None})
