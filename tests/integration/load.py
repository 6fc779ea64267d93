# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that ask some servers all the time, while something happens to these."""

import collections
import threading
import time

from server import wait_until

PAUSE = 0.02    # seconds between two requests of a client


class Load:
    """Counts what was answered, until the end of the block.

    ask(server, token) makes one request and returns what it counts as: its status, or whatever
    the test tells answers apart by. The token is another one each time. If nothing is answered
    (OSError), the exception's name counts.

    answers: {server: {result: count}}; first: {server: {result: when it came first}}
    """

    def __init__(self, servers, ask, clients=1):
        self.servers = list(servers)
        self.ask = ask
        self.answers = {server: collections.Counter() for server in self.servers}
        self.first = {server: {} for server in self.servers}
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(server, client))
                        for server in self.servers for client in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def _run(self, server, client):
        count = 0
        while not self.is_over.wait(PAUSE):
            count += 1
            try:
                result = self.ask(server, '%d-%d' % (client, count))
            except OSError as e:
                result = type(e).__name__
            with self.lock:
                self.answers[server][result] += 1
                self.first[server].setdefault(result, time.monotonic())

    def results(self, server):
        """All that was answered by it."""
        return set(self.answers[server])

    def wait_for_more(self, servers=None, result=200, more=10, timeout=30):
        """Until each has given that result some more times."""
        before = {server: self.answers[server][result] for server in servers or self.servers}
        wait_until(lambda: all(self.answers[server][result] >= count + more for server, count in before.items()),
                   timeout, '%s more of %s: %s' % (more, result, self.answers))
