# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps Orthanc's files in a directory per day, and reads only what is asked for (from Orthanc
1.12.8 on).

Where a file is is kept as its custom data, in Orthanc's database: so files can be laid out in
any way, without a table of one's own. When the process that runs this script dies during a
call, Orthanc's plugin makes the call again.
"""

import datetime
import json
import os

import orthanc

CONFIGURATION = json.loads(orthanc.GetConfiguration())
DIRECTORY = os.path.abspath(os.path.join(CONFIGURATION.get('StorageDirectory', 'OrthancStorage'),
                                         CONFIGURATION['StorageRanges']['Directory']))


def path_of(custom: bytes) -> str:
    """Of what create() has returned."""
    return os.path.join(DIRECTORY, str(json.loads(custom)['Path']))


def create(uuid: str, content_type: int, compression_type: int, content: bytes,
           instance: orthanc.DicomInstance) -> tuple[int, bytes | None]:
    custom = json.dumps({'Path': os.path.join(datetime.date.today().isoformat(), uuid)}).encode()
    path = path_of(custom)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.part', 'wb') as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + '.part', path)
    return orthanc.ErrorCode.SUCCESS, custom


def read_range(uuid: str, content_type: int, start: int, size: int,
               custom: bytes) -> tuple[int, bytes | None]:
    try:
        with open(path_of(custom), 'rb') as f:
            f.seek(start)
            return orthanc.ErrorCode.SUCCESS, f.read(size)
    except FileNotFoundError:
        return orthanc.ErrorCode.INEXISTENT_FILE, None


def remove(uuid: str, content_type: int, custom: bytes) -> int:
    """A file that is gone is removed already."""
    try:
        os.unlink(path_of(custom))
    except FileNotFoundError:
        pass
    return orthanc.ErrorCode.SUCCESS


orthanc.RegisterStorageArea3(create, read_range, remove)
