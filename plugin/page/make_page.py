#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the status page together, as C: make_page.py HTML CSS JS... OUTPUT.

The page is one file without anything from elsewhere, and names by their hashes the one
style and the one script that a browser may use (Content-Security-Policy).
"""

import base64
import hashlib
import sys

POLICY = ("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'self'")
LINE = 16


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def hash_of(text):
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def put(html, mark, text):
    """Where the mark is, which must be there once. The text must not end its element."""
    if html.count(mark) != 1 or '</' in text or '<!--' in text:
        sys.exit('make_page: %s, or what goes there, is not as expected' % mark)
    return html.replace(mark, text)


def as_c(name, data):
    lines = [', '.join('0x%02x' % byte for byte in data[i:i + LINE]) for i in range(0, len(data), LINE)]
    return 'const unsigned char %s[] = {\n    %s};\n' % (name, ',\n    '.join(lines))


def main(html_path, css_path, *others):
    script_paths, output = others[:-1], others[-1]
    style = '\n' + read(css_path)
    script = '\n"use strict";\n' + ''.join(read(path) for path in script_paths)
    html = put(put(read(html_path), '@style@', style), '@script@', script)
    policy = POLICY % (hash_of(script), hash_of(style))
    text = ('/* Made by plugin/page/make_page.py: do not edit. */\n'
            '#include "plugin/page.h"\n\n'
            'const char opb_page_policy[] =\n    "%s";\n'
            'const unsigned int opb_page_bytes = %du;\n' % (policy, len(html.encode())) +
            as_c('opb_page', html.encode()))
    with open(output, 'w', encoding='utf-8') as f:
        f.write(text)


if __name__ == '__main__':
    main(*sys.argv[1:])
