/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node_status.c - how the bridge is, in JSON
 *
 * Here:      asking the other parts, one after the other, and writing it down.
 * Elsewhere: the route that answers with it (admin.c); the parts that need some work
 * (status_*.c); docs/admin-api.md, which says what the fields mean.
 */
#include "plugin/node_status.h"

#include "plugin/events.h"
#include "plugin/pool_state.h"
#include "plugin/routes.h"
#include "plugin/scripts.h"
#include "plugin/session.h"
#include "plugin/status_json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What the pool knows, copied, for its lock is not to be held for long. */
struct facts {
    uint64_t generation;
    uint32_t given_count; /* hosts at a time */
    uint32_t ending_count;
    bool is_reloading;
    bool is_broken;
    bool is_old_gone;
    bool has_failed; /* the last reload */
    char failure[sizeof(((struct opb_reload *)NULL)->text)];
};

/* With the pool's lock held: hosts of one generation have lost their places together. */
static uint32_t
count_ending(const struct opb_pool *pool)
{
    uint64_t last = UINT64_MAX;
    uint32_t count = 0;

    for (const struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (!each->is_done && each->switch_number != last) {
            last = each->switch_number;
            count++;
        }
    }
    return count;
}

static void
look_at_pool(struct opb_pool *pool, struct facts *facts)
{
    pthread_mutex_lock(&pool->lock);
    facts->generation = pool->generation;
    facts->given_count = opb_pool_worker_count(pool);
    facts->ending_count = count_ending(pool);
    facts->is_reloading = pool->step != OPB_STEP_NONE;
    facts->is_broken = pool->is_broken;
    facts->is_old_gone = pool->is_old_gone;
    facts->has_failed = pool->reload_count > 0 && pool->reload.outcome == OPB_RELOAD_FAILED;
    memcpy(facts->failure, pool->reload.text, sizeof(facts->failure));
    pthread_mutex_unlock(&pool->lock);
}

static json_t *
describe_workers(const struct opb_node *node, const struct facts *facts)
{
    json_t *object = json_object();

    opb_json_set_count(object, "Wanted", node->config->workers);
    opb_json_set_count(object, "Given", facts->given_count);
    return object;
}

static json_t *
describe_counts(struct opb_node *node)
{
    struct opb_counts *counts = &node->counts;
    json_t *object = json_object();

    opb_json_set_count(object, "Died", atomic_load(&counts->died));
    opb_json_set_count(object, "Late", atomic_load(&counts->late));
    opb_json_set_count(object, "NoHost", atomic_load(&counts->no_host));
    opb_json_set_count(object, "Repeated", atomic_load(&counts->repeated));
    opb_json_set_count(object, "GivenUp", atomic_load(&counts->given_up));
    opb_json_set_count(object, "Refused", atomic_load(&counts->refused));
    opb_json_set_count(object, "LetIn", atomic_load(&counts->let_in));
    opb_json_set_count(object, "Waiting", atomic_load(&node->waiting_count));
    return object;
}

static json_t *
describe_events(struct opb_node *node)
{
    struct opb_event_counts counts;
    json_t *object = json_object();

    opb_events_count(node->events, &counts);
    opb_json_set_count(object, "Queued", counts.queued);
    opb_json_set_count(object, "Lost", counts.lost);
    opb_json_set_count(object, "SetAside", counts.set_aside);
    return object;
}

static json_t *
describe_reload(const struct opb_node *node, const struct facts *facts)
{
    json_t *object = json_object();

    opb_json_set(object, "Mode",
                 json_string(node->config->reload_replaces ? "replace" : "beside"));
    opb_json_set(object, "OldIsGone", json_boolean(facts->is_old_gone));
    opb_json_set(object, "Running", json_boolean(facts->is_reloading));
    opb_json_set(object, "ScriptIsBroken", json_boolean(facts->is_broken));
    opb_json_set(object, "Failure",
                 facts->has_failed ? opb_json_text(facts->failure) : json_null());
    return object;
}

/* A new worker may call it differently. */
static json_t *
describe_name(struct opb_node *node)
{
    char name[sizeof(node->name)];

    pthread_mutex_lock(&node->lock);
    memcpy(name, node->name, sizeof(name));
    pthread_mutex_unlock(&node->lock);
    return opb_json_text(name);
}

struct lists {
    json_t *waiting;
    json_t *restart;
};

static void
list_route(void *context, const char *what, enum opb_route_wait wait)
{
    struct lists *lists = context;

    (void)json_array_append_new(wait == OPB_ROUTE_WAITS ? lists->waiting : lists->restart,
                                opb_json_text(what)); /* one less, then */
}

static json_t *
describe_scripts(struct opb_node *node)
{
    struct opb_scripts *scripts = opb_node_scripts(node);
    json_t *paths = json_array();

    for (uint32_t i = 0; scripts != NULL && i < scripts->count; i++) {
        (void)json_array_append_new(paths, opb_json_text(scripts->paths[i])); /* one less */
    }
    opb_scripts_unref(scripts);
    return paths;
}

char *
opb_node_status_text(struct opb_node *node)
{
    struct facts *facts = calloc(1, sizeof(*facts)); /* the stack is small */
    struct lists lists = {.waiting = json_array(), .restart = json_array()};
    json_t *status = json_object();
    json_t *restarts;
    char *text;

    if (facts != NULL) {
        look_at_pool(node->pool, facts);
        opb_json_set(status, "Version", json_string(OPB_BUILD_VERSION));
        opb_json_set(status, "Orthanc", opb_json_text(node->context->orthancVersion));
        opb_json_set(status, "Script", opb_json_text(node->config->script_path));
        opb_json_set(status, "Scripts", describe_scripts(node));
        opb_json_set(status, "Node", describe_name(node));
        opb_json_set_age(status, "Uptime", node->born_ms);
        opb_json_set(status, "AdminPath", opb_json_text(node->config->admin_path));
        opb_json_set_count(status, "Generation", facts->generation);
        opb_json_set(status, "Workers", describe_workers(node, facts));
        opb_status_set_hosts(node, status);
        opb_json_set_count(status, "EndingGenerations", facts->ending_count);
        opb_json_set(status, "Reload", describe_reload(node, facts));
        restarts = opb_status_restarts(node);
        opb_json_set(status, "Deaths", opb_status_deaths(node, restarts));
        opb_json_set(status, "Restarts", restarts);
        opb_json_set(status, "Calls", describe_counts(node));
        opb_json_set(status, "Callbacks", opb_status_callbacks(node));
        opb_json_set(status, "Routes", opb_status_routes(node));
        opb_json_set(status, "Exceptions", opb_status_exceptions(node));
        opb_json_set(status, "Generations", opb_status_generations(node));
        opb_json_set(status, "Events", describe_events(node));
        opb_routes_each_waiting(node->routes, list_route, &lists);
        opb_json_set(status, "WaitingRoutes", json_incref(lists.waiting));
        opb_json_set(status, "NeedRestart", json_incref(lists.restart));
    }
    text = facts != NULL ? json_dumps(status, JSON_INDENT(3)) : NULL;
    json_decref(lists.restart);
    json_decref(lists.waiting);
    json_decref(status);
    free(facts);
    return text;
}
