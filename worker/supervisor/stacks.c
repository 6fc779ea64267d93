/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/stacks.c - the last words of a host that hangs
 *
 * Here:      asking a host for the Python stacks of its threads, passing them on to the
 *            node's log line by line, and killing the host then, or if it does not answer.
 * Elsewhere: writing them (worker/host/stacks.c).
 *
 * They come in a file without a name rather than over a pipe: the host never waits for
 * us, and what it had written when it died or got stuck is there.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_STACKS_BYTES 131072u /* half of what may wait for a slow node */

/* Whether the file ends as a complete answer does. */
bool
opb_stacks_are_complete(int fd)
{
    struct stat file;
    char last = 'x';

    return fstat(fd, &file) == 0 && file.st_size > 0 &&
           pread(fd, &last, 1, file.st_size - 1) == 1 && last == '\0';
}

/* Lines of the node's log hold text that is UTF-8, and no control characters. */
static void
clean(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f) {
            *text = *text == '\n' ? '\n' : '?';
        }
    }
}

char *
opb_stacks_read(int fd, size_t most_bytes)
{
    char *text = malloc(most_bytes + 1);
    ssize_t bytes;

    if (text == NULL) {
        return NULL;
    }
    bytes = pread(fd, text, most_bytes, 0);
    text[bytes > 0 ? bytes : 0] = '\0';
    if (text[0] == '\0') {
        free(text);
        return NULL;
    }
    clean(text);
    return text;
}

/* Logs what is in the file; false if it is empty. */
static bool
log_text(const struct opb_host *host, int fd)
{
    struct opb_pool *pool = host->node->pool;
    char *text = opb_stacks_read(fd, MAX_STACKS_BYTES);
    bool is_cut = text != NULL && strlen(text) == MAX_STACKS_BYTES;
    char *next = text;
    char *line;

    if (text == NULL) {
        return false;
    }
    opb_pool_log(
        pool, host->node, OPB_LOG_ERROR,
        "Python stacks of the host (pid %d), the innermost call first:", (int)host->pid);
    while ((line = strsep(&next, "\n")) != NULL) {
        if (line[0] != '\0') {
            opb_pool_log(pool, host->node, OPB_LOG_ERROR, "%s", line);
        }
    }
    if (is_cut) {
        opb_pool_log(pool, host->node, OPB_LOG_ERROR, "(cut here, after %u bytes)",
                     MAX_STACKS_BYTES);
    }
    free(text);
    return true;
}

/* "stopped" (SIGSTOP), or what else the kernel says of it. */
const char *
opb_stacks_state(pid_t pid)
{
    char path[64];
    char text[256];
    const char *state = NULL;
    size_t bytes = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid); /* fits */
    file = fopen(path, "re");
    if (file != NULL) {
        bytes = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file); /* read only */
    }
    text[bytes] = '\0';
    state = strrchr(text, ')');
    if (state == NULL || state[1] != ' ') {
        return "gone";
    }
    return state[2] == 'T' || state[2] == 't' ? "stopped by a signal or a debugger"
           : state[2] == 'D'                  ? "waiting for a device"
                                              : "running, but does not answer";
}

void
opb_stacks_end(struct opb_host *host)
{
    if (host->stacks_fd < 0) {
        return;
    }
    if (!log_text(host, host->stacks_fd)) {
        opb_pool_log(host->node->pool, host->node, OPB_LOG_ERROR,
                     "The host (pid %d) did not tell its Python stacks: it is %s",
                     (int)host->pid, opb_stacks_state(host->pid));
    }
    (void)close(host->stacks_fd); /* it has no name: it is gone */
    host->stacks_fd = -1;
}

bool
opb_stacks_check(struct opb_pool *pool)
{
    bool is_waiting = false;

    for (struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        if (host->stacks_fd < 0) {
            continue;
        }
        if (!opb_stacks_are_complete(host->stacks_fd) &&
            opb_clock_ms() < host->stacks_until_ms && !pool->is_stopping) {
            is_waiting = true;
            continue;
        }
        opb_stacks_end(host);
        opb_host_kill(host, SIGKILL);
    }
    return is_waiting;
}

void
opb_stacks_ask(struct opb_host *host, const char *reason)
{
    const uint8_t byte = OPB_HOST_STACKS;
    int fd;

    if (host->control_fd < 0 || host->reason[0] != '\0') {
        return; /* it is dead, or about to be */
    }
    fd = memfd_create("stacks", MFD_CLOEXEC);
    if (fd < 0 || opb_socket_pass(host->control_fd, &byte, 1, fd) != OPB_OK) {
        opb_pool_log(host->node->pool, host->node, OPB_LOG_ERROR,
                     "The host (pid %d) could not be asked for its Python stacks: %s",
                     (int)host->pid, fd < 0 ? strerror(errno) : "it takes no message");
        if (fd >= 0) {
            (void)close(fd); /* it is empty */
        }
        opb_host_replace(host, reason);
        return;
    }
    (void)snprintf(host->reason, sizeof(host->reason), "%s", reason); /* may be cut */
    host->stacks_fd = fd;
    host->stacks_until_ms = opb_clock_ms() + OPB_STACKS_MS;
    opb_sweep_soon(host->node->pool, OPB_SWEEP_MS);
}
