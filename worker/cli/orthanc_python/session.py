# SPDX-License-Identifier: GPL-3.0-or-later
"""The prompt of a console, or a piece of code instead: session.py MODULE_FOLDER PID SCRIPT VERSION [CODE]

Run by console.py, in the Python that the module was built for, with the credentials in its
environment. It does not import the package, which is for any Python.
"""

import ast
import code
import sys
import traceback

BANNER = """\
Python {python}, attached to Orthanc {version} (host {pid}, {script}).
This process is not the script: it has a copy of nothing, and gets no callbacks. Example:
>>> orthanc.RestApiGet('/statistics')"""
DONE, FAILED, USAGE, NO_ANSWER = range(4)


def run(text, name, namespace):
    """As the prompt does: the value is shown, if the last statement is an expression."""
    try:
        parsed = compile(text, name, 'exec', ast.PyCF_ONLY_AST)
        last = parsed.body.pop() if parsed.body and isinstance(parsed.body[-1], ast.Expr) else None
        exec(compile(parsed, name, 'exec'), namespace)
        if last is not None:
            namespace['_'] = eval(compile(ast.Expression(last.value), name, 'eval'), namespace)
            if namespace['_'] is not None:
                print(repr(namespace['_']))
    except SystemExit:
        raise
    except BaseException:   # pylint: disable=broad-exception-caught
        kind, error, where = sys.exc_info()
        traceback.print_exception(kind, error, where.tb_next)
        return FAILED
    return DONE


def prompt(namespace, banner):
    try:
        import readline
        import rlcompleter
        readline.set_completer(rlcompleter.Completer(namespace).complete)
        readline.parse_and_bind('tab: complete')
    except ImportError:
        pass        # without editing, then
    code.interact(banner, local=namespace, exitmsg='')
    return DONE


def main(folder, pid, script, version, *texts):
    sys.path.append(folder)
    import orthanc
    try:
        orthanc.GetOrthancPath()
    except RuntimeError as error:
        print('orthanc-python: %s' % error, file=sys.stderr)
        return NO_ANSWER
    namespace = {'__name__': '__console__', '__doc__': None, 'orthanc': orthanc}
    sys.argv = ['']
    if texts:
        return run(texts[0], '<command>', namespace)
    if sys.stdin is None:
        print('orthanc-python: The standard input is closed: give the code with -c', file=sys.stderr)
        return USAGE
    if not sys.stdin.isatty():
        return run(sys.stdin.read(), '<stdin>', namespace)
    return prompt(namespace, BANNER.format(python=sys.version.split()[0], version=version, pid=pid, script=script))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
