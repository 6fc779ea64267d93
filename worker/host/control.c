/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/control.c - the socket to the supervisor: lanes arrive, or the pool is gone
 *
 * Here:      one thread that takes descriptors and hands them on. It knows no Python, so
 *            that it sees the end of the pool whatever the script does with the GIL.
 * Elsewhere: what a lane is for (main_lane.c, lane_thread.c), stacks (stacks.c).
 */
#include "host.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int fd;           /* owned */
    int main_lane_fd; /* owned; -1: not here, or given away */
    bool had_main_lane;
} control = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .fd = -1,
    .main_lane_fd = -1,
};

/* With the pool everybody who could use or end this process is gone. */
static _Noreturn void
end_with_the_pool(void)
{
    if (getpgrp() == getpid()) {
        (void)kill(0, SIGKILL); /* children of the script as well */
    }
    _exit(EXIT_FAILURE);
}

/* Takes *fd. */
static void
give_main_lane(int *fd)
{
    (void)pthread_mutex_lock(&control.lock);
    if (!control.had_main_lane) {
        control.had_main_lane = true;
        control.main_lane_fd = *fd;
        *fd = -1;
        (void)pthread_cond_signal(&control.changed);
    }
    (void)pthread_mutex_unlock(&control.lock);
    if (*fd >= 0) {
        opb_host_say("refused a second main lane");
        (void)close(*fd);
        *fd = -1;
    }
}

/* Takes *fd. */
static void
dispatch(uint8_t kind, int *fd)
{
    enum opb_status status;

    if (*fd < 0) {
        opb_host_say("the supervisor sent a lane that did not arrive: the limit of open "
                     "files may be too low");
        return;
    }
    if (kind == OPB_CONNECTION_MAIN) {
        give_main_lane(fd);
        return;
    }
    if (kind == OPB_HOST_LOOK) {
        opb_stacks_look(fd);
        return;
    }
    if (kind == OPB_HOST_STACKS) {
        opb_stacks_write(*fd);
        (void)close(*fd); /* the supervisor reads it */
        *fd = -1;
        return;
    }
    if (kind == OPB_CONNECTION_CALL) {
        status = opb_lane_thread_start(fd);
        if (status == OPB_OK) {
            return;
        }
        opb_host_say("cannot serve a call lane: %s",
                     status == OPB_SYSTEM ? strerror(errno) : opb_status_text(status));
    }
    else {
        opb_host_say("the supervisor sent a lane of unknown kind %u", (unsigned)kind);
    }
    (void)close(*fd); /* the node sees it gone instead of a welcome */
    *fd = -1;
}

static void *
control_run(void *unused)
{
    static const struct timespec pause = {.tv_sec = 0, .tv_nsec = 20000000};

    (void)unused;
    for (;;) {
        char message[OPB_MAX_PASSED_BYTES];
        size_t bytes = 0;
        int fd = -1;
        enum opb_status status =
            opb_socket_take(control.fd, message, sizeof(message), &bytes, &fd);
        int error = errno;

        if (status == OPB_GONE) {
            end_with_the_pool();
        }
        if (status == OPB_OK && bytes == 1) {
            dispatch((uint8_t)message[0], &fd);
            continue;
        }
        if (status == OPB_OK && fd < 0 && (uint8_t)message[0] == OPB_HOST_BINDING) {
            opb_binding_set(message + 1, bytes - 1);
            continue;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
        opb_host_say("cannot take a lane from the supervisor: %s",
                     status == OPB_SYSTEM ? strerror(error) : opb_status_text(status));
        (void)nanosleep(&pause,
                        NULL); /* out of memory or descriptors: not in a tight loop */
    }
    return NULL;
}

enum opb_status
opb_control_start(int *control_fd)
{
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int error;

    control.fd = *control_fd;
    /* The threads of lanes unblock what they should have when they meet Python. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, control_run, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        control.fd = -1;
        errno = error;
        return OPB_SYSTEM;
    }
    (void)pthread_setname_np(thread, "control"); /* for ps and gdb only */
    (void)pthread_detach(thread);
    *control_fd = -1;
    return OPB_OK;
}

int
opb_control_main_lane(void)
{
    int fd;

    /* Bounded by the pool: with it the process ends. */
    (void)pthread_mutex_lock(&control.lock);
    while (control.main_lane_fd < 0) {
        (void)pthread_cond_wait(&control.changed, &control.lock);
    }
    fd = control.main_lane_fd;
    control.main_lane_fd = -1;
    (void)pthread_mutex_unlock(&control.lock);
    return fd;
}
