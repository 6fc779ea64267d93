/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/forking.c - what a forked child must not share with its host
 *
 * Here:      the control socket and the lanes. The child gets /dev/null in their place, so
 *            that the numbers stay taken and nothing of ours hits another file by mistake.
 * Here, too: that forked children end with their host, even if nobody is left to kill them.
 * Elsewhere: the service lanes and the module in a child (worker/module).
 * The child's handler takes no lock: the thread that held it does not exist there.
 */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define EMPTY (-1)

/* Call lanes, main lane, control socket, the host's end of the guard. */
static atomic_int kept[OPB_HOST_MAX_LANES + 3u];
static int null_fd = -1;

static void
forget_in_child(void)
{
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        int fd = atomic_load(&kept[i]);

        if (fd != EMPTY) {
            (void)dup3(null_fd, fd, O_CLOEXEC); /* the numbers are valid ones */
            atomic_store(&kept[i], EMPTY);
        }
    }
}

/* The supervisor, or else the plugin, kills the group of a host that has died. If they all
 * die at once, the kernel does: the host holds one end of a pipe, forked children hold the
 * other, and its hangup is a signal for the group. (A parent-death signal would not do: it
 * comes when the thread ends that has forked.) Children that run another program have
 * closed it, and those that have left the group are on their own. */
static enum opb_status
begin_guard(void)
{
    int fds[2];

    if (getpgrp() != getpid()) {
        return OPB_OK; /* started by hand: the group is not ours to kill */
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return OPB_SYSTEM;
    }
    if (fcntl(fds[0], F_SETOWN, -getpid()) != 0 || fcntl(fds[0], F_SETSIG, SIGKILL) != 0 ||
        fcntl(fds[0], F_SETFL, O_ASYNC | O_NONBLOCK) != 0) {
        (void)close(fds[0]); /* a kernel without it: as good as possible */
        (void)close(fds[1]);
        return OPB_OK;
    }
    return opb_forking_add(fds[1]); /* both stay open until the end of the process */
}

enum opb_status
opb_forking_begin(int control_fd)
{
    int error;

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        atomic_store(&kept[i], EMPTY);
    }
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        return OPB_SYSTEM;
    }
    error = pthread_atfork(NULL, NULL, forget_in_child);
    if (error != 0) {
        errno = error;
        return OPB_SYSTEM;
    }
    if (opb_forking_add(control_fd) != OPB_OK) {
        return OPB_TOO_LARGE;
    }
    return begin_guard();
}

enum opb_status
opb_forking_add(int fd)
{
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        int expected = EMPTY;

        if (atomic_compare_exchange_strong(&kept[i], &expected, fd)) {
            return OPB_OK;
        }
    }
    return OPB_TOO_LARGE;
}

void
opb_forking_remove(int fd)
{
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        int expected = fd;

        if (atomic_compare_exchange_strong(&kept[i], &expected, EMPTY)) {
            return;
        }
    }
}
