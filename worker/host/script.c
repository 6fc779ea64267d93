/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/script.c - sys.path, and the import of the script
 *
 * Here:      the script's directory first, the orthanc module's last; refusing a script
 *            that Python would never run because another module has its name.
 * Elsewhere: what the script may expect (docs/scripts.md).
 */
#include "host.h"
#include "virtual_env.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Splits "/dir/stem.py"; new strings, or false with an exception. */
static bool
split_path(const char *script, PyObject **directory, PyObject **stem)
{
    const char *slash = strrchr(script, '/');
    const char *dot = strrchr(slash + 1, '.');
    size_t stem_bytes = dot != NULL ? (size_t)(dot - slash - 1) : strlen(slash + 1);
    size_t directory_bytes = slash == script ? 1 : (size_t)(slash - script);

    *stem = NULL;
    *directory = PyUnicode_DecodeFSDefaultAndSize(script, (Py_ssize_t)directory_bytes);
    if (*directory == NULL) {
        return false;
    }
    *stem = PyUnicode_DecodeFSDefaultAndSize(slash + 1, (Py_ssize_t)stem_bytes);
    if (*stem == NULL) {
        Py_CLEAR(*directory);
        return false;
    }
    return true;
}

/* Where the extension module is: in a folder beside this program, as installed, beside it,
 * or beside its folder in a build tree. False if it is in none. */
static bool
find_module_directory(char out[PATH_MAX])
{
    static const char *const places[] = {"module", ".", "../module"};
    char program[PATH_MAX];
    char name[2 * PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof(program) - 1);
    char *slash;

    if (bytes <= 0) {
        return false;
    }
    program[bytes] = '\0';
    slash = strrchr(program, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s/%s/%s", program, places[i], OPB_MODULE_FILE);
        if (access(name, R_OK) == 0) {
            (void)snprintf(name, sizeof(name), "%s/%s", program, places[i]);
            return realpath(name, out) != NULL;
        }
    }
    return false;
}

/* The end of PYTHONPATH, for programs that the script starts: this Python has read it. */
static int
export_module_directory(PyObject *directory)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *variables = os == NULL ? NULL : PyObject_GetAttrString(os, "environ");
    PyObject *value = variables == NULL
                          ? NULL
                          : PyObject_CallMethod(variables, "get", "ss", "PYTHONPATH", "");
    PyObject *longer = NULL;
    int failed = -1;

    if (value != NULL) {
        longer = PyObject_IsTrue(value) == 1
                     ? PyUnicode_FromFormat("%S:%U", value, directory)
                     : Py_NewRef(directory);
    }
    if (longer != NULL) {
        failed = PyMapping_SetItemString(variables, "PYTHONPATH", longer);
    }
    Py_XDECREF(longer);
    Py_XDECREF(value);
    Py_XDECREF(variables);
    Py_XDECREF(os);
    return failed;
}

/* Children that start afresh find the orthanc module there: those of multiprocessing by
 * their parent's sys.path, others by PYTHONPATH. */
static int
append_module_directory(PyObject *path)
{
    char directory[PATH_MAX];
    PyObject *item;
    int failed;

    if (!find_module_directory(directory)) {
        opb_log_to_node("LogWarning",
                        "The file " OPB_MODULE_FILE
                        " is missing in the folder module beside orthanc-python-host: "
                        "processes that the script starts cannot import orthanc");
        return 0;
    }
    item = PyUnicode_DecodeFSDefault(directory);
    if (item == NULL) {
        return -1;
    }
    failed = PyList_Append(path, item);
    if (failed == 0) {
        failed = export_module_directory(item);
    }
    Py_DECREF(item);
    return failed;
}

static bool
prepare_path(PyObject *directory)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */

    if (path == NULL || !PyList_Check(path)) {
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
        return false;
    }
    return append_module_directory(path) == 0 && PyList_Insert(path, 0, directory) == 0;
}

/* 1 if the two names lead to one file. */
static int
is_same_file(PyObject *origin, const char *script)
{
    PyObject *bytes = NULL;
    struct stat one;
    struct stat two;
    int same = 0;

    if (!PyUnicode_Check(origin) || !PyUnicode_FSConverter(origin, &bytes)) {
        PyErr_Clear();
        return 0;
    }
    if (stat(PyBytes_AS_STRING(bytes), &one) == 0 && stat(script, &two) == 0) {
        same = one.st_dev == two.st_dev && one.st_ino == two.st_ino;
    }
    Py_DECREF(bytes);
    return same;
}

/* New reference to the origin of what "import stem" would load; None if there is nothing,
 * NULL with an exception. Asks the finders as the import system does. */
static PyObject *
find_origin(PyObject *stem)
{
    PyObject *finders = PySys_GetObject("meta_path"); /* borrowed */

    if (finders == NULL || !PyList_Check(finders)) {
        Py_RETURN_NONE;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(finders); i++) {
        PyObject *spec = PyObject_CallMethod(PyList_GET_ITEM(finders, i), "find_spec", "OO",
                                             stem, Py_None);
        PyObject *origin;

        if (spec == NULL) {
            return NULL;
        }
        if (spec != Py_None) {
            origin = PyObject_GetAttrString(spec, "origin");
            Py_DECREF(spec);
            return origin;
        }
        Py_DECREF(spec);
    }
    Py_RETURN_NONE;
}

static void
refuse_name(const char *script, PyObject *stem, PyObject *origin, char *text,
            size_t capacity)
{
    const char *name = PyUnicode_AsUTF8(stem);
    const char *where = NULL;

    if (origin != NULL && PyUnicode_Check(origin)) {
        where = PyUnicode_AsUTF8(origin);
    }
    PyErr_Clear();
    (void)snprintf(
        text, capacity,
        "The Python script %s cannot be used: its name is that of another module "
        "of Python, \"%s\" (%s), which would be imported instead. Rename the script",
        script, name != NULL ? name : "?", where != NULL ? where : "already imported");
}

/* Sets *ours if the import will run the script, or fail by itself. False: exception. */
static bool
check_name(const char *script, PyObject *stem, bool *ours, char *text, size_t capacity)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *origin;
    int loaded = PyDict_Contains(modules, stem);

    *ours = false;
    if (loaded < 0) {
        return false;
    }
    if (loaded == 1) {
        refuse_name(script, stem, NULL, text, capacity);
        return true;
    }
    if (PyUnicode_FindChar(stem, '.', 0, PyUnicode_GET_LENGTH(stem), 1) >= 0) {
        *ours = true; /* fails: No module named ... */
        return true;
    }
    origin = find_origin(stem);
    if (origin == NULL) {
        return false;
    }
    if (origin == Py_None || is_same_file(origin, script)) {
        *ours = true;
    }
    else {
        refuse_name(script, stem, origin, text, capacity);
    }
    Py_DECREF(origin);
    return true;
}

static void
warn_without_executable(void)
{
    char text[PATH_MAX + 200];

    if (access(opb_virtual_env_program(), X_OK) == 0) {
        return;
    }
    (void)snprintf(
        text, sizeof(text),
        "The Python program %s is missing: multiprocessing by spawn, and programs "
        "that the script starts with sys.executable, will not work",
        opb_virtual_env_program());
    opb_log_to_node("LogWarning", text);
}

/* threading takes the thread that imports it first for the main one, and Python's end would
 * wait for that thread: it must not be a lane's. */
static void
own_threading(void)
{
    PyObject *threading = PyImport_ImportModule("threading");

    if (threading == NULL) {
        PyErr_Clear(); /* a broken copy beside the script: its users will be told */
    }
    Py_XDECREF(threading);
}

bool
opb_script_import(const struct opb_node_info *info, enum opb_fault *fault, char *text,
                  size_t capacity)
{
    PyObject *directory = NULL;
    PyObject *stem = NULL;
    PyObject *module = NULL;
    bool is_ready;
    bool ours = true;

    text[0] = '\0';
    *fault = OPB_FAULT_RAISED;
    warn_without_executable();
    opb_stacks_begin();
    is_ready = split_path(info->script, &directory, &stem) && prepare_path(directory) &&
               opb_prelude_run(info) == OPB_OK && opb_signals_settle() == OPB_OK;
    if (is_ready) {
        opb_signals_unblock(); /* what the script starts inherits the mask */
    }
    if (is_ready && check_name(info->script, stem, &ours, text, capacity) && ours) {
        module = PyImport_Import(stem);
    }
    opb_host_check_child();
    if (module == NULL && !ours) {
        *fault = OPB_FAULT_RUNTIME;
    }
    else if (module == NULL || opb_signals_settle() != OPB_OK) {
        opb_report_exception(
            "Error during the installation of the Python script, traceback:\n", text,
            capacity);
        Py_CLEAR(module);
    }
    Py_XDECREF(stem);
    Py_XDECREF(directory);
    if (module == NULL) {
        return false;
    }
    own_threading();
    Py_DECREF(module); /* sys.modules has it */
    return true;
}
