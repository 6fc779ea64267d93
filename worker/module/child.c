/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/child.c - a Python that a host, or a child of one, has started afresh
 *
 * Here:      reading the host's file with node, socket, functions and secret.
 * Elsewhere: see child.h.
 * Called by: the import of the extension module. Once; a process that begins without a
 *            host has none later either.
 */
#include "worker/module/child.h"

#include "worker/module/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES (1024u * 1024u) /* some hundred names are much less */

static char failure[512];

const char *
opb_child_failure(void)
{
    return failure;
}

/* Opens the file, which must be the host's: by now the number of the process may be that of
 * another. -1, and the reason in failure. */
static int
open_file(const char *path, size_t *bytes)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        (void)snprintf(failure, sizeof(failure),
                       "the host whose child it is has ended, or is of another user "
                       "(%.300s: %s)",
                       path, strerror(errno));
        return -1;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid() ||
        info.st_size <= 0 || info.st_size > (off_t)MAX_FILE_BYTES) {
        (void)snprintf(failure, sizeof(failure),
                       "the host whose child it is has ended (%.300s is another file)",
                       path);
        (void)close(fd); /* was only looked at */
        return -1;
    }
    *bytes = (size_t)info.st_size;
    return fd;
}

/* Gives the file as a frame. NULL, and the reason in failure. */
static struct opb_frame *
read_file(const char *path)
{
    struct opb_frame *frame = NULL;
    uint8_t *memory;
    size_t bytes;
    int fd = open_file(path, &bytes);

    if (fd < 0) {
        return NULL;
    }
    memory = malloc(bytes);
    if (memory == NULL || pread(fd, memory, bytes, 0) != (ssize_t)bytes ||
        opb_frame_decode(&frame, memory, bytes) != OPB_OK ||
        opb_frame_type(frame) != OPB_REQUEST) {
        (void)snprintf(failure, sizeof(failure), "%.300s cannot be used", path);
        opb_frame_free(frame);
        frame = NULL;
    }
    if (memory != NULL) {
        explicit_bzero(memory, bytes);
        free(memory);
    }
    (void)close(fd); /* was only read */
    return frame;
}

void
opb_child_attach(void)
{
    const char *path = getenv(OPB_CREDENTIALS_VARIABLE);
    struct opb_node_info *info = NULL;
    struct opb_frame *frame;
    enum opb_status status;
    char text[256];

    if (opb_link_current() != NULL || path == NULL || path[0] == '\0') {
        return;
    }
    frame = read_file(path);
    if (frame == NULL) {
        return;
    }
    status = opb_node_info_decode(&info, frame, text, sizeof(text));
    if (status != OPB_OK) {
        (void)snprintf(failure, sizeof(failure), "%.200s cannot be used: %.200s", path,
                       text);
    }
    else if ((status = opb_link_open_child(&info, getenv(OPB_CONSOLE_VARIABLE) != NULL)) !=
             OPB_OK) {
        (void)snprintf(failure, sizeof(failure), "it cannot be prepared: %s",
                       opb_status_text(status));
    }
    else {
        failure[0] = '\0';
    }
    opb_node_info_free(info);
    opb_frame_free(frame);
}
