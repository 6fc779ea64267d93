/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/interpreter.c - a Python as the official plugin has it, and a real one
 *
 * Here:      the configuration of the interpreter, whether it may be used, and bytes
 *            objects as memory of segments while it may.
 * Elsewhere: sys.path and the script (script.c), signals (signals.c).
 * OPB_PYTHON_EXECUTABLE is the python program that this host was built for: children of
 * the script are started with it, or with that of its virtual environment.
 */
#include "host.h"
#include "virtual_env.h"

#include <stdatomic.h>
#include <stdio.h>

static _Atomic(enum opb_interpreter_phase) phase = OPB_INTERPRETER_NONE;
static PyThreadState *paused; /* of the main thread */
static bool was_forked;

enum opb_interpreter_phase
opb_interpreter_phase(void)
{
    return atomic_load(&phase);
}

void
opb_interpreter_set_phase(enum opb_interpreter_phase next)
{
    atomic_store(&phase, next);
}

static bool
has_python(void)
{
    enum opb_interpreter_phase now = opb_interpreter_phase();

    return now == OPB_INTERPRETER_RUNNING || now == OPB_INTERPRETER_ENDING;
}

static void *
allocate_segment(void *context, size_t bytes, void **owner)
{
    (void)context;
    if (!has_python()) {
        *owner = NULL;
        return NULL; /* a call before Load, or after Finalize: refused for want of memory */
    }
    return opb_segment_pybytes.allocate(opb_segment_pybytes.context, bytes, owner);
}

static void
release_segment(void *context, void *owner)
{
    (void)context;
    if (has_python()) {
        opb_segment_pybytes.release(opb_segment_pybytes.context, owner);
    }
}

const struct opb_segment_memory opb_host_segments = {
    .allocate = allocate_segment,
    .release = release_segment,
    .context = NULL,
};

void
opb_interpreter_pause(void)
{
    was_forked = true;
    paused = PyEval_SaveThread();
}

bool
opb_interpreter_was_forked(void)
{
    return was_forked;
}

static PyStatus
preinitialize(void)
{
    PyPreConfig config;

    PyPreConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.utf8_mode = 1; /* whatever the locale and PYTHONUTF8 say */
    config.coerce_c_locale = 0;
    return Py_PreInitialize(&config);
}

static PyStatus
configure(PyConfig *config, bool verbose)
{
    PyStatus status;
    wchar_t empty[] = L"";
    wchar_t *argv[] = {empty};

    config->parse_argv = 0;
    config->install_signal_handlers = 0; /* signals.c */
    config->buffered_stdio = 0;          /* print() is seen at once */
    config->inspect = 1;
    config->verbose = verbose ? 1 : 0;
    status = PyConfig_SetArgv(config, 1, argv);
    if (PyStatus_Exception(status)) {
        return status;
    }
    status =
        PyConfig_SetBytesString(config, &config->program_name, opb_virtual_env_program());
    if (PyStatus_Exception(status)) {
        return status;
    }
    return PyConfig_SetBytesString(config, &config->executable, opb_virtual_env_program());
}

enum opb_status
opb_interpreter_start(bool verbose, char *text, size_t capacity)
{
    PyConfig config;
    PyStatus status;

    if (paused != NULL) {
        PyEval_RestoreThread(paused);
        paused = NULL;
        return OPB_OK;
    }
    if (opb_virtual_env_check(text, capacity) != OPB_OK) {
        return OPB_REFUSED;
    }
    status = preinitialize();
    if (PyStatus_Exception(status)) {
        goto failed;
    }
    if (PyImport_AppendInittab("orthanc", PyInit_orthanc) != 0) {
        status = PyStatus_NoMemory();
        goto failed;
    }
    PyConfig_InitPythonConfig(&config);
    status = configure(&config, verbose);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (!PyStatus_Exception(status)) {
        return OPB_OK;
    }

failed:
    /* The message lives in the status, which is static text or nothing. */
    (void)snprintf(
        text, capacity,
        "Python %s cannot be started (%s): check PYTHONHOME and PYTHONPATH in the "
        "environment of Orthanc, and the Python installation of %s",
        PY_VERSION, status.err_msg != NULL ? status.err_msg : "no reason given",
        opb_virtual_env_program());
    return OPB_SYSTEM;
}
