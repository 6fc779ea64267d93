# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts say and are told: frames of msgpack (docs/protocol.md, 2 to 4).

Here:      values, frames, the handshake's answer. Only what a host of this release sends is
           read: it is a program of ours, and the socket is private.
Elsewhere: what it means (recorder.py).
"""

import struct

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
LARGEST_BIN = 4096      # longer byte strings travel as segments
HEAD = struct.Struct('>IHH')


class Closed(Exception):
    """The other side has ended."""


def _sized(size, short, heads):
    """The head of a text, bytes, array or map."""
    if short is not None and size <= short[0]:
        return bytes([short[1] | size])
    for code, form in heads:
        if size < 1 << 8 * (struct.calcsize(form) - 1):
            return struct.pack(form, code, size)
    raise ValueError(size)


def _integer(value):
    if 0 <= value < 0x80 or -0x20 <= value < 0:
        return struct.pack('>b' if value < 0 else '>B', value)
    return struct.pack('>BQ', 0xcf, value) if value >= 0 else struct.pack('>Bq', 0xd3, value)


def pack(value, segments):
    """The bytes of a value; long byte strings go to the list of segments."""
    if value is None or isinstance(value, bool):
        return {None: b'\xc0', False: b'\xc2', True: b'\xc3'}[value]
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, str):
        data = value.encode('utf-8', 'surrogateescape')
        return _sized(len(data), (31, 0xa0), ((0xd9, '>BB'), (0xda, '>BH'), (0xdb, '>BI'))) + data
    if isinstance(value, bytes) and len(value) > LARGEST_BIN:
        segments.append(value)
        return struct.pack('>BbI', 0xd6, 1, len(segments) - 1)
    if isinstance(value, bytes):
        return _sized(len(value), None, ((0xc4, '>BB'), (0xc5, '>BH'))) + value
    if isinstance(value, (list, tuple)):
        return (_sized(len(value), (15, 0x90), ((0xdc, '>BH'), (0xdd, '>BI')))
                + b''.join(pack(item, segments) for item in value))
    if isinstance(value, dict):
        return (_sized(len(value), (15, 0x80), ((0xde, '>BH'), (0xdf, '>BI')))
                + b''.join(pack(key, segments) + pack(item, segments) for key, item in value.items()))
    raise TypeError(value)


class _Unpacker:
    def __init__(self, data, segments):
        self.data, self.at, self.segments = data, 0, segments

    def take(self, count):
        part = self.data[self.at:self.at + count]
        self.at += count
        return part

    def number(self, form):
        return struct.unpack('>' + form, self.take(struct.calcsize('>' + form)))[0]

    def text(self, size):
        return self.take(size).decode('utf-8', 'surrogateescape')

    def items(self, count):
        return [self.value() for _ in range(count)]

    def pairs(self, count):
        return {self.value(): self.value() for _ in range(count)}

    def segment(self, size):
        self.take(1)    # the type
        return self.segments[int.from_bytes(self.take(size), 'big')]

    def value(self):
        code = self.number('B')
        for limit, read, mask in ((0x80, int, 0x7f), (0x90, self.pairs, 15), (0xa0, self.items, 15),
                                  (0xc0, self.text, 31)):
            if code < limit:
                return read(code & mask)
        if code >= 0xe0:
            return code - 256
        if code in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[code]
        if 0xd4 <= code <= 0xd8:
            return self.segment(1 << code - 0xd4)
        value = self.number('BHIBHIfdBHIQbhiq.....BHIHIHI'[code - 0xc4])
        for limit, read in ((0xc6, self.take), (0xc9, self.segment), (0xd3, lambda number: number), (0xdb, self.text),
                            (0xdd, self.items)):
            if code <= limit:
                return read(value)
        return self.pairs(value)


def unpack(data, segments=()):
    return _Unpacker(data, segments).value()


def send(connection, value):
    segments = []
    envelope = pack(value, segments)
    try:
        connection.sendall(HEAD.pack(len(envelope), len(segments), 0)
                           + b''.join(struct.pack('>Q', len(part)) for part in segments) + envelope + b''.join(segments))
    except OSError as error:
        raise Closed(str(error)) from None


def _read(connection, count):
    parts = []
    while count > 0:
        try:
            part = connection.recv(min(count, 1 << 20))
        except ConnectionResetError:
            part = b''
        if not part:
            raise Closed('the connection has ended')
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def receive(connection):
    """The next envelope. Raises Closed, or TimeoutError as the socket is set."""
    size, count, _ = HEAD.unpack(_read(connection, HEAD.size))
    sizes = struct.unpack('>%dQ' % count, _read(connection, 8 * count))
    envelope = _read(connection, size)
    return unpack(envelope, [_read(connection, each) for each in sizes])


def answer(connection, msgid, result):
    send(connection, [RESPONSE, msgid, None, result])


def answer_fault(connection, msgid, fault, code, text):
    send(connection, [RESPONSE, msgid, [fault, code, text], None])
