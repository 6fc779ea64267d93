# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names of the orthanc module a script has in its source, and since when these exist.

Here:      a look at the syntax, without running anything.
Elsewhere: the names that are called while it is imported (recorder.py).

Names of the module are found behind `import orthanc` (also `as`) and in `from orthanc import`;
methods by their names, which nothing else is called by. What is asked for with hasattr() or
getattr() counts as a name that the script can do without, as does what is no younger.
"""

import ast


def number(version):
    """(1, 12, 6); what is no number is newer than all, as "mainline". Nothing is as old as it gets."""
    if not version:
        return (0, 0, 0)
    try:
        return tuple(int(part) for part in (version.split('.') + ['0', '0'])[:3])
    except ValueError:
        return (99, 0, 0)


class Names:
    """What the SDK of the bridge offers, by name: (since, deprecated)."""

    def __init__(self, sdk):
        self.sdk = sdk['sdk']
        self.module = {}
        self.methods = {}
        self.values = {}
        self.later = {name: number(since) for name, since in sdk.get('later', {}).items()}
        for item in sdk['functions']:
            name = item['name'].rpartition('.')
            table = self.methods if name[0] else self.module
            table[name[2]] = (number(item['since']), item['deprecated'])
            if item['alias_of']:
                self.methods.setdefault(item['alias_of'].rpartition('.')[2], table[name[2]])
        for item in sdk['classes'] + sdk['enumerations']:
            self.module[item['name']] = (number(item['since']), False)
        for item in sdk['enumerations']:
            self.values[item['name']] = {each['name']: number(each['since']) for each in item['values']}
        self.module['OrthancException'] = (number(''), False)

    def since(self, name):
        """When a name came, of the module or of a method; None for one that never did."""
        found = self.module.get(name) or self.methods.get(name)
        return found[0] if found else self.later.get(name)

    def unknown(self, name):
        since = self.later.get(name)
        if since is None:
            return 'does not exist'
        return 'needs Orthanc %s, and a bridge that was built with its SDK (this one: %s)' % (
            '.'.join(map(str, since)), self.sdk)


class Finder(ast.NodeVisitor):
    """Collects {name: lines} of one file."""

    def __init__(self, names):
        self.names = names
        self.modules = set()        # what `import orthanc` is called here
        self.imported = {}          # from orthanc import name as key
        self.used = {}
        self.guarded = set()

    def use(self, name, node):
        self.used.setdefault(name, set()).add(node.lineno)

    def visit_Import(self, node):
        for alias in node.names:
            if alias.name == 'orthanc':
                self.modules.add(alias.asname or 'orthanc')

    def visit_ImportFrom(self, node):
        if node.module == 'orthanc' and node.level == 0:
            for alias in node.names:
                if alias.name != '*':
                    self.imported[alias.asname or alias.name] = alias.name
                    self.use(alias.name, node)

    def visit_Call(self, node):
        if (isinstance(node.func, ast.Name) and node.func.id in ('hasattr', 'getattr') and len(node.args) > 1
                and isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str)):
            self.guarded.add(node.args[1].value)
        self.generic_visit(node)

    def visit_Attribute(self, node):
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id in self.modules:
            self.use(node.attr, node)
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) \
                and owner.value.id in self.modules and owner.attr in self.names.values:
            self.use('%s.%s' % (owner.attr, node.attr), node)
        elif isinstance(owner, ast.Name) and self.imported.get(owner.id) in self.names.values:
            self.use('%s.%s' % (self.imported[owner.id], node.attr), node)
        elif (node.attr in self.names.methods or node.attr in self.names.later) and isinstance(node.ctx, ast.Load):
            self.use('.' + node.attr, node)
        self.generic_visit(node)


def judge(names, version, name):
    """What is to be said about a name: (kind, text), or None. kind is missing or deprecated."""
    if name.startswith('.'):
        since, is_deprecated = names.methods.get(name[1:], (None, False))
    elif '.' in name:
        enumeration, _, value = name.partition('.')
        since, is_deprecated = names.values[enumeration].get(value), False
    else:
        since, is_deprecated = names.module.get(name, (None, False))
    if since is None:
        return ('missing', names.unknown(name.lstrip('.'))) if not name.startswith('__') else None
    if since > version:
        return 'missing', 'needs Orthanc %s' % '.'.join(map(str, since))
    return ('deprecated', 'is deprecated in the SDK') if is_deprecated else None


def look(names, version, path):
    """[(path, line, name, kind, text)...] for a file; kind may also be guarded."""
    with open(path, 'rb') as file:
        tree = ast.parse(file.read(), str(path))
    finder = Finder(names)
    for node in ast.walk(tree):     # before any use, wherever the import stands
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            finder.visit(node)
    finder.visit(tree)
    found = []
    known = max((names.since(name) or (0, 0, 0) for name in finder.guarded), default=(0, 0, 0))
    for name, lines in finder.used.items():
        said = judge(names, version, name)
        enumeration = name.partition('.')[0]
        if said is None or enumeration not in ('', name) and judge(names, version, enumeration) is not None:
            continue        # nothing, or it is said of the whole enumeration
        kind, text = said
        since = names.since(name.lstrip('.').partition('.')[0])
        if kind == 'missing' and (name.lstrip('.').rpartition('.')[2] in finder.guarded or since and version < since <= known):
            kind = 'guarded'
        found += [(str(path), line, name.lstrip('.'), kind, text) for line in sorted(lines)]
    return sorted(found, key=lambda item: item[:3])
