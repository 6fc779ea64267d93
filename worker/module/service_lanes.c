/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/service_lanes.c - lanes for Python threads that are in no callback
 *
 * Here:      connecting to the node's own socket, and a pool of lanes in which the one
 *            given back last is taken first, so that few stay open.
 * Elsewhere: what goes over them (link.c, flusher.c).
 * Called by: link.c and flusher.c, without the GIL.
 */
#include "worker/module/link_internal.h"

#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* An error number, or 0. */
static int
init_condition(struct opb_services *services)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);

    if (error != 0) {
        return error;
    }
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0) {
        error = pthread_cond_init(&services->given_back, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes); /* cannot fail */
    return error;
}

enum opb_status
opb_services_init(struct opb_services *services, uint32_t limit)
{
    int error;

    memset(services, 0, sizeof(*services));
    services->limit = limit;
    error = pthread_mutex_init(&services->lock, NULL);
    if (error != 0) {
        goto failed;
    }
    error = init_condition(services);
    if (error != 0) {
        goto destroy_lock;
    }
    return OPB_OK;

destroy_lock:
    (void)pthread_mutex_destroy(&services->lock); /* nobody holds it */
failed:
    errno = error;
    return error == ENOMEM ? OPB_NO_MEMORY : OPB_SYSTEM;
}

void
opb_services_reset_condition(struct opb_services *services)
{
    (void)init_condition(services); /* needs nothing of the system: cannot fail here */
}

void
opb_services_fini(struct opb_services *services)
{
    (void)pthread_cond_destroy(&services->given_back); /* nobody waits */
    (void)pthread_mutex_destroy(&services->lock);      /* nobody holds it */
}

static void
describe(char *why, size_t why_bytes, enum opb_status status, const char *socket,
         const char *reason)
{
    int error = errno;
    bool is_orphan = opb_link_is_child() && (error == ENOENT || error == ECONNREFUSED);

    if (reason[0] != '\0') {
        (void)snprintf(why, why_bytes, "%s", reason); /* may be cut */
    }
    else if (status == OPB_SYSTEM) {
        (void)snprintf(why, why_bytes, "cannot connect to %s: %s%s", socket,
                       strerror(error),
                       is_orphan ? ". The host that started this process has ended" : "");
    }
    else {
        (void)snprintf(why, why_bytes, "cannot connect to %s: %s", socket,
                       opb_status_text(status));
    }
}

static enum opb_status
shake_hands(const struct opb_link *link, struct opb_lane *lane, uint64_t deadline_ms)
{
    const struct opb_node_info *info = link->info;
    struct opb_hello hello = {
        .version = OPB_PROTOCOL_VERSION,
        .kind = link->kind,
        .host = info->host,
    };
    enum opb_status status;
    uint32_t peer_version;

    (void)snprintf(hello.node, sizeof(hello.node), "%s", info->node); /* checked by Load */
    memcpy(hello.secret, info->secret, sizeof(hello.secret));
    opb_lane_want_memory(lane);
    status = opb_hello_send(lane, &hello, deadline_ms);
    explicit_bzero(hello.secret, sizeof(hello.secret));
    return status == OPB_OK ? opb_welcome_receive(lane, &peer_version, deadline_ms)
                            : status;
}

static enum opb_status
open_lane(struct opb_link *link, uint64_t deadline_ms, struct opb_lane **out, char *why,
          size_t why_bytes)
{
    const struct opb_node_info *info = link->info;
    struct opb_lane *lane = NULL;
    enum opb_status status;
    int fd = -1;

    *out = NULL;
    status = opb_socket_connect(&fd, info->node_socket, deadline_ms);
    if (status != OPB_OK) {
        describe(why, why_bytes, status, info->node_socket, "");
        return status;
    }
    status = opb_lane_open(&lane, &fd, &opb_segment_pybytes);
    if (status != OPB_OK) {
        describe(why, why_bytes, status, info->node_socket, "");
        (void)close(fd); /* nothing was written */
        return status;
    }
    status = shake_hands(link, lane, deadline_ms);
    if (status != OPB_OK) {
        describe(why, why_bytes, status, info->node_socket, opb_lane_failure(lane));
        opb_lane_close(lane);
        return status;
    }
    *out = lane;
    return OPB_OK;
}

/* Called with the lock held. */
static void
replace_open(struct opb_services *services, struct opb_lane *old, struct opb_lane *new)
{
    for (uint32_t i = 0; i < OPB_SERVICE_LANES; i++) {
        if (services->open[i] == old) {
            services->open[i] = new;
            return;
        }
    }
}

/* Waits until the caller may have a lane. Gives an idle one, or NULL to open one. */
static enum opb_status
wait_for_turn(struct opb_services *services, uint64_t deadline_ms, struct opb_lane **out)
{
    struct timespec until = {
        .tv_sec = (time_t)(deadline_ms / 1000u),
        .tv_nsec = (long)(deadline_ms % 1000u) * 1000000L,
    };
    enum opb_status status = OPB_OK;

    *out = NULL;
    (void)pthread_mutex_lock(&services->lock); /* a normal mutex: cannot fail */
    while (services->taken_count == services->limit && status == OPB_OK) {
        if (pthread_cond_timedwait(&services->given_back, &services->lock, &until) != 0) {
            status = OPB_LATE;
        }
    }
    if (services->taken_count < services->limit) {
        status = OPB_OK; /* given back at the last moment */
        services->taken_count++;
        if (services->idle_count > 0) {
            *out = services->idle[--services->idle_count];
        }
    }
    (void)pthread_mutex_unlock(&services->lock);
    return status;
}

/* Ends a turn. lane, which may be NULL, goes back to the idle ones if it is whole. */
static void
end_turn(struct opb_services *services, struct opb_lane *lane)
{
    bool is_whole = lane != NULL && opb_lane_status(lane) == OPB_OK;

    (void)pthread_mutex_lock(&services->lock); /* a normal mutex: cannot fail */
    services->taken_count--;
    if (is_whole) {
        services->idle[services->idle_count++] = lane;
    }
    else if (lane != NULL) {
        replace_open(services, lane, NULL);
    }
    (void)pthread_cond_signal(&services->given_back);
    (void)pthread_mutex_unlock(&services->lock);
    if (!is_whole) {
        opb_lane_close(lane);
    }
}

/* Closes a lane that the node has closed, keeping the turn. */
static void
discard(struct opb_services *services, struct opb_lane *lane)
{
    (void)pthread_mutex_lock(&services->lock); /* a normal mutex: cannot fail */
    replace_open(services, lane, NULL);
    (void)pthread_mutex_unlock(&services->lock);
    opb_lane_close(lane);
}

/* An idle lane that is still good, or NULL. Stale ones end here. */
static struct opb_lane *
pick_idle(struct opb_services *services, struct opb_lane *lane)
{
    while (lane != NULL && opb_lane_is_stale(lane)) {
        discard(services, lane);
        (void)pthread_mutex_lock(&services->lock); /* a normal mutex: cannot fail */
        lane = services->idle_count > 0 ? services->idle[--services->idle_count] : NULL;
        (void)pthread_mutex_unlock(&services->lock);
    }
    return lane;
}

enum opb_status
opb_service_take(struct opb_link *link, uint64_t deadline_ms, struct opb_lane **out,
                 char *why, size_t why_bytes)
{
    struct opb_services *services = &link->services;
    uint64_t open_deadline_ms;
    struct opb_lane *lane;
    enum opb_status status;

    *out = NULL;
    status = wait_for_turn(services, deadline_ms, &lane);
    if (status != OPB_OK) {
        (void)snprintf(
            why, why_bytes,
            "%u threads that are in no callback are inside SDK calls, which is the "
            "most at the same time, and none of them has finished",
            services->limit);
        return status;
    }
    lane = pick_idle(services, lane);
    if (lane == NULL) {
        open_deadline_ms = opb_deadline_ms(OPB_SERVICE_OPEN_MS);
        status =
            open_lane(link, open_deadline_ms < deadline_ms ? open_deadline_ms : deadline_ms,
                      &lane, why, why_bytes);
        if (status != OPB_OK) {
            end_turn(services, NULL);
            return status;
        }
        (void)pthread_mutex_lock(&services->lock); /* a normal mutex: cannot fail */
        replace_open(services, NULL, lane);
        (void)pthread_mutex_unlock(&services->lock);
    }
    *out = lane;
    return OPB_OK;
}

void
opb_service_give(struct opb_link *link, struct opb_lane **lane)
{
    end_turn(&link->services, *lane);
    *lane = NULL;
}

bool
opb_services_flush(struct opb_services *services)
{
    bool is_rest = false;

    (void)pthread_mutex_lock(&services->lock); /* flushing never blocks for long */
    for (uint32_t i = 0; i < OPB_SERVICE_LANES; i++) {
        struct opb_lane *lane = services->open[i];

        if (lane != NULL && opb_lane_has_posts(lane)) {
            opb_lane_flush(lane);
            is_rest = is_rest || opb_lane_has_posts(lane);
        }
    }
    (void)pthread_mutex_unlock(&services->lock);
    return is_rest;
}
