# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol between a node and a pool, spoken by tests that misuse it (docs/protocol.md).

Here:      msgpack as far as it is needed, frames, the handshake, a connection.
Elsewhere: who says what to whom (evil_worker.py, test_hostile_*.py).
"""

import socket
import struct
import time

MAGIC = 'orthanc-python-bridge'
VERSION = 3
CONTROL, MAIN, CALL, SERVICE = 1, 2, 3, 4
REQUEST, RESPONSE, NOTIFY = 0, 1, 2
ATTACH, HOST_STARTED, HOST_DIED, REPLACE_HOST, DETACH, LOG = 1, 2, 3, 4, 5, 6
START_NEXT, NEXT_STARTED, DESCRIBE, NEXT_COUNT = 7, 8, 20, 22
SECRET_BYTES = 32


class Raw(bytes):
    """Bytes that stand in an envelope as they are."""


class Closed(Exception):
    """The peer has closed the connection."""


def _sized(size, small, *codes):
    """The head of a text, bytes, array or map: (largest, base), then the codes that follow."""
    if small is not None and size <= small[0]:
        return bytes([small[1] | size])
    for code, form in zip(codes, ('>BB', '>BH', '>BI')[-len(codes):]):
        if size < 1 << 8 * (struct.calcsize(form) - 1):
            return struct.pack(form, code, size)
    raise ValueError(size)


def _pack_int(value):
    if 0 <= value < 0x80:
        return bytes([value])
    if -32 <= value < 0:
        return struct.pack('>b', value)
    if value >= 0:
        for code, form in ((0xcc, '>BB'), (0xcd, '>BH'), (0xce, '>BI'), (0xcf, '>BQ')):
            if value < 1 << 8 * (struct.calcsize(form) - 1):
                return struct.pack(form, code, value)
    return struct.pack('>Bq', 0xd3, value)


def pack(value):
    # pylint: disable=too-many-return-statements
    if isinstance(value, Raw):
        return bytes(value)
    if value is None:
        return b'\xc0'
    if isinstance(value, bool):
        return b'\xc3' if value else b'\xc2'
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return struct.pack('>Bd', 0xcb, value)
    if isinstance(value, str):
        data = value.encode('utf-8', 'surrogateescape')
        return _sized(len(data), (31, 0xa0), 0xd9, 0xda, 0xdb) + data
    if isinstance(value, bytes):
        return _sized(len(value), None, 0xc4, 0xc5, 0xc6) + value
    if isinstance(value, (list, tuple)):
        return _sized(len(value), (15, 0x90), 0xdc, 0xdd) + b''.join(map(pack, value))
    if isinstance(value, dict):
        return _sized(len(value), (15, 0x80), 0xde, 0xdf) + b''.join(
            pack(key) + pack(item) for key, item in value.items())
    raise TypeError(value)


class _Unpacker:
    def __init__(self, data, segments):
        self.data = data
        self.at = 0
        self.segments = segments

    def take(self, count):
        part = self.data[self.at:self.at + count]
        self.at += count
        return part

    def number(self, form):
        return struct.unpack('>' + form, self.take(struct.calcsize('>' + form)))[0]

    def items(self, count):
        return [self.value() for _ in range(count)]

    def pairs(self, count):
        return {self.value(): self.value() for _ in range(count)}

    def text(self, count):
        return self.take(count).decode('utf-8', 'surrogateescape')

    def extension(self, size):
        kind, data = self.number('b'), self.take(size)
        assert (kind, size) == (1, 4), 'an ext value that is no segment'
        return self.segments[struct.unpack('>I', data)[0]]

    def value(self):
        # pylint: disable=too-many-return-statements
        code = self.number('B')
        if code < 0x80:
            return code
        if code < 0x90:
            return self.pairs(code & 15)
        if code < 0xa0:
            return self.items(code & 15)
        if code < 0xc0:
            return self.text(code & 31)
        if code >= 0xe0:
            return code - 256
        if code in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[code]
        if 0xd4 <= code <= 0xd8:
            return self.extension(1 << code - 0xd4)
        form = 'BHIBHIfdBHIQbhiq.....BHIHIHI'[code - 0xc4]
        size = self.number(form)
        if code <= 0xc6:
            return bytes(self.take(size))
        if code <= 0xc9:
            return self.extension(size)
        if code <= 0xd3:
            return size
        read = self.text if code <= 0xdb else self.items if code <= 0xdd else self.pairs
        return read(size)


def frame(value, segments=()):
    """A whole frame around one value (Raw: the envelope itself)."""
    envelope = pack(value)
    return (struct.pack('>IHH', len(envelope), len(segments), 0) +
            b''.join(struct.pack('>Q', len(part)) for part in segments) +
            envelope + b''.join(segments))


def hello(kind, node='', host=0, secret=bytes(SECRET_BYTES), version=VERSION, magic=MAGIC):
    return [REQUEST, 0, 0, [magic, version, kind, node, host, secret]]


class Connection:
    """One connected socket, frame by frame."""

    def __init__(self, connected):
        self.socket = connected

    @classmethod
    def to(cls, path, timeout=30):
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                connected.connect(path)
                return cls(connected)
            except BlockingIOError:     # a long queue: Python does not wait here
                if time.monotonic() > deadline:
                    connected.close()
                    raise
                time.sleep(0.005)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send_bytes(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from None

    def send(self, value, segments=()):
        self.send_bytes(frame(value, segments))

    def read_bytes(self, count):
        data = b''
        while len(data) < count:
            try:
                part = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                part = b''
            if not part:
                raise Closed('%d of %d bytes came' % (len(data), count))
            data += part
        return data

    def read(self):
        """The next envelope, with its segments in it."""
        size, count, _ = struct.unpack('>IHH', self.read_bytes(8))
        sizes = struct.unpack('>%dQ' % count, self.read_bytes(8 * count))
        envelope = self.read_bytes(size)
        return _Unpacker(envelope, [self.read_bytes(each) for each in sizes]).value()

    def ends(self):
        """Reads to the end; True unless the peer still has the connection open in time."""
        try:
            while True:
                self.read_bytes(1)
        except Closed:
            return True
        except socket.timeout:
            return False


def welcomed(answer):
    """True for [version]; False for a refusal, whose text is in answer[2][2]."""
    return answer[:3] == [RESPONSE, 0, None]
