/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/script.c - sys.path, and the import of the scripts
 *
 * Here:      the script's directory first, the orthanc module's last; refusing a script
 *            that Python would never run because another module has its name. Several
 *            scripts are imported one after the other, each with its directory first.
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

/* New reference, or NULL with an exception. */
static PyObject *
get_path(void)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */

    if (path == NULL || !PyList_Check(path)) {
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
        return NULL;
    }
    return Py_NewRef(path);
}

/* Puts a script's directory first, and not twice if an earlier script has the same. */
static bool
put_first(PyObject *directory, uint32_t script)
{
    PyObject *path = get_path();
    bool is_done = path != NULL;
    Py_ssize_t index;

    if (is_done && script > 0) {
        index = PySequence_Index(path, directory);
        if (index < 0) {
            PyErr_Clear(); /* not there */
        }
        else {
            is_done = PySequence_DelItem(path, index) == 0;
        }
    }
    is_done = is_done && PyList_Insert(path, 0, directory) == 0;
    Py_XDECREF(path);
    return is_done;
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

/* New reference to what a finder says of it; None if nothing, NULL with an exception. One
 * of before PEP 451 has no find_spec, and is passed over by the import system, too. */
static PyObject *
ask_finder(PyObject *finder, PyObject *stem)
{
    PyObject *find_spec = PyObject_GetAttrString(finder, "find_spec");
    PyObject *spec;

    if (find_spec == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    if (find_spec == NULL) {
        return NULL;
    }
    spec = PyObject_CallFunctionObjArgs(find_spec, stem, Py_None, Py_None, NULL);
    Py_DECREF(find_spec);
    return spec;
}

/* New reference to the origin of what "import stem" would load; None if there is nothing,
 * NULL with an exception. Asks the finders as the import system does. */
static PyObject *
find_origin(PyObject *stem)
{
    PyObject *finders = PySys_GetObject("meta_path"); /* borrowed */
    PyObject *spec = Py_NewRef(Py_None);
    PyObject *origin = NULL;

    finders = finders != NULL ? PySequence_Tuple(finders) : PyTuple_New(0);
    for (Py_ssize_t i = 0;
         finders != NULL && spec == Py_None && i < PyTuple_GET_SIZE(finders); i++) {
        Py_SETREF(spec, ask_finder(PyTuple_GET_ITEM(finders, i), stem));
    }
    if (finders != NULL && spec != NULL) {
        origin =
            spec != Py_None ? PyObject_GetAttrString(spec, "origin") : Py_NewRef(Py_None);
    }
    Py_XDECREF(spec);
    Py_XDECREF(finders);
    return origin;
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

/* Whether another script has imported this one before its turn. */
static bool
is_imported(PyObject *stem, const char *script)
{
    PyObject *module =
        PyDict_GetItemWithError(PyImport_GetModuleDict(), stem); /* borrowed */
    PyObject *file = NULL;

    if (module != NULL && PyModule_Check(module)) {
        file = PyDict_GetItemString(PyModule_GetDict(module), "__file__"); /* borrowed */
    }
    PyErr_Clear();
    return file != NULL && is_same_file(file, script) == 1;
}

/* Sets *ours if the import will run the script, or fail by itself. False: exception. */
static bool
check_name(const char *script, PyObject *stem, bool is_first, bool *ours, char *text,
           size_t capacity)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *origin;
    int loaded = PyDict_Contains(modules, stem);

    *ours = false;
    if (loaded < 0) {
        return false;
    }
    if (loaded == 1 && !is_first && is_imported(stem, script)) {
        *ours = true; /* it has run */
        return true;
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

/* False with an exception, or without: then text says why it cannot be imported. */
static bool
import(const char *script, uint32_t index, char *text, size_t capacity)
{
    PyObject *directory = NULL;
    PyObject *stem = NULL;
    PyObject *module = NULL;
    bool ours = false;

    if (split_path(script, &directory, &stem) &&
        (index == 0 || put_first(directory, index)) &&
        check_name(script, stem, index == 0, &ours, text, capacity) && ours) {
        module = PyImport_Import(stem);
    }
    Py_XDECREF(stem);
    Py_XDECREF(directory);
    Py_XDECREF(module); /* sys.modules has it */
    return module != NULL;
}

/* Whether no script has been imported before the first: a module that was preloaded has not
 * registered anything. False with an exception, or text. */
static bool
are_new(const struct opb_node_info *info, char *text, size_t capacity)
{
    bool result = true;

    for (uint32_t i = 0; i < info->script_count && result; i++) {
        PyObject *directory = NULL;
        PyObject *stem = NULL;
        int loaded = -1;

        if (split_path(info->scripts[i], &directory, &stem)) {
            loaded = PyDict_Contains(PyImport_GetModuleDict(), stem);
        }
        if (loaded == 1) {
            refuse_name(info->scripts[i], stem, NULL, text, capacity);
        }
        result = loaded == 0;
        Py_XDECREF(stem);
        Py_XDECREF(directory);
    }
    return result;
}

/* What is done once, before the first script. */
static bool
prepare(const struct opb_node_info *info)
{
    PyObject *path = get_path(); /* borrowed */
    PyObject *directory = NULL;
    PyObject *stem = NULL;
    bool is_ready;

    is_ready = path != NULL && split_path(info->scripts[0], &directory, &stem) &&
               append_module_directory(path) == 0 && put_first(directory, 0) &&
               opb_prelude_run(info) == OPB_OK && opb_signals_settle() == OPB_OK;
    if (is_ready) {
        opb_signals_unblock(); /* what the script starts inherits the mask */
    }
    Py_XDECREF(stem);
    Py_XDECREF(directory);
    return is_ready;
}

bool
opb_script_import(const struct opb_node_info *info, enum opb_fault *fault, char *text,
                  size_t capacity)
{
    bool is_done;

    text[0] = '\0';
    *fault = OPB_FAULT_RAISED;
    warn_without_executable();
    opb_stacks_begin();
    is_done = prepare(info) && are_new(info, text, capacity);
    for (uint32_t i = 0; i < info->script_count && is_done; i++) {
        (void)opb_owner_set(i);
        is_done = import(info->scripts[i], i, text, capacity);
        opb_host_check_child();
    }
    if (text[0] != '\0') {
        *fault = OPB_FAULT_RUNTIME;
        is_done = false;
    }
    else if (!is_done || opb_signals_settle() != OPB_OK) {
        opb_report_exception(
            "Error during the installation of the Python script, traceback:\n", text,
            capacity);
        is_done = false;
    }
    (void)opb_owner_set(OPB_NO_SCRIPT);
    if (is_done) {
        own_threading();
    }
    return is_done;
}
