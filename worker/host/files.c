/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/files.c - the files that the script consists of
 *
 * Here:      the scripts, and the modules that they have imported from their directories.
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
    char *copy;

    if (files->paths == NULL || files->count == MAX_FILES) {
        return;
    }
    for (uint32_t i = 0; i < files->count; i++) {
        const char *each = files->paths[i];

        if (each != NULL && strcmp(each, path) == 0) { /* none is NULL */
            return;
        }
    }
    copy = strdup(path);
    if (copy != NULL) {
        files->paths[files->count] = copy;
        files->count++;
    }
}

/* Whether it is in, or below, the directory of a script. */
static bool
is_near(const char *path, const struct opb_node_info *info)
{
    for (uint32_t i = 0; i < info->script_count; i++) {
        const char *script = info->scripts[i]; /* an absolute path */

        if (strncmp(path, script, (size_t)(strrchr(script, '/') - script) + 1) == 0) {
            return true;
        }
    }
    return false;
}

static void
add_module(struct opb_files *files, PyObject *module, const struct opb_node_info *info)
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
    else if (is_near(path, info)) {
        add(files, path);
    }
}

void
opb_files_find(struct opb_files *out, const struct opb_node_info *info)
{
    PyObject *modules = PyDict_Values(PyImport_GetModuleDict());

    *out = (struct opb_files){.count = 0};
    out->paths = calloc(MAX_FILES, sizeof(*out->paths));
    for (uint32_t i = 0; i < info->script_count; i++) {
        add(out, info->scripts[i]);
    }
    if (modules == NULL) {
        PyErr_Clear();
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(modules); i++) {
        add_module(out, PyList_GET_ITEM(modules, i), info);
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
