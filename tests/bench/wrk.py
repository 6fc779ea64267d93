# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections by wrk that ask all the time: a client in Python would measure itself."""

import subprocess

FACTORS = (("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6))


def _microseconds(text):
    for suffix, factor in FACTORS:
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    raise ValueError(text)


class Wrk:
    """Runs from now on, for so many seconds."""

    def __init__(self, server, path, connections, seconds):
        seconds = max(1, round(seconds))
        self.label, self.limit = f"{server.label}: {path}", seconds + 60
        self.process = subprocess.Popen(
            ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s",
             "--latency", f"http://127.0.0.1:{server.port}{path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def result(self):
        """rate in 1/s; 50% and 99% of the latencies in us; how many requests. Every one was answered."""
        output, _ = self.process.communicate(timeout=self.limit)
        if self.process.returncode != 0 or "Non-2xx" in output or "Socket errors" in output:
            raise RuntimeError(f"{self.label}: failed requests:\n{output}")
        words = {line.split()[0]: line.split()[1] for line in output.splitlines() if len(line.split()) >= 2}
        count = next(int(line.split()[0]) for line in output.splitlines() if " requests in " in line)
        return {"rate": float(words["Requests/sec:"]), "count": count,
                **{name: _microseconds(words[name]) for name in ("50%", "99%")}}  # fmt: skip


def run(server, path, connections, seconds):
    return Wrk(server, path, connections, seconds).result()
