# SPDX-License-Identifier: GPL-3.0-or-later
"""protocol/make_keys.py: what it makes of the real page, and the pages that it refuses."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / 'protocol'))

from make_keys import PageError, make  # noqa: E402

PAGE = (ROOT / 'docs' / 'configuration.md').read_text(encoding='utf-8')
ROW = next(line for line in PAGE.splitlines() if line.startswith('| `QueueTimeout` |'))


def plugin(page):
    return make('plugin', page, '0.1.0')


class MakeKeys(unittest.TestCase):
    def changed(self, old, new):
        """The page with another row for QueueTimeout."""
        self.assertEqual(ROW.count(old), 1, (old, ROW))
        return PAGE.replace(ROW, ROW.replace(old, new))

    def assert_refused(self, page, text, parser='plugin'):
        with self.assertRaises(PageError) as caught:
            make(parser, page, '0.1.0')
        self.assertIn(text, caught.exception.text)
        return caught.exception.line

    def test_a_row_becomes_a_key(self):
        self.assertIn('{"QueueTimeout", OPB_KEY_SECONDS, offsetof(struct opb_config, queue_timeout_ms), '
                      '0.1, 3600, "10"},\n', plugin(PAGE))
        self.assertIn('"SharedMemory", OPB_KEY_SWITCH, ', plugin(PAGE))
        self.assertIn('"AdminPath", OPB_KEY_ROUTE, offsetof(struct opb_config, admin_path), 0, 0, "\\"/python-bridge\\""',
                      plugin(PAGE))
        self.assertIn('#define OPB_WORKERS_HIGH 64u\n', plugin(PAGE))

    def test_a_row_becomes_an_option_with_its_help(self):
        self.assertIn('{"MaxHosts", "max-hosts", "N", "how many hosts all servers together may have (default: 0)", '
                      'KEY_NUMBER, offsetof(struct opb_pool_config, max_hosts), 0, 10000, "0"},\n',
                      make('pool', PAGE, '0.1.0'))

    def test_every_row_becomes_a_key(self):
        rows = re.findall(r'^\| `[A-Z]\w+` \|.*\| 0\.1 \|', PAGE, re.M)
        keys = re.findall(r'^    \{"', plugin(PAGE) + make('pool', PAGE, '0.1.0'), re.M)
        self.assertGreater(len(keys), 40)
        self.assertEqual(len(keys), len(rows))

    def test_another_default_range_or_type_is_another_key(self):
        self.assertIn('queue_timeout_ms), 0.1, 3600, "12.5"}', plugin(self.changed('`10`', '`12.5`')))
        self.assertIn('queue_timeout_ms), 1, 60, "10"}', plugin(self.changed('0.1 to 3600', '1 to 60')))
        self.assertIn('{"QueueTimeout", OPB_KEY_NUMBER, offsetof(struct opb_config, queue_timeout)',
                      plugin(self.changed('seconds', 'number')))

    def test_what_is_wrong_with_a_row_is_said_with_its_line(self):
        line = 1 + PAGE.splitlines().index(ROW)
        for old, new, said in [
                ('seconds', 'second', 'there is no type "second"'),
                ('`10`', '10', 'JSON between backticks'),
                ('`10`', '`"10"`', 'cannot have the default'),
                ('`10`', 'none', 'cannot have the default'),
                ('`10`', '`4000`', 'out of the range'),
                ('0.1 to 3600', '', 'the range is ""'),
                ('0.1 to 3600', '5 to 1', 'the range is empty'),
                ('| 0.1 |', '| 0.2 |', 'a version up to 0.1.0'),
                ('| 0.1 |', '| soon |', '"since" is "soon"'),
                ('| 0.1 |', '|', 'there are 5 columns, and must be 6'),
                ('`QueueTimeout`', 'QueueTimeout', 'a word in backticks'),
                ('`QueueTimeout`', '`CallTimeout`', 'the key CallTimeout is there twice')]:
            with self.subTest(new=new):
                refused_at = self.assert_refused(self.changed(old, new), said)
                # of two rows with one key the second one is told
                self.assertEqual(refused_at, line + 1 if 'twice' in said else line)
        self.assert_refused(PAGE.replace(ROW, re.sub(r'[^|]*\|$', ' |', ROW)), 'the effect is missing')

    def test_a_page_without_its_tables_is_refused(self):
        self.assert_refused(PAGE.replace('## In the section', '## Of the section'), 'there is no chapter')
        self.assert_refused(PAGE.replace('| key | type |', '| name | type |'), 'has no table of keys')
        self.assert_refused(PAGE.replace('| since |', '| from |'), 'the columns must be')
        self.assert_refused(PAGE.replace('`--socket PATH`', '`socket`'), 'must be like `--socket PATH`', 'pool')

    def test_the_program_names_page_and_line(self):
        with tempfile.TemporaryDirectory() as folder:
            page, output = Path(folder, 'page.md'), Path(folder, 'keys.h')
            page.write_text(self.changed('seconds', 'moments'), encoding='utf-8')
            done = subprocess.run([sys.executable, ROOT / 'protocol' / 'make_keys.py', 'plugin', page, '0.1.0', output],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r'^%s:\d+: there is no type "moments"' % re.escape(str(page)))
            self.assertFalse(output.exists())


if __name__ == '__main__':
    unittest.main()
