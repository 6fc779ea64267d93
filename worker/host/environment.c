/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/environment.c - variables for the script and for the processes it starts
 *
 * ORTHANC_PYTHON_BRIDGE_NODE_VERSION  Orthanc's version: `import orthanc` in a child shows
 *                                     the names that this server has
 * ORTHANC_PID                         Orthanc's process, where it can be known
 * ORTHANC_PYTHON_BRIDGE_CREDENTIALS   a file with what a child process needs to call the
 *                                     SDK (worker/module/child.c)
 * Before Python starts: os.environ is a copy. In a host that was forked Python runs
 * already, and the copy is brought up to date.
 *
 * That file is in no folder: it is memory that this process has open, under its name in
 * /proc, which only the same user can open, and which is gone with this process.
 */
#include "host.h"

#include "worker/module/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

/* Writes a message of one or two parts. */
static enum opb_status
write_message(int fd, struct opb_message *message)
{
    const struct iovec *parts;
    size_t part_count;
    size_t bytes = 0;
    enum opb_status status = opb_message_frame(message, &parts, &part_count);

    if (status != OPB_OK) {
        return status;
    }
    for (size_t i = 0; i < part_count; i++) {
        bytes += parts[i].iov_len;
    }
    /* into memory: whole, or not at all */
    return writev(fd, parts, (int)part_count) == (ssize_t)bytes ? OPB_OK : OPB_SYSTEM;
}

/* The descriptor stays open for the life of this process. */
static enum opb_status
make_credentials(const struct opb_node_info *info, int *out)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status = OPB_SYSTEM;
    int fd;

    *out = -1;
    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    opb_node_info_pack(message, info);
    fd = memfd_create("orthanc-python-bridge", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && fchmod(fd, S_IRUSR | S_IWUSR) == 0) {
        status = write_message(fd, message);
    }
    if (status == OPB_OK &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) !=
            0) {
        status = OPB_SYSTEM;
    }
    opb_message_free(message);
    if (status != OPB_OK && fd >= 0) {
        (void)close(fd); /* nobody reads it */
        fd = -1;
    }
    *out = fd;
    return status;
}

/* Scripts whose children do not call the SDK can do without. */
static int
set_credentials(const struct opb_node_info *info)
{
    char path[64];
    int fd;

    if (make_credentials(info, &fd) != OPB_OK) {
        opb_host_say("processes that the script starts cannot use the SDK: %s",
                     strerror(errno));
        return unsetenv(OPB_CREDENTIALS_VARIABLE);
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)getpid(), fd);
    return setenv(OPB_CREDENTIALS_VARIABLE, path, 1);
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
    if (failed == 0) {
        failed = unsetenv(OPB_CONSOLE_VARIABLE); /* Orthanc was started in a console */
    }
    if (failed == 0) {
        failed = set_credentials(info);
    }
    return failed == 0 ? OPB_OK : OPB_NO_MEMORY;
}

/* Sets an exception on failure. */
static int
show(PyObject *variables, const char *name)
{
    const char *value = getenv(name);
    PyObject *text;
    int failed;

    if (value == NULL) {
        return PyMapping_HasKeyString(variables, name)
                   ? PyMapping_DelItemString(variables, name)
                   : 0;
    }
    text = PyUnicode_DecodeFSDefault(value);
    if (text == NULL) {
        return -1;
    }
    failed = PyMapping_SetItemString(variables, name, text);
    Py_DECREF(text);
    return failed;
}

enum opb_status
opb_environment_show(void)
{
    PyObject *os = PyImport_ImportModule("os"); /* Python has it since its start */
    PyObject *variables = NULL;
    enum opb_status status = OPB_OK;

    if (os != NULL) {
        variables = PyObject_GetAttrString(os, "environ");
    }
    if (variables == NULL || show(variables, "ORTHANC_PID") != 0 ||
        show(variables, "ORTHANC_PYTHON_BRIDGE_NODE_VERSION") != 0 ||
        show(variables, OPB_CREDENTIALS_VARIABLE) != 0) {
        PyErr_Clear();
        status = OPB_NO_MEMORY;
    }
    Py_XDECREF(variables);
    Py_XDECREF(os);
    return status;
}
