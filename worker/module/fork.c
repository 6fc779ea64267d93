/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/fork.c - a child of a host must not speak on the host's lanes
 *
 * Here:      what happens around fork(): no lock is left held in the child, its copies of
 *            the parent's descriptors no longer lead to the node, and its link begins anew.
 * Elsewhere: that beginning (link.c), children that start afresh (child.c).
 * Called by: the C library, on the forking thread, usually with the GIL held.
 *
 * What other threads of the parent were using stays in the child's memory as it is: nobody
 * could tell in which state.
 */
#include "worker/module/link_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct opb_link *watched;

static void
before_fork(void)
{
    (void)pthread_mutex_lock(&watched->services.lock); /* normal mutexes: cannot fail */
    (void)pthread_mutex_lock(&watched->bound_lock);
    (void)pthread_mutex_lock(&watched->flusher.lock);
}

static void
after_fork_in_parent(void)
{
    (void)pthread_mutex_unlock(&watched->flusher.lock);
    (void)pthread_mutex_unlock(&watched->bound_lock);
    (void)pthread_mutex_unlock(&watched->services.lock);
}

/* Puts /dev/null where the lane's socket was, so that the number cannot come to mean
 * something else while code that still knows it runs; else closes it. */
static void
cut_off(struct opb_lane *lane, int null_fd)
{
    int fd = opb_lane_fd(lane);

    if (fd < 0) {
        return;
    }
    opb_lane_orphan(lane);
    if (null_fd < 0 || dup3(null_fd, fd, O_CLOEXEC) < 0) {
        (void)close(fd);
    }
}

static void
after_fork_in_child(void)
{
    int error = errno;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (uint32_t i = 0; i < OPB_SERVICE_LANES; i++) {
        if (watched->services.open[i] != NULL) {
            cut_off(watched->services.open[i], null_fd);
        }
    }
    for (struct opb_bound *bound = watched->bound; bound != NULL; bound = bound->next) {
        cut_off(bound->lane, null_fd);
    }
    if (null_fd >= 0) {
        (void)close(null_fd);
    }
    opb_link_begin_anew(watched);
    after_fork_in_parent(); /* the locks are this thread's here too */
    errno = error;
}

enum opb_status
opb_fork_watch(struct opb_link *link)
{
    int error;

    watched = link;
    error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (error != 0) {
        watched = NULL;
        errno = error;
        return OPB_NO_MEMORY;
    }
    return OPB_OK;
}
