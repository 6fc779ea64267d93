# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps Orthanc's files as objects of a bucket, here a directory that works like one.

To use another object store, write another class with put(), get() and delete(). The
configuration names the directory, seen from Orthanc's "StorageDirectory".

When the process that runs this script dies during a call, Orthanc's plugin makes the call
again: so an object may be put twice, and deleted though it is gone.
"""

import json
import os
import tempfile

import orthanc

CONFIGURATION = json.loads(orthanc.GetConfiguration())
DIRECTORY = os.path.join(CONFIGURATION.get('StorageDirectory', 'OrthancStorage'),
                         CONFIGURATION['Bucket']['Directory'])
SUFFIXES = {
    orthanc.ContentType.DICOM: '.dcm',
    orthanc.ContentType.DICOM_AS_JSON: '.json',
    orthanc.ContentType.DICOM_UNTIL_PIXEL_DATA: '.dcm.head',
}


class Bucket:
    """Objects by key. Any number of threads may use it."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        os.makedirs(self.directory, exist_ok=True)

    def path(self, key: str) -> str:
        """Where an object is. Keys have slashes, as in all buckets."""
        return os.path.join(self.directory, *key.split('/'))

    def put(self, key: str, content: bytes) -> None:
        """Once this returns the object is there to stay; before, there is nothing of it."""
        path = self.path(key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.directory, prefix='.put-')
        try:
            with open(handle, 'wb') as f:
                f.write(content)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def get(self, key: str) -> bytes:
        """All of an object."""
        with open(self.path(key), 'rb') as f:
            return f.read()

    def delete(self, key: str) -> None:
        """An object that is not there is deleted already."""
        try:
            os.unlink(self.path(key))
        except FileNotFoundError:
            pass


BUCKET = Bucket(DIRECTORY)


def key_of(uuid: str, content_type: int) -> str:
    """Spread over 256 prefixes: "1f/1f0e....dcm"."""
    return '%s/%s%s' % (uuid[:2], uuid, SUFFIXES.get(content_type, ''))


def create(uuid: str, content_type: int, data: bytes) -> None:
    BUCKET.put(key_of(uuid, content_type), data)


def read(uuid: str, content_type: int) -> bytes:
    return BUCKET.get(key_of(uuid, content_type))


def remove(uuid: str, content_type: int) -> None:
    """Must not use the REST API: Orthanc has locked its database meanwhile."""
    BUCKET.delete(key_of(uuid, content_type))


orthanc.RegisterStorageArea(create, read, remove)
