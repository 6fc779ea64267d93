# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a function every second, from the start of the server to its end."""

import threading
from collections.abc import Callable

import orthanc

INTERVAL_S = 1.0


class Scheduler:
    """A timer that starts anew after each run."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.timer: threading.Timer | None = None
        self.lock = threading.Lock()
        self.is_stopped = False

    def run(self) -> None:
        """Works once and plans the next time."""
        self.work()
        with self.lock:
            if not self.is_stopped:
                self.timer = threading.Timer(INTERVAL_S, self.run)
                self.timer.start()

    def stop(self) -> None:
        """Nothing begins after this."""
        with self.lock:
            self.is_stopped = True
            if self.timer is not None:
                self.timer.cancel()


def hello() -> None:
    """The work; any function of the module may be called here."""
    orthanc.LogWarning('In hello()')


scheduler = Scheduler(hello)


def on_change(change_type: int, level: int, resource: str) -> None:
    """Follows the life of the server."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        orthanc.LogWarning('Starting the scheduler')
        scheduler.run()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        orthanc.LogWarning('Stopping the scheduler')
        scheduler.stop()


orthanc.RegisterOnChangeCallback(on_change)
