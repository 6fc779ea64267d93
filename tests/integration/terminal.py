# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on a terminal, as who sits in front of it sees it."""

import os
import pty
import re
import select
import signal
import time

from server import PATIENCE


class Terminal:
    """In a with block; at its end the program is killed, if it has not ended."""

    def __init__(self, words, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, env)
        self.seen = b''

    def expect(self, pattern):
        """What has come since the last one, as soon as it matches."""
        deadline = time.monotonic() + 30 * PATIENCE
        while not re.search(pattern, self.seen):
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], self.seen
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                raise AssertionError('the program has ended: %r' % self.seen) from None
        found, self.seen = self.seen, b''
        return found

    def type(self, keys):
        os.write(self.fd, keys)

    def wait(self):
        """For its end: what waitpid() says of it."""
        return os.waitpid(self.pid, 0)[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
