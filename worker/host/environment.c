/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/environment.c - variables for the script and for the processes it starts
 *
 * ORTHANC_PYTHON_BRIDGE_NODE_VERSION  Orthanc's version: `import orthanc` in a child shows
 *                                     the names that this server has
 * ORTHANC_PID                         Orthanc's process, where it can be known
 * Before Python starts: os.environ is a copy.
 */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The parent of a process, or 0. */
static long
parent_of(long pid)
{
    char path[64];
    char text[512];
    char *after;
    long parent = 0;
    size_t bytes;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    bytes = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file); /* it was only read */
    text[bytes] = '\0';
    after = strrchr(text, ')'); /* the name before it may hold anything */
    if (after == NULL || sscanf(after, ") %*c %ld", &parent) != 1) {
        return 0;
    }
    return parent;
}

/* Orthanc's process is the parent of a pool that it has started, and runs its program. */
static long
find_orthanc(const struct opb_node_info *info)
{
    char path[64];
    char program[4096];
    ssize_t bytes;
    long pid = parent_of((long)getppid());

    if (pid <= 1) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/exe", pid);
    bytes = readlink(path, program, sizeof(program) - 1);
    if (bytes <= 0) {
        return 0;
    }
    program[bytes] = '\0';
    return strcmp(program, info->orthanc_path) == 0 ? pid : 0;
}

enum opb_status
opb_environment_set(const struct opb_node_info *info)
{
    char pid_text[32];
    long pid = find_orthanc(info);
    int failed;

    (void)snprintf(pid_text, sizeof(pid_text), "%ld", pid);
    failed = pid > 0 ? setenv("ORTHANC_PID", pid_text, 1) : unsetenv("ORTHANC_PID");
    if (failed == 0) {
        failed = setenv("ORTHANC_PYTHON_BRIDGE_NODE_VERSION", info->version_text, 1);
    }
    return failed == 0 ? OPB_OK : OPB_NO_MEMORY;
}
