/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/worker_path.c - where the daemon's executable is
 *
 * Here:      the places where it may be, and the message if it is in none.
 * Elsewhere: starting it (spawn.c).
 */
#include "plugin/worker_path.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM "orthanc-python-worker"

/* 0, or errno. */
static int
look(const char *path)
{
    struct stat file;

    if (stat(path, &file) != 0) {
        return errno;
    }
    if (!S_ISREG(file.st_mode)) {
        return EISDIR;
    }
    return access(path, X_OK) == 0 ? 0 : errno;
}

static const char *
describe(int error)
{
    return error == EISDIR ? "not a file" : strerror(error);
}

/* The directory of this library, resolved: plugins are often symbolic links. */
static char *
own_directory(void)
{
    static const char anchor; /* an address inside this library */
    Dl_info info;
    char *path;
    char *slash;

    if (dladdr(&anchor, &info) == 0 || info.dli_fname == NULL) {
        return NULL;
    }
    path = realpath(info.dli_fname, NULL);
    if (path == NULL) {
        return NULL;
    }
    slash = strrchr(path, '/');
    if (slash == NULL) {
        free(path);
        return NULL;
    }
    *slash = '\0';
    return path;
}

static enum opb_status
check_configured(char **out, const char *configured, char *message, size_t capacity)
{
    int error = look(configured);

    if (error != 0) {
        /* a message that does not fit is cut */
        (void)snprintf(
            message, capacity,
            "The worker %s, named by the configuration option \"Python.Worker\", "
            "cannot be run: %s",
            configured, describe(error));
        return OPB_REFUSED;
    }
    *out = strdup(configured);
    return *out == NULL ? OPB_NO_MEMORY : OPB_OK;
}

static void
add_place(char *message, size_t capacity, const char *path, int error)
{
    size_t used = strlen(message);

    if (used < capacity) {
        /* a message that does not fit is cut */
        (void)snprintf(message + used, capacity - used, " %s (%s),", path, describe(error));
    }
}

/* True if it is there, or there is no memory to say so: *path is NULL then. */
static bool
try_place(char **path, const char *directory, const char *below, char *message,
          size_t capacity)
{
    int error;

    if (asprintf(path, "%s/%s" PROGRAM, directory, below) < 0) {
        *path = NULL;
        return true;
    }
    error = look(*path);
    if (error == 0) {
        char *resolved = realpath(*path, NULL);

        if (resolved != NULL) { /* nicer in logs; the other works as well */
            free(*path);
            *path = resolved;
        }
        return true;
    }
    add_place(message, capacity, *path, error);
    free(*path);
    *path = NULL;
    return false;
}

enum opb_status
opb_worker_path_find(char **out, const char *configured, char *message, size_t capacity)
{
    static const char *const below_own[] = {"", "../worker/supervisor/",
                                            OPB_WORKER_RELATIVE_DIR "/"};
    char *own;
    bool is_settled = false;

    *out = NULL;
    message[0] = '\0';
    if (configured != NULL) {
        return check_configured(out, configured, message, capacity);
    }
    (void)snprintf(message, capacity,
                   "The worker (" PROGRAM ") is not where it should be:");
    own = own_directory();
    if (own != NULL) {
        for (size_t i = 0; i < sizeof(below_own) / sizeof(below_own[0]) && !is_settled;
             i++) {
            is_settled = try_place(out, own, below_own[i], message, capacity);
        }
        free(own);
    }
    if (!is_settled) {
        is_settled = try_place(out, OPB_WORKER_DIR, "", message, capacity);
    }
    if (*out != NULL) {
        message[0] = '\0';
        return OPB_OK;
    }
    if (is_settled) {
        return OPB_NO_MEMORY;
    }
    if (strlen(message) < capacity) {
        /* a message that does not fit is cut */
        (void)snprintf(message + strlen(message), capacity - strlen(message),
                       " install it, or name it by the configuration option "
                       "\"Python.Worker\"");
    }
    return OPB_REFUSED;
}
