/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/preload.c - the modules that a zygote imports for its hosts
 *
 * Here:      importing them, saying why one cannot be, and noticing threads that hosts will
 *            lack.
 * Elsewhere: forking (zygote.c).
 *
 * A fork keeps the thread that forks and no other. Libraries that know that, as OpenBLAS
 * does, end their threads before it and start them anew when they need them. So who has
 * left threads behind is found by a fork for trial.
 */
#include "host.h"
#include "zygote.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRACEBACK_BYTES 32768u
#define SETTLE_STEPS    50 /* of 1 ms: a thread that has been joined is gone soon */

static unsigned
count_threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    const struct dirent *entry;
    unsigned count = 0;

    if (directory == NULL) {
        return 1; /* without /proc nobody is warned */
    }
    while ((entry = readdir(directory)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(directory);
    return count;
}

/* How many threads are left at a fork. */
static unsigned
count_at_fork(unsigned wanted)
{
    static const struct timespec step = {.tv_nsec = 1000000};
    unsigned count = 0;
    pid_t pid;

    PyOS_BeforeFork(); /* for those that use os.register_at_fork() */
    pid = fork();
    if (pid == 0) {
        _exit(EXIT_SUCCESS);
    }
    if (pid > 0) {
        (void)waitpid(pid, NULL, 0); /* it has nothing to do but to end */
    }
    for (int i = 0; i < SETTLE_STEPS; i++) {
        count = count_threads();
        if (count <= wanted) {
            break;
        }
        (void)nanosleep(&step, NULL);
    }
    PyOS_AfterFork_Parent();
    return count;
}

/* Clears the exception; its traceback goes to the node's log line by line. */
static void
report_failure(int fd, const char *name)
{
    char *text = malloc(TRACEBACK_BYTES);
    char headline[OPB_ZYGOTE_TEXT_BYTES];
    char reason[OPB_ZYGOTE_TEXT_BYTES];
    char message[OPB_ZYGOTE_TEXT_BYTES] = "";
    char *next = text;
    char *line;

    (void)snprintf(headline, sizeof(headline),
                   "Error while the module \"%.255s\" was imported, which Python.Preload "
                   "names, traceback:",
                   name); /* fits */
    opb_zygote_log(fd, OPB_ZYGOTE_ERROR, headline);
    if (text == NULL) {
        PyErr_Clear();
    }
    else {
        opb_describe_exception(text, TRACEBACK_BYTES);
    }
    for (unsigned i = 0; (line = strsep(&next, "\n")) != NULL; i++) {
        if (line[0] != '\0') {
            opb_zygote_log(fd, OPB_ZYGOTE_ERROR, line);
        }
        if (line[0] != '\0' && i < 2) { /* the class, or better the text */
            (void)snprintf(message, sizeof(message), "%s", line); /* may be cut */
        }
    }
    free(text);
    (void)snprintf(reason, sizeof(reason),
                   "the module \"%.100s\", named by Python.Preload, cannot be imported: "
                   "%.200s",
                   name, message); /* fits */
    opb_zygote_tell(fd, OPB_ZYGOTE_FAILED, 0, 0, reason);
}

static bool
import(int fd, const char *name)
{
    const unsigned before = count_threads();
    unsigned count;
    PyObject *module = PyImport_ImportModule(name);

    if (module == NULL) {
        report_failure(fd, name);
        return false;
    }
    Py_DECREF(module); /* sys.modules has it */
    count = count_threads();
    if (count > before) {
        count = count_at_fork(before);
    }
    if (count > before) {
        char text[OPB_ZYGOTE_TEXT_BYTES];

        (void)snprintf(text, sizeof(text),
                       "The module \"%.255s\", named by Python.Preload, has started %u "
                       "threads when it was imported. Hosts will not have them: remove it "
                       "from Python.Preload if it needs them",
                       name, count - before); /* fits */
        opb_zygote_log(fd, OPB_ZYGOTE_WARNING, text);
    }
    return true;
}

bool
opb_preload(int fd, char *const *modules, unsigned count)
{
    PyObject *all = PyImport_GetModuleDict(); /* borrowed */

    /* Without a node it would stay that of a child of a host: nobody may import it yet. */
    if (PyDict_SetItemString(all, "orthanc", Py_None) != 0) {
        PyErr_Clear();
        opb_zygote_tell(fd, OPB_ZYGOTE_FAILED, 0, 0, "the zygote is out of memory");
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        opb_zygote_tell(fd, OPB_ZYGOTE_IMPORTING, 0, (int32_t)i, modules[i]);
        if (!import(fd, modules[i])) {
            return false;
        }
    }
    if (PyDict_DelItemString(all, "orthanc") != 0) {
        PyErr_Clear(); /* somebody has removed it */
    }
    return true;
}
