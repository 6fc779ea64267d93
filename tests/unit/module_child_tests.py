# SPDX-License-Identifier: GPL-3.0-or-later
"""The orthanc module in a process that no host has to do with: a spawned child, or any Python.

Here:      the extension module by itself.
Elsewhere: the built-in of a host (test_module.c).
"""

import os
import subprocess
import sys
import unittest

FOLDER = os.environ["OPB_MODULE_FOLDER"]


def run(code, version):
    environment = dict(os.environ, PYTHONPATH=FOLDER)
    environment.pop("ORTHANC_PYTHON_BRIDGE_NODE_VERSION", None)
    environment.pop("ORTHANC_PYTHON_BRIDGE_CREDENTIALS", None)
    if version:
        environment["ORTHANC_PYTHON_BRIDGE_NODE_VERSION"] = version
    done = subprocess.run([sys.executable, "-B", "-X", "dev", "-c", code], env=environment,
                          capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout.split()


class Child(unittest.TestCase):
    def names(self, version):
        return set(run("import orthanc; print(*dir(orthanc))", version))

    def test_names_follow_the_version_of_the_node(self):
        everything = self.names(None)
        self.assertEqual(everything, self.names("mainline"))
        self.assertEqual(everything, self.names("99.0.0"))
        self.assertLess(self.names("1.4.0"), everything)
        old = self.names("1.4.0")
        self.assertIn("RestApiGet", old)
        self.assertIn("ErrorCode", old)
        for name in ("GetTagName", "Peers", "CreateDicomInstance", "MetricsType"):
            self.assertNotIn(name, old)
            self.assertIn(name, everything)

    def test_calls_raise_and_registrations_are_ignored(self):
        run("""if True:
            import inspect, orthanc
            for name in dir(orthanc):
                function = getattr(orthanc, name)
                if not inspect.isbuiltin(function):
                    continue
                if name.startswith("Register") and "Code" not in name and "Tag" not in name:
                    for count in range(1, 5):
                        try:
                            assert function(*["/a"] * count) is None
                            break
                        except ValueError:
                            pass
                    else:
                        raise AssertionError(name)
                    continue
                try:
                    function()
                except RuntimeError as error:
                    assert "is not connected to an Orthanc server" in str(error), error
                else:
                    raise AssertionError(name)
            try:
                raise orthanc.OrthancException(1, "a")
            except orthanc.OrthancException:
                pass
            """, None)

    def test_a_spawned_pool_can_use_the_module(self):
        run("""if True:
            import multiprocessing, orthanc
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    assert pool.apply(getattr, (orthanc.ErrorCode, "PLUGIN")) == 1
            """, "1.10.1")


if __name__ == "__main__":
    unittest.main()
