/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/prelude.c - the little Python that runs before the script
 *
 * Here:      `fork` as the start method of multiprocessing where the script chooses none,
 *            the memory usage lines, what a forked host must not share with others,
 *            what a child that is forked in a callback must not take along.
 * Nothing here imports a module of the standard library that a script may be named after,
 * and nothing is left in __main__.
 */
#include "host.h"

/* Python 3.14 made forkserver the default. multiprocessing is changed when it is first
 * imported, and set_start_method() of the script still works. */
#define FORK_SINCE 0x030E0000

static const char fork_source[] =
    "import sys\n"
    "class ForkByDefault:\n"
    "    @classmethod\n"
    "    def find_spec(cls, name, path=None, target=None):\n"
    "        if name != 'multiprocessing.context':\n"
    "            return None\n"
    "        sys.meta_path.remove(cls)\n"
    "        for finder in sys.meta_path:\n"
    "            spec = finder.find_spec(name, path, target)\n"
    "            if spec is not None:\n"
    "                cls.wrap(spec.loader)\n"
    "                return spec\n"
    "        return None\n"
    "    @staticmethod\n"
    "    def wrap(loader):\n"
    "        execute = loader.exec_module\n"
    "        def exec_module(module):\n"
    "            del loader.exec_module\n"
    "            execute(module)\n"
    "            try:\n"
    "                fork = module._concrete_contexts['fork']\n"
    "                module._default_context._default_context = fork\n"
    "            except (AttributeError, KeyError):\n"
    "                sys.stderr.write('orthanc-python-host: this Python does not let the "
    "'\n"
    "                    'start method of multiprocessing be fork by default; call '\n"
    "                    'multiprocessing.set_start_method(\"fork\") in the script\\n')\n"
    "        loader.exec_module = exec_module\n"
    "sys.meta_path.insert(0, ForkByDefault)\n";

static const char memory_source[] =
    "import _thread, _tracemalloc, posix, time\n"
    "def report():\n"
    "    while True:\n"
    "        time.sleep(1)\n"
    "        used = _tracemalloc.get_traced_memory()[0] / 1048576\n"
    "        posix.write(1, b'Python memory usage: %.3fMB\\n' % used)\n"
    "_tracemalloc.start()\n"
    "_thread.start_new_thread(report, ())\n";

/* What a module like random does for children by os.register_at_fork(). Here it is done for
 * hosts only: children of the script find what they always did. */
static const char reseed_source[] =
    "import sys, posix\n"
    "module = sys.modules.get('numpy.random')\n"
    "if module is not None:\n"
    "    module.seed()\n"
    "module = sys.modules.get('threading')\n"
    "if module is not None and hasattr(module.Thread, '_set_native_id'):\n"
    "    module.main_thread()._set_native_id()\n"
    "module = sys.modules.get('multiprocessing.process')\n"
    "if module is not None:\n"
    "    module.current_process().authkey = posix.urandom(32)\n";

/* Callbacks run on threads that are not of threading, which makes a stand-in for one that
 * is asked for. A child that is forked there takes it for its main thread, and Python 3.11
 * fails at the end of that, after all has been done. Without it the child gets a main
 * thread. */
static const char stand_in_source[] =
    "import sys, _thread, posix\n"
    "def forget():\n"
    "    module = sys.modules.get('threading')\n"
    "    known = getattr(module, '_active', {})\n"
    "    thread = _thread.get_ident()\n"
    "    if type(known.get(thread)) is getattr(module, '_DummyThread', None):\n"
    "        known.pop(thread, None)\n"
    "posix.register_at_fork(before=forget)\n";

static const char thaw_source[] = "import gc\n"
                                  "gc.unfreeze()\n";

static enum opb_status
run(const char *source)
{
    PyObject *globals = PyDict_New();
    PyObject *code = NULL;
    PyObject *result = NULL;

    if (globals != NULL &&
        PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) == 0) {
        code = Py_CompileString(source, "<orthanc-python-host>", Py_file_input);
    }
    if (code != NULL) {
        result = PyEval_EvalCode(code, globals, globals);
    }
    Py_XDECREF(code);
    Py_XDECREF(globals);
    if (result == NULL) {
        return OPB_SYSTEM;
    }
    Py_DECREF(result);
    return OPB_OK;
}

enum opb_status
opb_prelude_begin(void)
{
    static bool has_begun;
    enum opb_status status = OPB_OK;

    if (PY_VERSION_HEX >= FORK_SINCE && !has_begun) {
        status = run(fork_source);
        has_begun = status == OPB_OK;
    }
    return status;
}

void
opb_prelude_reseed(void)
{
    if (run(reseed_source) != OPB_OK) {
        PyErr_WriteUnraisable(NULL); /* of a module in another one's name, say */
    }
}

void
opb_prelude_thaw(void)
{
    if (run(thaw_source) != OPB_OK) {
        PyErr_Clear(); /* some garbage is not collected at the end */
    }
}

enum opb_status
opb_prelude_run(const struct opb_node_info *info)
{
    enum opb_status status = opb_prelude_begin();

    if (status == OPB_OK) {
        status = run(stand_in_source);
    }
    if (status == OPB_OK && info->memory_usage) {
        status = run(memory_source);
    }
    return status;
}
