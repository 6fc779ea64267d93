/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/late_routes.c - REST routes that appear while Orthanc serves
 *
 * States: open; draining (new requests wait at the gate in our HTTP filter, where Orthanc
 * holds no REST lock; nested calls pass); registering (no REST callback of ours runs; one
 * that slips in bounces). Every wait has an end: a callback that waits for a request of its
 * own to this server would drain never, so that the gate reopens and it is tried again
 * later.
 */
#include "late_routes.h"

#include "call.h"
#include "config.h"
#include "log.h"
#include "threads.h"

#include "protocol/sockets.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_MS       5000u
#define GATE_MS        10000u
#define FIRST_RETRY_MS 1000u
#define LAST_RETRY_MS  60000u

enum late_state { LATE_OPEN, LATE_DRAINING, LATE_REGISTERING };

struct opb_late {
    struct opb_node *node;
    struct opb_routes *routes;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    enum late_state state;
    uint32_t running; /* REST callbacks, nested ones too */
    bool has_thread;
    bool is_woken;
    bool is_stopping;
    pthread_t thread;
};

enum opb_status
opb_late_new(struct opb_late **out, struct opb_node *node, struct opb_routes *routes)
{
    struct opb_late *late = calloc(1, sizeof(*late));

    *out = NULL;
    if (late == NULL || opb_condition_init(&late->changed) != OPB_OK) {
        free(late);
        return OPB_NO_MEMORY;
    }
    late->node = node;
    late->routes = routes;
    pthread_mutex_init(&late->lock, NULL);
    *out = late;
    return OPB_OK;
}

void
opb_late_free(struct opb_late *late)
{
    if (late == NULL) {
        return;
    }
    pthread_mutex_lock(&late->lock);
    late->is_stopping = true;
    pthread_cond_broadcast(&late->changed);
    pthread_mutex_unlock(&late->lock);
    if (late->has_thread) {
        opb_own_thread_join(late->thread, "the registration of a late REST route");
    }
    pthread_cond_destroy(&late->changed);
    pthread_mutex_destroy(&late->lock);
    free(late);
}

/* With the lock held. False once deadline_ms has passed. */
static bool
wait_changed(struct opb_late *late, uint64_t deadline_ms)
{
    return opb_condition_wait(&late->changed, &late->lock, deadline_ms) == OPB_OK;
}

void
opb_late_gate(struct opb_late *late)
{
    uint64_t deadline_ms;

    pthread_mutex_lock(&late->lock);
    if (late->state != LATE_OPEN && opb_call_depth() == 0) {
        deadline_ms = opb_deadline_ms(GATE_MS);
        while (late->state != LATE_OPEN && wait_changed(late, deadline_ms)) {
        }
    }
    pthread_mutex_unlock(&late->lock);
}

bool
opb_late_enter(struct opb_late *late)
{
    bool may_run;

    pthread_mutex_lock(&late->lock);
    late->running++;
    may_run = late->state != LATE_REGISTERING;
    pthread_mutex_unlock(&late->lock);
    return may_run;
}

void
opb_late_leave(struct opb_late *late)
{
    pthread_mutex_lock(&late->lock);
    if (--late->running == 0 && late->state == LATE_DRAINING) {
        pthread_cond_broadcast(&late->changed);
    }
    pthread_mutex_unlock(&late->lock);
}

enum other_plugins { OTHERS_NONE, OTHERS_SOME, OTHERS_UNKNOWN };

/* Whether plugins beside this one may be serving REST routes: any may. */
static enum other_plugins
other_plugins(struct opb_node *node)
{
    OrthancPluginMemoryBuffer buffer = {.data = NULL};
    enum other_plugins others = OTHERS_UNKNOWN;
    json_t *list;
    json_t *name;
    size_t i;

    if (OrthancPluginRestApiGet(node->context, &buffer, "/plugins") !=
        OrthancPluginErrorCode_Success) {
        return OTHERS_UNKNOWN;
    }
    list = json_loadb(buffer.data, buffer.size, 0, NULL);
    OrthancPluginFreeMemoryBuffer(node->context, &buffer);
    if (json_is_array(list)) {
        others = OTHERS_NONE;
        json_array_foreach(list, i, name)
        {
            const char *text = json_string_value(name);

            if (text == NULL ||
                (strcmp(text, "python") != 0 && strcmp(text, "explorer.js") != 0)) {
                others = OTHERS_SOME;
            }
        }
    }
    json_decref(list);
    return others;
}

static void
set_state(struct opb_late *late, enum late_state state)
{
    pthread_mutex_lock(&late->lock);
    late->state = state;
    pthread_cond_broadcast(&late->changed);
    pthread_mutex_unlock(&late->lock);
}

/* Waits until no REST callback runs, and makes those that slip in bounce. */
static bool
drain(struct opb_late *late)
{
    uint64_t deadline_ms = opb_deadline_ms(DRAIN_MS);
    bool is_drained;

    pthread_mutex_lock(&late->lock);
    late->state = LATE_DRAINING;
    while (late->running > 0 && !late->is_stopping && wait_changed(late, deadline_ms)) {
    }
    is_drained = late->running == 0 && !late->is_stopping;
    if (is_drained) {
        late->state = LATE_REGISTERING;
    }
    pthread_mutex_unlock(&late->lock);
    return is_drained;
}

/* One attempt. False: try again later. */
static bool
attempt(struct opb_late *late)
{
    uint32_t count;

    if (opb_node_phase(late->node) != OPB_PHASE_RUNNING) {
        return opb_node_phase(late->node) > OPB_PHASE_RUNNING; /* later, or never */
    }
    if (!late->node->config->late_routes) {
        switch (other_plugins(late->node)) {
        case OTHERS_UNKNOWN:
            return false; /* the server is not ready to answer */
        case OTHERS_SOME:
            opb_routes_refuse_waiting(
                late->routes,
                "other plugins are loaded, whose REST callbacks it could block. "
                "If none of them serves REST routes, the option "
                "\"Python\" : { \"LateRoutes\" : true } allows it");
            return true;
        case OTHERS_NONE:
            break;
        }
    }
    if (!drain(late)) {
        set_state(late, LATE_OPEN);
        opb_log_info(
            "REST routes still wait to be registered: REST callbacks have been running "
            "for %u seconds",
            DRAIN_MS / 1000u);
        return false;
    }
    if (opb_node_phase(late->node) != OPB_PHASE_RUNNING) { /* Orthanc has begun to stop */
        set_state(late, LATE_OPEN);
        return true;
    }
    count = opb_routes_register_waiting(late->routes);
    set_state(late, LATE_OPEN);
    opb_log_info("%u REST routes that were registered after the start of Orthanc are now "
                 "effective",
                 count);
    return true;
}

static void *
late_main(void *argument)
{
    struct opb_late *late = argument;
    uint64_t retry_ms = FIRST_RETRY_MS;

    opb_call_mark_own_thread();
    pthread_mutex_lock(&late->lock);
    while (!late->is_stopping) {
        bool is_done;

        if (!late->is_woken) {
            (void)wait_changed(late, opb_deadline_ms(LAST_RETRY_MS)); /* or woken */
            continue;
        }
        late->is_woken = false;
        pthread_mutex_unlock(&late->lock);
        is_done = !opb_routes_has_waiting(late->routes) || attempt(late);
        pthread_mutex_lock(&late->lock);
        if (is_done) {
            retry_ms = FIRST_RETRY_MS;
            continue;
        }
        if (!late->is_stopping) {
            uint64_t until_ms = opb_deadline_ms(retry_ms);

            while (!late->is_stopping && wait_changed(late, until_ms)) {
            }
        }
        late->is_woken = true;
        retry_ms = retry_ms * 2 < LAST_RETRY_MS ? retry_ms * 2 : LAST_RETRY_MS;
    }
    pthread_mutex_unlock(&late->lock);
    return NULL;
}

void
opb_late_wake(struct opb_late *late)
{
    enum opb_status status = OPB_OK;

    pthread_mutex_lock(&late->lock);
    if (!late->has_thread && !late->is_stopping) {
        status = opb_own_thread_start(&late->thread, late_main, late, "PY-ROUTES");
        late->has_thread = status == OPB_OK;
    }
    late->is_woken = true;
    pthread_cond_broadcast(&late->changed);
    pthread_mutex_unlock(&late->lock);
    if (status != OPB_OK) {
        opb_routes_refuse_waiting(late->routes,
                                  "no thread could be started to register it");
    }
}
