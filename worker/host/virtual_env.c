/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/virtual_env.c - see virtual_env.h
 *
 * pyvenv.cfg (PEP 405) names the version: "version = 3.11.2" by venv, "version_info =
 * 3.11.2.final.0" by others. It is lines of "key = value", and small.
 */
#include "virtual_env.h"

#include <Python.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINE_BYTES 4096
#define MAX_LINES      200

static struct {
    char *path; /* NULL: none */
    char *program;
} environment;

enum opb_status
opb_virtual_env_set(const char *path)
{
    free(environment.path);
    free(environment.program);
    environment.program = NULL;
    environment.path = strdup(path);
    if (environment.path == NULL ||
        asprintf(&environment.program, "%s/bin/python", path) < 0) {
        environment.program = NULL;
        return OPB_NO_MEMORY;
    }
    return OPB_OK;
}

const char *
opb_virtual_env_program(void)
{
    return environment.program != NULL ? environment.program : OPB_PYTHON_EXECUTABLE;
}

/* The value of a line, if it has this key. */
static const char *
value_of(const char *line, const char *key)
{
    size_t bytes = strlen(key);

    if (strncmp(line, key, bytes) != 0) {
        return NULL;
    }
    line += bytes;
    line += strspn(line, " \t");
    if (*line != '=') {
        return NULL;
    }
    line++;
    return line + strspn(line, " \t");
}

/* False if no line tells a version. */
static bool
read_version(FILE *file, int *major, int *minor)
{
    char line[MAX_LINE_BYTES];

    for (int i = 0; i < MAX_LINES && fgets(line, sizeof(line), file) != NULL; i++) {
        const char *value = value_of(line, "version");

        if (value == NULL) {
            value = value_of(line, "version_info");
        }
        if (value != NULL && sscanf(value, "%3d.%3d", major, minor) == 2) {
            return true;
        }
    }
    return false;
}

/* Texts that do not fit are cut, here and below. */
static enum opb_status
refuse_version(int major, int minor, char *text, size_t capacity)
{
    (void)snprintf(
        text, capacity,
        "Python.VirtualEnv is %s, an environment of Python %d.%d, but this worker "
        "runs Python %d.%d: make one with \"%s -m venv DIRECTORY\", or install a "
        "worker for Python %d.%d and name it by Python.Worker",
        environment.path, major, minor, PY_MAJOR_VERSION, PY_MINOR_VERSION,
        OPB_PYTHON_EXECUTABLE, major, minor);
    return OPB_REFUSED;
}

enum opb_status
opb_virtual_env_check(char *text, size_t capacity)
{
    char name[MAX_LINE_BYTES];
    FILE *file;
    int major = 0;
    int minor = 0;
    bool has_version;

    if (environment.path == NULL) {
        return OPB_OK;
    }
    (void)snprintf(name, sizeof(name), "%s/pyvenv.cfg", environment.path);
    file = fopen(name, "re");
    if (file == NULL) {
        (void)snprintf(
            text, capacity,
            "Python.VirtualEnv is %s, but %s cannot be read by user %u (%s): make "
            "an environment with \"%s -m venv DIRECTORY\"",
            environment.path, name, (unsigned)geteuid(), strerror(errno),
            OPB_PYTHON_EXECUTABLE);
        return OPB_REFUSED;
    }
    has_version = read_version(file, &major, &minor);
    (void)fclose(file);
    if (!has_version) {
        (void)snprintf(
            text, capacity,
            "Python.VirtualEnv is %s, but %s names no version of Python: make it "
            "anew with \"%s -m venv DIRECTORY\"",
            environment.path, name, OPB_PYTHON_EXECUTABLE);
        return OPB_REFUSED;
    }
    if (major != PY_MAJOR_VERSION || minor != PY_MINOR_VERSION) {
        return refuse_version(major, minor, text, capacity);
    }
    if (access(environment.program, X_OK) != 0) {
        (void)snprintf(
            text, capacity,
            "Python.VirtualEnv is %s, but its program %s cannot be run by user %u: "
            "%s",
            environment.path, environment.program, (unsigned)geteuid(), strerror(errno));
        return OPB_REFUSED;
    }
    return OPB_OK;
}
