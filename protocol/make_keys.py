#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the parsers' tables of keys out of the page that lists them for people.

    make_keys.py plugin|pool PAGE VERSION OUTPUT

Of each row of docs/configuration.md come the name, the type, the default and the limits of
a key; of the pool's also the option of the command line, and its line in --help. What a key
means is the business of the C code that has the field of this name: QueueTimeout (seconds)
is queue_timeout_ms. A row that says too little, or something that no parser knows, stops the
build with its line.
"""

import json
import re
import sys
import textwrap

SECONDS, NUMBER = 'seconds', 'number'
TEXT_OR_NONE = (str, type(None))

# type in the page: (type in C, what its default may be, how its field ends; None: it has none)
PLUGIN_TYPES = {
    'boolean': ('OPB_KEY_BOOL', (bool,), ''),
    NUMBER: ('OPB_KEY_NUMBER', (int,), ''),
    'MiB': ('OPB_KEY_NUMBER', (int,), '_mb'),
    SECONDS: ('OPB_KEY_SECONDS', (int, float), '_ms'),
    'string': ('OPB_KEY_TEXT', TEXT_OR_NONE, ''),
    'name': ('OPB_KEY_NAME', TEXT_OR_NONE, ''),
    'absolute path': ('OPB_KEY_PATH', TEXT_OR_NONE, ''),
    'URL path': ('OPB_KEY_ROUTE', (str,), ''),
    'path or paths': ('OPB_KEY_SCRIPT', (type(None),), None),
    'modules': ('OPB_KEY_MODULES', (list,), None),
    'order': ('OPB_KEY_RELOAD', (str,), '_replaces'),
    'filters': ('OPB_KEY_OPEN', (list,), None),
    'seconds or object': ('OPB_KEY_CALLS', (type(None),), None),
}
POOL_TYPES = {
    NUMBER: ('KEY_NUMBER', (int,), ''),
    SECONDS: ('KEY_SECONDS', (int, float), '_ms'),
    'string': ('KEY_TEXT', TEXT_OR_NONE, ''),
    'absolute path': ('KEY_PATH', TEXT_OR_NONE, ''),
    'socket path': ('KEY_SOCKET', TEXT_OR_NONE, ''),
    'strings': ('KEY_NAMES', (list,), ''),
    'absolute paths': ('KEY_PATHS', (type(None),), ''),
    'permissions': ('KEY_MODE', (type(None),), ''),
    'level': ('KEY_LEVEL', (str,), ''),
}
# {command: (types, structure of a key, structure with the fields, {table in C: chapter of the page})}
PARSERS = {
    'plugin': (PLUGIN_TYPES, 'opb_config_key', 'opb_config',
               {'top_keys': 'At the top of the configuration', 'section_keys': 'In the section `Python`'}),
    'pool': (POOL_TYPES, 'key', 'opb_pool_config', {'keys': 'The file of a shared pool'}),
}
COLUMNS = ['key', 'type', 'default', 'range', 'since', 'effect']
WITH_OPTION = COLUMNS[:1] + ['option'] + COLUMNS[1:]
HELP_INDENT, HELP_WIDTH = 25, 90


class PageError(Exception):
    """What is wrong with the page, and where."""

    def __init__(self, line, text):
        super().__init__(line, text)
        self.line, self.text = line, text


def cells_of(line):
    return [cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip()[1:-1])]


def read_rows(page, chapter):
    """[(line, {column: text})] of the first table of a chapter."""
    lines = page.splitlines()
    try:
        start = lines.index('## ' + chapter)
    except ValueError:
        raise PageError(0, 'there is no chapter "%s"' % chapter) from None
    while not lines[start].startswith('| key |'):
        start += 1
        if start == len(lines) or lines[start].startswith('## '):
            raise PageError(start, 'the chapter "%s" has no table of keys' % chapter)
    columns = cells_of(lines[start])
    if columns not in (COLUMNS, WITH_OPTION):
        raise PageError(start + 1, 'the columns must be %s' % ', '.join(COLUMNS))
    rows = []
    for i in range(start + 2, len(lines)):
        if not lines[i].startswith('|'):
            break
        cells = cells_of(lines[i])
        if len(cells) != len(columns):
            raise PageError(i + 1, 'there are %d columns, and must be %d' % (len(cells), len(columns)))
        rows.append((i + 1, dict(zip(columns, cells))))
    return rows


def code(text):
    """What is between backticks, or None if the cell begins otherwise."""
    found = re.match(r'`([^`]+)`', text)
    return found and found.group(1)


def read_default(text, allowed):
    """The value; None: there is none, or it depends on something else."""
    shown = code(text)
    value = json.loads(shown) if shown is not None and text == '`%s`' % shown else None
    if shown is None and text != 'none' and not text.startswith('['):
        raise ValueError('the default is "%s", and must be JSON between backticks, "none" or a link' % text)
    if type(value) not in allowed:
        raise ValueError('a key of this type cannot have the default %s' % text)
    return value


def read_range(text, kind, default):
    """(low, high) as they are written."""
    found = re.fullmatch(r'(?:0, or )?(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)', text)
    if (found is None) != (text == '') or (found is None and kind in (SECONDS, NUMBER, 'MiB')):
        raise ValueError('the range is "%s", and must be like "0.1 to 3600"' % text)
    if found is None:
        return '0', '0'
    low, high = found.groups()
    if not float(low) < float(high):
        raise ValueError('the range is empty')
    if isinstance(default, (int, float)) and not float(low) <= default <= float(high):
        raise ValueError('the default is out of the range')
    return low, high


def check_since(text, version):
    def numbers(dotted):
        return [int(number) for number in dotted.split('.')]
    if not re.fullmatch(r'\d+\.\d+', text) or numbers(text) > numbers(version):
        raise ValueError('"since" is "%s", and must be a version up to %s' % (text, version))


def field_of(name, ending):
    snake = re.sub(r'(?<!^)(?=[A-Z])', '_', re.sub('^Python', '', name)).lower()
    return snake + ending


def c_string(text):
    return 'NULL' if text is None else json.dumps(text, ensure_ascii=True)


def help_of(row, default):
    """The first sentence of the effect, without Markdown, and the default."""
    sentence = re.match(r'.*?(?=\.\s|\.$)', re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', row['effect'])).group(0)
    if row['default'] != 'none':
        sentence += ' (default: %s)' % re.sub('[`"]', '', row['default'])
    sentence = sentence[0].lower() + sentence[1:].replace('`', '').replace('"', '')
    return ('\n' + ' ' * HELP_INDENT).join(textwrap.wrap(sentence, HELP_WIDTH - HELP_INDENT))


def read_option(row, default):
    """[option, its value, its help] as C."""
    if row['option'] == '':
        return ['NULL', 'NULL', 'NULL']
    found = re.fullmatch(r'--([a-z-]+) ([A-Z]+)', code(row['option']) or '')
    if found is None:
        raise ValueError('the option is %s, and must be like `--socket PATH`' % row['option'])
    return [c_string(text) for text in (*found.groups(), help_of(row, default))]


def make_row(row, types, fields, version):
    """(the key as C, its name, its type, its upper limit)."""
    name = code(row['key'])
    if name is None or not re.fullmatch(r'[A-Z][A-Za-z]*', name):
        raise ValueError('the key is %s, and must be a word in backticks' % row['key'])
    kind = row['type']
    if kind not in types:
        raise ValueError('there is no type "%s"; there are %s' % (kind, ', '.join(types)))
    if row['effect'] == '':
        raise ValueError('the effect is missing')
    in_c, allowed, ending = types[kind]
    default = read_default(row['default'], allowed)
    if default is True:
        in_c = 'OPB_KEY_SWITCH'
    low, high = read_range(row['range'], kind, default)
    check_since(row['since'], version)
    field = '0' if ending is None else 'offsetof(struct %s, %s)' % (fields, field_of(name, ending))
    preset = c_string(None if default is None or default == [] else json.dumps(default))
    option = read_option(row, default) if 'option' in row else []
    return '    {%s},' % ', '.join([c_string(name), *option, in_c, field, low, high, preset]), name, kind, high


def make(parser, page, version):
    """The text of the C file."""
    types, structure, fields, tables = PARSERS[parser]
    out = ['/* Made from docs/configuration.md by protocol/make_keys.py: do not edit. */']
    limits = []
    for table, chapter in tables.items():
        names = []
        out.append('\nstatic const struct %s %s[] = {' % (structure, table))
        for line, row in read_rows(page, chapter):
            try:
                text, name, kind, high = make_row(row, types, fields, version)
                if name in names:
                    raise ValueError('the key %s is there twice' % name)
            except ValueError as e:
                raise PageError(line, str(e)) from None
            names.append(name)
            out.append(text)
            if kind == NUMBER:
                limits.append('#define OPB_%s_HIGH %su' % (field_of(name, '').upper(), high))
        out.append('};')
    return '\n'.join(out + [''] + limits) + '\n'


def main(parser, path, version, output):
    with open(path, encoding='utf-8') as f:
        page = f.read()
    try:
        text = make(parser, page, version)
    except PageError as e:
        sys.exit('%s:%d: %s' % (path, e.line, e.text))
    with open(output, 'w', encoding='utf-8') as f:
        f.write(text)


if __name__ == '__main__':
    main(*sys.argv[1:])
