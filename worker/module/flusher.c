/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/flusher.c - sends what waited for company that did not come
 *
 * Here:      one thread and one timer, armed by the first post that waits or handle that
 *            is released; handles go to the node in batches, or with the next request.
 * Elsewhere: posts that leave with the next request or response (protocol/lane.c).
 * Called by: link.c. The thread never touches Python.
 */
#include "worker/module/link_internal.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define FLUSH_DELAY_MS     5
#define FIRST_CAPACITY     256u
#define RELEASE_WAIT_MS    1000u
#define RELEASE_RETRY_MS   1000u
#define JOINING_HANDLES    64u /* so few that the request does not wait for them */
#define THREAD_STACK_BYTES (256u * 1024u)

enum opb_status
opb_flusher_init(struct opb_flusher *flusher)
{
    int error;

    memset(flusher, 0, sizeof(*flusher));
    atomic_init(&flusher->is_armed, false);
    atomic_init(&flusher->is_started, false);
    flusher->release_method = -1;
    flusher->timer_fd = -1;
    error = pthread_mutex_init(&flusher->lock, NULL);
    if (error != 0) {
        errno = error;
        return OPB_SYSTEM;
    }
    return OPB_OK;
}

void
opb_flusher_fini(struct opb_flusher *flusher)
{
    opb_flusher_forget(flusher);
    (void)pthread_mutex_destroy(&flusher->lock); /* nobody holds it */
    free(flusher->handles);
}

void
opb_flusher_forget(struct opb_flusher *flusher)
{
    if (flusher->timer_fd >= 0) {
        (void)close(flusher->timer_fd); /* only a timer */
        flusher->timer_fd = -1;
    }
    atomic_store(&flusher->is_armed, false);
    atomic_store(&flusher->is_started, false);
    flusher->handle_count = 0;
    flusher->lost_count = 0;
}

void
opb_flusher_arm(struct opb_link *link)
{
    const struct itimerspec delay = {.it_value = {.tv_nsec = FLUSH_DELAY_MS * 1000000L}};
    struct opb_flusher *flusher = &link->flusher;

    if (atomic_exchange(&flusher->is_armed, true)) {
        return;
    }
    if (opb_flusher_start(link) != OPB_OK) {
        atomic_store(&flusher->is_armed, false); /* the next one tries again */
        return;
    }
    (void)timerfd_settime(flusher->timer_fd, 0, &delay, NULL); /* valid: cannot fail */
}

/* Called with the lock held. */
static bool
make_room(struct opb_flusher *flusher)
{
    size_t capacity =
        flusher->handle_capacity == 0 ? FIRST_CAPACITY : 2 * flusher->handle_capacity;
    uint64_t *handles;

    if (flusher->handle_count < flusher->handle_capacity) {
        return true;
    }
    handles = reallocarray(flusher->handles, capacity, sizeof(*handles));
    if (handles == NULL) {
        return false;
    }
    flusher->handles = handles;
    flusher->handle_capacity = capacity;
    return true;
}

void
opb_link_release(struct opb_link *link, uint64_t handle)
{
    struct opb_flusher *flusher = &link->flusher;

    (void)pthread_mutex_lock(&flusher->lock); /* a normal mutex: cannot fail */
    if (make_room(flusher)) {
        flusher->handles[flusher->handle_count++] = handle;
    }
    else if (flusher->lost_count++ == 0) {
        /* Said once, and not to the node, for which there is no memory either. */
        (void)fprintf(stderr, "orthanc: no memory to release objects: Orthanc keeps them "
                              "until this process ends\n");
    }
    (void)pthread_mutex_unlock(&flusher->lock);
    opb_flusher_arm(link);
}

/* Moves up to limit handles, the newest first. */
static size_t
take_handles(struct opb_flusher *flusher, uint64_t *out, size_t limit)
{
    size_t count;

    (void)pthread_mutex_lock(&flusher->lock); /* a normal mutex: cannot fail */
    count = flusher->handle_count < limit ? flusher->handle_count : limit;
    flusher->handle_count -= count;
    if (count > 0) {
        memcpy(out, flusher->handles + flusher->handle_count, count * sizeof(*out));
    }
    (void)pthread_mutex_unlock(&flusher->lock);
    return count;
}

static enum opb_status
post_handles(struct opb_link *link, struct opb_lane *lane, const uint64_t *handles,
             size_t count)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    opb_message_begin_notify(message, (uint32_t)link->flusher.release_method,
                             (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        opb_pack_uint(message, handles[i]);
    }
    status = opb_lane_post(lane, message);
    opb_message_free(message);
    return status;
}

/* Puts handles back that could not be sent. */
static void
return_handles(struct opb_link *link, const uint64_t *handles, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        opb_link_release(link, handles[i]);
    }
}

void
opb_flusher_join_request(struct opb_link *link, struct opb_lane *lane)
{
    uint64_t handles[JOINING_HANDLES];
    size_t count;

    if (!atomic_load(&link->flusher.is_armed) || link->flusher.release_method < 0) {
        return; /* nothing was released, or the flusher is at it */
    }
    count = take_handles(&link->flusher, handles, JOINING_HANDLES);
    if (count > 0 && post_handles(link, lane, handles, count) != OPB_OK) {
        return_handles(link, handles, count);
    }
}

/* False if the node could not be told: the rest must be tried again later. */
static bool
release_all(struct opb_link *link, uint64_t batch[OPB_RELEASE_BATCH])
{
    struct opb_flusher *flusher = &link->flusher;
    struct opb_lane *lane = NULL;
    enum opb_status status = OPB_OK;
    size_t count;
    char why[256];

    while (status == OPB_OK &&
           (count = take_handles(flusher, batch, OPB_RELEASE_BATCH)) > 0) {
        if (flusher->release_method < 0) {
            continue; /* a node that frees objects only when its host ends */
        }
        if (lane == NULL) {
            status = opb_service_take(link, opb_deadline_ms(RELEASE_WAIT_MS), &lane, why,
                                      sizeof(why));
        }
        if (status == OPB_OK) {
            status = post_handles(link, lane, batch, count);
            opb_lane_flush(lane);
        }
        if (status != OPB_OK) {
            return_handles(link, batch, count);
        }
    }
    if (lane != NULL) {
        if (opb_lane_has_posts(lane)) {
            opb_flusher_arm(link);
        }
        opb_service_give(link, &lane);
    }
    return status == OPB_OK;
}

/* Waits for the timer, at most until retry_ms if that is not 0. False: it is no more. */
static bool
wait_for_work(struct opb_flusher *flusher, uint64_t retry_ms)
{
    struct pollfd item = {.fd = flusher->timer_fd, .events = POLLIN};
    uint64_t expirations;

    if (poll(&item, 1, opb_deadline_poll(retry_ms == 0 ? OPB_FOREVER : retry_ms)) < 0) {
        return errno == EINTR;
    }
    if (item.revents == 0) {
        return true;
    }
    if (read(flusher->timer_fd, &expirations, sizeof(expirations)) < 0) {
        return errno == EINTR || errno == EAGAIN;
    }
    atomic_store(&flusher->is_armed, false);
    return true;
}

static void *
flush_forever(void *context)
{
    struct opb_link *link = context;
    struct opb_flusher *flusher = &link->flusher;
    uint64_t batch[OPB_RELEASE_BATCH];
    uint64_t retry_ms = 0; /* when to try again to release; 0: no failure yet */

    (void)pthread_setname_np(pthread_self(), "opb-flusher"); /* for debuggers only */
    while (wait_for_work(flusher, retry_ms)) {
        bool is_rest = opb_link_flush_bound(link);

        is_rest = opb_services_flush(&link->services) || is_rest;
        if (is_rest) {
            opb_flusher_arm(link);
        }
        if (retry_ms == 0 || opb_clock_ms() >= retry_ms) {
            retry_ms = release_all(link, batch) ? 0 : opb_deadline_ms(RELEASE_RETRY_MS);
        }
    }
    return NULL; /* the timer is gone: the process is ending */
}

enum opb_status
opb_flusher_start(struct opb_link *link)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int error;

    if (atomic_load(&link->flusher.is_started)) {
        return OPB_OK;
    }
    if (link->flusher.timer_fd < 0) {
        link->flusher.timer_fd =
            timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    }
    if (link->flusher.timer_fd < 0) {
        return OPB_SYSTEM;
    }
    error = pthread_attr_init(&attributes);
    if (error != 0) {
        errno = error;
        return OPB_NO_MEMORY;
    }
    (void)pthread_attr_setdetachstate(&attributes,
                                      PTHREAD_CREATE_DETACHED);       /* valid value */
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES); /* valid value */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all,
                          &before); /* signals are for the other threads */
    error = pthread_create(&thread, &attributes, flush_forever, link);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes); /* cannot fail */
    if (error != 0) {
        errno = error;
        return OPB_SYSTEM;
    }
    atomic_store(&link->flusher.is_started, true);
    return OPB_OK;
}
