/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/files.c - the files that the script consists of
 *
 * Here:      the script, and the modules that it has imported from its own directory.
 * Elsewhere: watching them, which is the node's.
 * A module says where it comes from in __file__, which is read without running any code.
 */
#include "host.h"

#include <stdlib.h>
#include <string.h>

#define MAX_FILES 1000u

static void
add(struct opb_files *files, const char *path)
{
    if (files->count < MAX_FILES && files->paths != NULL) {
        files->paths[files->count] = strdup(path);
        files->count += files->paths[files->count] != NULL;
    }
}

static void
add_module(struct opb_files *files, PyObject *module, const char *script, size_t prefix)
{
    PyObject *file;
    const char *path;

    if (!PyModule_Check(module)) {
        return;
    }
    file = PyDict_GetItemString(PyModule_GetDict(module), "__file__"); /* borrowed */
    if (file == NULL || !PyUnicode_Check(file)) {
        return;
    }
    path = PyUnicode_AsUTF8(file);
    if (path == NULL) {
        PyErr_Clear(); /* no name that could be told to the node */
    }
    else if (strncmp(path, script, prefix) == 0 && strcmp(path, script) != 0) {
        add(files, path);
    }
}

void
opb_files_find(struct opb_files *out, const char *script)
{
    const char *slash = strrchr(script, '/'); /* an absolute path */
    size_t prefix = (size_t)(slash - script) + 1;
    PyObject *modules = PyDict_Values(PyImport_GetModuleDict());

    memset(out, 0, sizeof(*out));
    out->paths = calloc(MAX_FILES, sizeof(*out->paths));
    add(out, script);
    if (modules == NULL) {
        PyErr_Clear();
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(modules); i++) {
        add_module(out, PyList_GET_ITEM(modules, i), script, prefix);
    }
    Py_DECREF(modules);
}

void
opb_files_free(struct opb_files *files)
{
    for (uint32_t i = 0; i < files->count; i++) {
        free(files->paths[i]);
    }
    free(files->paths);
    memset(files, 0, sizeof(*files));
}
