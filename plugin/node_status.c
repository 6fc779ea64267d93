/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node_status.c - how the bridge is, in JSON
 *
 * Here:      asking the other parts, one after the other, and writing it down.
 * Elsewhere: the route that answers with it (admin.c); docs/configuration.md, which says
 * what the fields mean.
 */
#include "plugin/node_status.h"

#include "plugin/events.h"
#include "plugin/pool_state.h"
#include "plugin/routes.h"
#include "plugin/scripts.h"
#include "plugin/session.h"
#include "protocol/sockets.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIME_BYTES 32u
#define MAX_ENDING 256u /* hosts; more would be a list that nobody reads */

/* What the pool knows, copied, for its lock is not to be held for long. */
struct facts {
    uint64_t generation;
    uint32_t given_count; /* hosts at a time */
    uint32_t ending_count;
    bool is_reloading;
    bool is_broken;
    bool has_failed; /* the last reload */
    char failure[sizeof(((struct opb_reload *)NULL)->text)];
    struct opb_deaths deaths;
};

/* Without memory objects are NULL, for which jansson does nothing. Takes value. */
static void
set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* a field less, then */
}

static void
set_count(json_t *object, const char *key, uint64_t count)
{
    set(object, key, json_integer((json_int_t)count));
}

static void
set_age(json_t *object, uint64_t since_ms)
{
    set(object, "Uptime", json_real((double)(opb_clock_ms() - since_ms) / 1000.0));
}

json_t *
opb_json_text(const char *text)
{
    size_t bytes = strlen(text);
    json_t *value = json_stringn(text, bytes);

    for (int i = 0; i < 3 && value == NULL && bytes > 0; i++) {
        value = json_stringn(text, --bytes);
    }
    return value != NULL ? value : json_string("(not UTF-8)");
}

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
    facts->has_failed = pool->reload_count > 0 && pool->reload.outcome == OPB_RELOAD_FAILED;
    memcpy(facts->failure, pool->reload.text, sizeof(facts->failure));
    facts->deaths = pool->deaths;
    pthread_mutex_unlock(&pool->lock);
}

/* Takes a reference. */
static void
append_host(json_t *hosts, struct opb_session *session)
{
    json_t *host = json_object();

    set_count(host, "Worker", opb_session_worker(session));
    set_count(host, "Pid", (uint64_t)opb_session_pid(session));
    set_count(host, "Calls", opb_session_call_count(session));
    set_count(host, "Running", opb_session_running_count(session));
    set_age(host, opb_session_born_ms(session));
    opb_session_unref(session);
    (void)json_array_append_new(hosts, host); /* one less, then */
}

static json_t *
describe_hosts(struct opb_node *node)
{
    json_t *hosts = json_array();

    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        struct opb_session *session = opb_session_at(node, i);

        if (session != NULL) {
            append_host(hosts, session);
        }
    }
    return hosts;
}

/* Those that have lost their places, and finish what they have begun. */
static json_t *
describe_ending(struct opb_pool *pool)
{
    struct opb_session *sessions[MAX_ENDING];
    json_t *hosts = json_array();
    uint32_t count = 0;

    pthread_mutex_lock(&pool->lock);
    for (const struct opb_retired *each = pool->retired; each != NULL && count < MAX_ENDING;
         each = each->next) {
        if (each->session != NULL && !opb_session_is_dead(each->session)) {
            sessions[count++] = opb_session_ref(each->session);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < count; i++) {
        append_host(hosts, sessions[i]);
    }
    return hosts;
}

static json_t *
describe_workers(const struct opb_node *node, const struct facts *facts)
{
    json_t *object = json_object();

    set_count(object, "Wanted", node->config->workers);
    set_count(object, "Given", facts->given_count);
    return object;
}

static json_t *
describe_deaths(const struct opb_deaths *deaths)
{
    json_t *object = json_object();
    char when[TIME_BYTES] = "";
    json_t *last = json_null();
    struct tm parts;

    if (deaths->count > 0) {
        if (gmtime_r(&deaths->when, &parts) != NULL) {
            (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &parts);
        }
        last = json_object();
        set_count(last, "Pid", (uint64_t)deaths->pid);
        set(last, "Reason", opb_json_text(deaths->reason));
        set(last, "At", json_string(when));
    }
    set_count(object, "Count", deaths->count);
    set(object, "Last", last);
    return object;
}

static json_t *
describe_counts(struct opb_node *node)
{
    struct opb_counts *counts = &node->counts;
    json_t *object = json_object();

    set_count(object, "Died", atomic_load(&counts->died));
    set_count(object, "Late", atomic_load(&counts->late));
    set_count(object, "NoHost", atomic_load(&counts->no_host));
    set_count(object, "Repeated", atomic_load(&counts->repeated));
    set_count(object, "GivenUp", atomic_load(&counts->given_up));
    set_count(object, "Refused", atomic_load(&counts->refused));
    set_count(object, "LetIn", atomic_load(&counts->let_in));
    return object;
}

static json_t *
describe_events(struct opb_node *node)
{
    struct opb_event_counts counts;
    json_t *object = json_object();

    opb_events_count(node->events, &counts);
    set_count(object, "Queued", counts.queued);
    set_count(object, "Lost", counts.lost);
    set_count(object, "SetAside", counts.set_aside);
    return object;
}

static json_t *
describe_reload(const struct facts *facts)
{
    json_t *object = json_object();

    set(object, "Running", json_boolean(facts->is_reloading));
    set(object, "ScriptIsBroken", json_boolean(facts->is_broken));
    set(object, "Failure", facts->has_failed ? opb_json_text(facts->failure) : json_null());
    return object;
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
    char *text;

    if (facts != NULL) {
        look_at_pool(node->pool, facts);
        set(status, "Version", json_string(OPB_BUILD_VERSION));
        set(status, "Orthanc", opb_json_text(node->context->orthancVersion));
        set(status, "Script", opb_json_text(node->config->script_path));
        set(status, "Scripts", describe_scripts(node));
        set_age(status, node->born_ms);
        set_count(status, "Generation", facts->generation);
        set(status, "Workers", describe_workers(node, facts));
        set(status, "Hosts", describe_hosts(node));
        set_count(status, "EndingGenerations", facts->ending_count);
        set(status, "EndingHosts", describe_ending(node->pool));
        set(status, "Reload", describe_reload(facts));
        set(status, "Deaths", describe_deaths(&facts->deaths));
        set(status, "Calls", describe_counts(node));
        set(status, "Events", describe_events(node));
        opb_routes_each_waiting(node->routes, list_route, &lists);
        set(status, "WaitingRoutes", json_incref(lists.waiting));
        set(status, "NeedRestart", json_incref(lists.restart));
    }
    text = facts != NULL ? json_dumps(status, JSON_INDENT(3)) : NULL;
    json_decref(lists.restart);
    json_decref(lists.waiting);
    json_decref(status);
    free(facts);
    return text;
}
