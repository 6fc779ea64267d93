/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_hosts.c - the part of the status about hosts
 *
 * Here:      which there are, what each does, its memory.
 */
#include "plugin/status_json.h"

#include "plugin/pool_state.h"
#include "plugin/process.h"
#include "plugin/session.h"

#include <stdlib.h>

static void
set_memory(json_t *host, pid_t pid)
{
    struct opb_process_memory memory;
    json_t *object = json_object();

    (void)opb_process_memory(pid, &memory); /* zeros, then */
    opb_json_set(object, "Pss",
                 memory.pss_kib > 0 ? json_integer((json_int_t)memory.pss_kib * 1024)
                                    : json_null());
    opb_json_set(object, "Rss",
                 memory.rss_kib > 0 ? json_integer((json_int_t)memory.rss_kib * 1024)
                                    : json_null());
    opb_json_set(host, "Memory", object);
}

/* state: NULL for one that serves. */
static json_t *
describe(struct opb_session *session, const char *state)
{
    struct opb_session_look look;
    json_t *host = json_object();

    opb_session_look_at(session, &look);
    if (state == NULL) {
        state = look.is_condemned ? "hanging" : "serving";
    }
    opb_json_set_count(host, "Worker", opb_session_worker(session));
    opb_json_set_count(host, "Pid", (uint64_t)opb_session_pid(session));
    opb_json_set(host, "State", json_string(state));
    opb_json_set_count(host, "Calls", look.call_count);
    opb_json_set_count(host, "Running", look.running_count);
    opb_json_set_age(host, "Uptime", opb_session_born_ms(session));
    set_memory(host, opb_session_pid(session));
    return host;
}

json_t *
opb_status_hosts(struct opb_node *node)
{
    json_t *hosts = json_array();

    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        struct opb_session *session = opb_session_at(node, i);

        if (session != NULL) {
            (void)json_array_append_new(hosts, describe(session, NULL)); /* one less */
            opb_session_unref(session);
        }
    }
    return hosts;
}

struct others {
    struct opb_session *sessions[OPB_POOL_GROUPS]; /* references */
    const char *states[OPB_POOL_GROUPS];
    uint32_t count;
};

/* With the pool's lock held. session may be NULL. */
static void
add_other(struct others *others, struct opb_session *session, const char *state)
{
    if (session != NULL && others->count < OPB_POOL_GROUPS &&
        !opb_session_is_dead(session)) {
        others->sessions[others->count] = opb_session_ref(session);
        others->states[others->count++] = state;
    }
}

static void
collect(struct opb_pool *pool, struct others *others)
{
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        const struct opb_place *place = &pool->places[i];

        if (place->host != NULL &&
            (place->host != place->main_session || !place->is_loaded)) {
            add_other(others, place->host, "starting");
        }
        add_other(others, place->next, "next");
    }
    for (const struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (!each->is_done) {
            add_other(others, each->session, "ending");
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

json_t *
opb_status_other_hosts(struct opb_node *node)
{
    struct others *others = calloc(1, sizeof(*others)); /* the stack is small */
    json_t *hosts = json_array();

    if (others == NULL) {
        return hosts;
    }
    collect(node->pool, others);
    for (uint32_t i = 0; i < others->count; i++) {
        (void)json_array_append_new(hosts,
                                    describe(others->sessions[i], others->states[i]));
        opb_session_unref(others->sessions[i]);
    }
    free(others);
    return hosts;
}
