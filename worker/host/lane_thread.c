/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/lane_thread.c - one thread, one call lane
 *
 * Here:      welcome, then receive and serve until the node closes the lane. The thread
 *            keeps its Python thread state from call to call, unless one leaves something.
 * Elsewhere: running a call (calls.c), nested ones (worker/module/link.c).
 * Between calls the thread waits without the GIL and runs nothing of Python.
 */
#include "host.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_uint lane_count;
static atomic_uint last_lane;

/* A lane before the script was loaded serves nothing, and is not looked for. */
static enum opb_status
attach(bool *is_bound, struct opb_lane *lane)
{
    enum opb_status status;

    if (*is_bound || opb_interpreter_phase() != OPB_INTERPRETER_RUNNING) {
        return OPB_OK;
    }
    opb_signals_unblock();
    status = opb_link_bind(opb_link_current(), lane);
    if (status != OPB_OK) {
        opb_lane_fail(lane, status, "the host cannot keep track of the lane");
        return status;
    }
    *is_bound = true;
    return OPB_OK;
}

static void
detach(struct opb_call_thread *thread)
{
    /* What the thread's end finalises in Python has no lane any more. */
    if (opb_link_bind(opb_link_current(), NULL) != OPB_OK) {
        opb_host_say("a call lane has ended and is still bound");
    }
    if (opb_interpreter_phase() == OPB_INTERPRETER_RUNNING) {
        opb_call_thread_end(thread);
    }
}

static void
serve_lane(struct opb_lane *lane)
{
    struct opb_call_thread thread = {.is_kept = false};
    bool is_bound = false;
    enum opb_status status;

    opb_lane_offer_memory(lane);
    status = opb_welcome_send(lane, opb_deadline_ms(OPB_HOST_WELCOME_MS));
    if (status == OPB_OK) {
        opb_lane_trust(lane);
    }
    while (status == OPB_OK) {
        struct opb_frame *frame = NULL;

        status =
            opb_lane_receive(lane, &frame, OPB_FOREVER); /* or until the node is gone */
        if (status == OPB_OK) {
            status = attach(&is_bound, lane);
        }
        if (status == OPB_OK) {
            status = opb_calls_serve(&thread, lane, frame);
        }
        opb_frame_free(frame);
    }
    if (status != OPB_GONE) {
        opb_host_say("a call lane has failed: %s", opb_lane_failure(lane));
    }
    if (is_bound) {
        detach(&thread);
    }
}

static void *
lane_run(void *argument)
{
    int fd = (int)(intptr_t)argument;
    int number = fd;
    char name[16];
    struct opb_lane *lane = NULL;

    (void)snprintf(name, sizeof(name), "lane-%u", atomic_fetch_add(&last_lane, 1u) + 1u);
    (void)pthread_setname_np(pthread_self(), name); /* for ps and gdb only */
    if (opb_lane_open(&lane, &fd, &opb_host_segments) == OPB_OK) {
        serve_lane(lane);
    }
    else {
        opb_host_say("cannot open a call lane: %s", strerror(errno));
    }
    opb_forking_remove(number); /* before the number can be another file */
    opb_lane_close(lane);
    if (fd >= 0) {
        (void)close(fd);
    }
    (void)atomic_fetch_sub(&lane_count, 1u);
    return NULL;
}

enum opb_status
opb_lane_thread_start(int *fd)
{
    enum opb_status status = OPB_OK;
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    if (atomic_fetch_add(&lane_count, 1u) >= OPB_HOST_MAX_LANES) {
        status = OPB_TOO_LARGE;
        goto uncount;
    }
    status = opb_forking_add(*fd);
    if (status != OPB_OK) {
        goto uncount;
    }
    if (pthread_attr_init(&attributes) != 0) {
        status = OPB_NO_MEMORY;
        goto forget_fd;
    }
    (void)pthread_attr_setstacksize(&attributes, OPB_HOST_STACK_BYTES); /* a valid size */
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, lane_run, (void *)(intptr_t)*fd);
    (void)pthread_attr_destroy(&attributes);
    if (error != 0) {
        errno = error;
        status = OPB_SYSTEM;
        goto forget_fd;
    }
    *fd = -1;
    return OPB_OK;

forget_fd:
    opb_forking_remove(*fd);
uncount:
    (void)atomic_fetch_sub(&lane_count, 1u);
    return status;
}
