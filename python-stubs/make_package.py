# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays out the package orthanc-stubs as an installation has it, and once more for MYPYPATH.

    make_package.py --model model.json --stubs __init__.pyi --version BRIDGE OUTPUT_DIR

OUTPUT_DIR/package/   orthanc-stubs, and its metadata, by which pip and importlib.metadata know
                      the version: that of the SDK
OUTPUT_DIR/orthanc/   the same stubs: MYPYPATH does not look for "-stubs"

Equal input gives equal bytes.
"""

import argparse
import json
import pathlib
import shutil
import sys

METADATA = """Metadata-Version: 2.1
Name: orthanc-stubs
Version: {version}
Summary: Types of the module orthanc, for editors and type checkers of scripts in Orthanc
License: GPL-3.0-or-later
Classifier: Typing :: Stubs Only
Requires-Python: >=3.10

Made by the Orthanc Python bridge {bridge} from the header of the Orthanc SDK {version}.
"""


def main(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', type=pathlib.Path, required=True)
    parser.add_argument('--stubs', type=pathlib.Path, required=True)
    parser.add_argument('--version', required=True, help='of the bridge')
    parser.add_argument('output', type=pathlib.Path)
    arguments = parser.parse_args(words)
    version = json.loads(arguments.model.read_text(encoding='utf-8'))['sdk']
    package = arguments.output / 'package'
    shutil.rmtree(package, ignore_errors=True)      # that of another SDK
    information = package / ('orthanc_stubs-%s.dist-info' % version)
    texts = {
        package / 'orthanc-stubs' / '__init__.pyi': arguments.stubs.read_text(encoding='utf-8'),
        package / 'orthanc-stubs' / 'py.typed': '',
        information / 'METADATA': METADATA.format(version=version, bridge=arguments.version),
        information / 'INSTALLER': 'cmake\n',
    }
    names = [*texts, information / 'RECORD']
    texts[information / 'RECORD'] = ''.join('%s,,\n' % path.relative_to(package) for path in names)
    texts[arguments.output / 'orthanc' / '__init__.pyi'] = texts[package / 'orthanc-stubs' / '__init__.pyi']
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
