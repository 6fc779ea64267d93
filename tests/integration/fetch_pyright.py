#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the type checker pyright: fetch_pyright.py FOLDER prints the script that node runs.

The archive of the npm registry holds all of pyright, so that neither npm nor another archive
is needed. It comes once into FOLDER/VERSION. Nothing is unpacked that has not the checksum
below. Exit code 3: it cannot be fetched, for instance without a network. 1: what was fetched
is not what it must be.

For another version: https://registry.npmjs.org/pyright/latest has "version" and "dist.integrity".
"""

import argparse
import base64
import hashlib
import http.client
import io
import os
import pathlib
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

VERSION = '1.1.414'
INTEGRITY = 'sha512-FPZZb51jepDX4eP7TEYDeNFtmE3WgwkkEcJpvH3/QmUSsj0EAy3LXu+xB4T/FWDejtsXlCfFr/rbWFjwuwuXww=='
URL = 'https://registry.npmjs.org/pyright/-/pyright-%s.tgz' % VERSION
MAX_BYTES = 64 << 20
SILENCE_S = 10      # without a byte, or for one of the registry's addresses
TOTAL_S = 120       # after which no attempt goes on, and none begins
PAUSES_S = (1, 4)   # one between two attempts


class NotFetched(Exception):
    """Nobody has given the archive."""


class Wrong(Exception):
    """What was given is not the archive."""


def download(url, deadline):
    """One attempt; an OSError or HTTPException says that another one may help."""
    content = io.BytesIO()
    with urllib.request.urlopen(url, timeout=SILENCE_S) as answer:
        length = answer.headers.get('Content-Length')
        while part := answer.read1(1 << 16):
            content.write(part)
            if content.tell() > MAX_BYTES:
                raise Wrong('%s is longer than %d bytes' % (url, MAX_BYTES))
            if time.monotonic() > deadline:
                raise TimeoutError('not complete within %d s' % TOTAL_S)
    if length is not None and content.tell() != int(length):
        raise ConnectionError('ended after %d of %s bytes' % (content.tell(), length))
    return content.getvalue()


def persist():
    """The archive, by a few attempts."""
    deadline = time.monotonic() + TOTAL_S
    pauses = list(PAUSES_S)
    while True:
        try:
            return download(URL, deadline)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code in (404, 410):
                raise Wrong('%s: %s' % (URL, error)) from error
            if not pauses or time.monotonic() > deadline:
                raise NotFetched('%s: %s' % (URL, getattr(error, 'reason', error))) from error
        time.sleep(pauses.pop(0))


def verify(content):
    found = 'sha512-' + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise Wrong('%s has the wrong checksum: %s instead of %s' % (URL, found, INTEGRITY))


def unpack(content, folder):
    """Plain files below package/, which is all that npm packs. Older tarfiles lack filter='data'."""
    with tarfile.open(fileobj=io.BytesIO(content), mode='r:gz') as archive:
        for member in archive:
            parts = pathlib.PurePosixPath(member.name).parts
            if not member.isfile() or parts[:1] != ('package',) or '..' in parts:
                raise Wrong('the archive holds %r, which is no file below package/' % member.name)
            path = folder.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())


def fetch(folder):
    """The path of the script; fetched if it is not there. Many may do that at the same time."""
    target = pathlib.Path(folder, VERSION)
    if not target.exists():
        content = persist()
        verify(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.new-', dir=target.parent) as new:
            unpack(content, pathlib.Path(new))
            try:
                os.rename(pathlib.Path(new, 'package'), target)
            except OSError:
                if not target.exists():
                    raise
                # Another one was faster: a folder that holds something is not replaced.
    return target / 'index.js'


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER')
    try:
        print(fetch(parser.parse_args(words).folder))
    except NotFetched as error:
        print('pyright cannot be fetched: %s' % error, file=sys.stderr)
        return 3
    except Wrong as error:
        print('pyright: %s' % error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
