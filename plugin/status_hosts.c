/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_hosts.c - the part of the status about hosts
 *
 * Here:      which there are, what each does, its memory.
 */
#include "plugin/status_json.h"

#include "plugin/handles.h"
#include "plugin/pool_state.h"
#include "plugin/process.h"
#include "plugin/session.h"

#include <stdlib.h>
#include <string.h>

#define HANGING "hanging"
#define ENDING  "ending"

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

static json_t *
describe(struct opb_session *session, const char *state)
{
    struct opb_session_look look;
    json_t *host = json_object();

    opb_session_look_at(session, &look);
    opb_json_set_count(host, "Worker", opb_session_worker(session));
    opb_json_set_count(host, "Pid", (uint64_t)opb_session_pid(session));
    opb_json_set(host, "State", json_string(state));
    opb_json_set_count(host, "Calls", look.call_count);
    opb_json_set_count(host, "Running", look.running_count);
    opb_json_set_count(host, "Objects", opb_handles_count(opb_session_handles(session)));
    opb_json_set_age(host, "Uptime", opb_session_born_ms(session));
    set_memory(host, opb_session_pid(session));
    return host;
}

struct hosts {
    struct opb_session *sessions[OPB_POOL_GROUPS + OPB_MAX_WORKERS]; /* references */
    const char *states[OPB_POOL_GROUPS + OPB_MAX_WORKERS];
    uint32_t count;
};

/* session may be NULL. */
static void
add(struct hosts *hosts, struct opb_session *session, const char *state)
{
    if (session != NULL && hosts->count < OPB_POOL_GROUPS + OPB_MAX_WORKERS &&
        !opb_session_is_dead(session)) {
        hosts->sessions[hosts->count] = opb_session_ref(session);
        hosts->states[hosts->count++] = state;
    }
}

static void
add_serving(struct opb_node *node, struct hosts *hosts)
{
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        struct opb_session *session = opb_session_at(node, i);
        struct opb_session_look look;

        if (session != NULL) {
            opb_session_look_at(session, &look);
            add(hosts, session, look.is_condemned ? HANGING : OPB_HOST_SERVING);
            opb_session_unref(session);
        }
    }
}

static void
add_others(struct opb_pool *pool, struct hosts *hosts)
{
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        const struct opb_place *place = &pool->places[i];

        if (place->host != place->main_session || !place->is_loaded) {
            add(hosts, place->host, "starting");
        }
        add(hosts, place->next, "next");
    }
    for (const struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (!each->is_done) {
            add(hosts, each->session, ENDING);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

void
opb_hosts_each(struct opb_node *node,
               void (*visit)(void *context, struct opb_session *session, const char *state),
               void *context)
{
    struct hosts *hosts = calloc(1, sizeof(*hosts)); /* the stack is small */

    if (hosts == NULL) {
        return; /* none, then */
    }
    add_serving(node, hosts);
    add_others(node->pool, hosts);
    for (uint32_t i = 0; i < hosts->count; i++) {
        visit(context, hosts->sessions[i], hosts->states[i]);
        opb_session_unref(hosts->sessions[i]);
    }
    free(hosts);
}

struct lists {
    json_t *serving;
    json_t *starting;
    json_t *ending;
};

static void
list_host(void *context, struct opb_session *session, const char *state)
{
    const struct lists *lists = context;
    json_t *list = lists->starting;

    if (strcmp(state, OPB_HOST_SERVING) == 0 || strcmp(state, HANGING) == 0) {
        list = lists->serving;
    }
    else if (strcmp(state, ENDING) == 0) {
        list = lists->ending;
    }
    (void)json_array_append_new(list, describe(session, state)); /* one less, then */
}

void
opb_status_set_hosts(struct opb_node *node, json_t *status)
{
    struct lists lists = {
        .serving = json_array(), .starting = json_array(), .ending = json_array()};

    opb_hosts_each(node, list_host, &lists);
    opb_json_set(status, "Hosts", lists.serving);
    opb_json_set(status, "StartingHosts", lists.starting);
    opb_json_set(status, "EndingHosts", lists.ending);
}
