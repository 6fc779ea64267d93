/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/forking.c - what a forked child must not share with its host
 *
 * Here:      the control socket and the lanes. The child gets /dev/null in their place, so
 *            that the numbers stay taken and nothing of ours hits another file by mistake.
 * Elsewhere: the service lanes and the module in a child (worker/module).
 * The child's handler takes no lock: the thread that held it does not exist there.
 */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define EMPTY (-1)

/* Call lanes, main lane, control socket. */
static atomic_int kept[OPB_HOST_MAX_LANES + 2u];
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
    return opb_forking_add(control_fd);
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
