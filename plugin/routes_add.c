/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes_add.c - the script registers a callback
 *
 * Here:      what becomes of it: an entry in the table of its host, with Orthanc if it is
 *            the first of its generation and Orthanc starts, else later; or the reason why
 *            not. For SDK calls of the script (sdk_custom.c), and routes_late.c.
 * Elsewhere: the tables (routes.c), the other kinds of callbacks (kinds.c).
 *
 * Orthanc is called without the lock: registering may wait for other threads of the core.
 */
#include "routes.h"

#include "late_routes.h"
#include "log.h"
#include "rest_entries.h"
#include "routes_state.h"
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Remembers why a pattern was refused. Without memory Orthanc is asked again. */
static void
remember_refusal(struct opb_routes *routes, const char *pattern, const char *text)
{
    struct refused *refused = calloc(1, sizeof(*refused));

    if (refused == NULL || (refused->pattern = strdup(pattern)) == NULL) {
        free(refused);
        return;
    }
    (void)snprintf(refused->text, sizeof(refused->text), "%s", text);
    pthread_mutex_lock(&routes->lock);
    refused->next = routes->refused;
    routes->refused = refused;
    pthread_mutex_unlock(&routes->lock);
}

static bool
was_refused(struct opb_routes *routes, const char *pattern, char *text, size_t capacity)
{
    const struct refused *each;

    pthread_mutex_lock(&routes->lock);
    for (each = routes->refused; each != NULL && strcmp(each->pattern, pattern) != 0;
         each = each->next) {
    }
    if (each != NULL) {
        (void)snprintf(text, capacity, "%s", each->text);
    }
    pthread_mutex_unlock(&routes->lock);
    return each != NULL;
}

enum opb_status
opb_routes_register_entry(struct opb_routes *routes, char **pattern, char *text,
                          size_t capacity)
{
    OrthancPluginContext *context = routes->node->context;
    _OrthancPluginRestCallback params;
    OrthancPluginErrorCode code;
    uint32_t entry = routes->patterns.count; /* changes under the registering lock only */

    if (entry == OPB_MAX_ROUTES) {
        (void)snprintf(text, capacity, "A script can register at most %u REST callbacks",
                       OPB_MAX_ROUTES);
        return OPB_TOO_LARGE;
    }
    params.pathRegularExpression = *pattern;
    params.callback = opb_rest_entry(entry);
    opb_shim_forget();
    code = context->InvokeService(context, _OrthancPluginService_RegisterRestCallbackNoLock,
                                  &params);
    if (code != OrthancPluginErrorCode_Success) {
        const char *why = opb_shim_exception();

        (void)snprintf(text, capacity,
                       "Orthanc does not accept the REST callback on URI %s: %s", *pattern,
                       why[0] != '\0' ? why : "the reason is in the log");
        if (why[0] != '\0') {
            remember_refusal(routes, *pattern, text);
        }
        return OPB_REFUSED;
    }
    pthread_mutex_lock(&routes->lock);
    opb_patterns_add(&routes->patterns, pattern);
    pthread_mutex_unlock(&routes->lock);
    return OPB_OK;
}

/* True as well if the host has ended: there is nothing left to do for it. */
static bool
bind_route(struct opb_routes *routes, const struct opb_session *session,
           const char *pattern, uint32_t index)
{
    struct table *table;
    bool is_bound;

    pthread_mutex_lock(&routes->lock);
    table = opb_table_to_fill(routes, session);
    is_bound = table == NULL || opb_table_bind(routes, table, pattern, index);
    pthread_mutex_unlock(&routes->lock);
    return is_bound;
}

/* Remembers a route that has to wait for its entry point, unless its host has ended. Takes
 * *pattern if it does. */
static enum opb_status
remember_route(struct opb_routes *routes, const struct opb_session *session, char **pattern,
               uint32_t index)
{
    enum opb_status status = OPB_OK;
    struct table *table;

    pthread_mutex_lock(&routes->lock);
    table = opb_table_to_fill(routes, session);
    if (table != NULL) {
        status = opb_waiting_add(&table->waiting, pattern, index);
    }
    pthread_mutex_unlock(&routes->lock);
    return status;
}

static enum opb_status
add_rest(struct opb_routes *routes, const struct opb_session *session, const char *pattern,
         uint32_t index, bool is_follower, enum opb_fault *fault, char *text,
         size_t capacity)
{
    enum opb_status status = OPB_OK;
    char *copy = strdup(pattern);

    *fault = OPB_FAULT_RUNTIME;
    if (copy == NULL) {
        goto no_memory;
    }
    if (!is_follower) {
        opb_log_info("Registering a Python REST callback on URI: %s", pattern);
    }
    if (bind_route(routes, session, pattern, index)) {
        free(copy);
        return OPB_OK;
    }
    if (was_refused(routes, pattern, text, capacity)) {
        *fault = OPB_FAULT_VALUE;
        free(copy);
        return OPB_REFUSED;
    }
    if (!is_follower && opb_node_phase(routes->node) == OPB_PHASE_LOADING) {
        pthread_mutex_lock(&routes->registering);
        status = opb_routes_register_entry(routes, &copy, text, capacity);
        pthread_mutex_unlock(&routes->registering);
        if (status == OPB_OK) {
            (void)bind_route(routes, session, pattern,
                             index); /* to the entry that was just made */
        }
        else if (status == OPB_REFUSED) {
            *fault = OPB_FAULT_VALUE;
        }
        free(copy);
        return status;
    }
    status = remember_route(routes, session, &copy, index);
    free(copy);
    if (status != OPB_OK) {
        goto no_memory;
    }
    if (!is_follower) {
        opb_late_wake(routes->late);
    }
    return OPB_OK;

no_memory:
    (void)snprintf(text, capacity, "There is no memory to register a REST callback");
    return OPB_NO_MEMORY;
}

/* Whether a host registers what the others of its generation cannot have any more. Says
 * whether it is one that only follows. */
static bool
is_too_late(struct opb_routes *routes, const struct opb_session *session, bool *is_follower)
{
    const struct table *table;
    uint32_t worker_count;
    bool is_loaded;

    pthread_mutex_lock(&routes->node->lock);
    worker_count = routes->node->worker_count;
    pthread_mutex_unlock(&routes->node->lock);
    pthread_mutex_lock(&routes->lock);
    table = opb_table_of(routes, session);
    *is_follower = table->session == session && table->is_follower;
    is_loaded = table->generation != 0;
    pthread_mutex_unlock(&routes->lock);
    return worker_count > 1 && is_loaded;
}

enum opb_status
opb_routes_add(struct opb_routes *routes, const struct opb_session *session,
               const char *kind, const char *pattern, uint32_t index, enum opb_fault *fault,
               char *text, size_t capacity)
{
    const struct opb_kind *what;
    struct table *table;
    bool is_follower;
    int call;

    if (is_too_late(routes, session, &is_follower)) {
        *fault = OPB_FAULT_RUNTIME;
        (void)snprintf(text, capacity,
                       "With \"Python.Workers\" above 1, callbacks can be registered while "
                       "the script is imported only: the other hosts would not have them");
        return OPB_REFUSED;
    }
    for (call = 0; call < OPB_CALL_COUNT &&
                   strcmp(kind, opb_call_name((enum opb_call_index)call)) != 0;
         call++) {
    }
    if (call == OPB_CALL_REST_INDEX && pattern != NULL && index != NO_INDEX) {
        return add_rest(routes, session, pattern, index, is_follower, fault, text,
                        capacity);
    }
    what = opb_kind((enum opb_call_index)call);
    if (what == NULL) {
        *fault = OPB_FAULT_RUNTIME;
        (void)snprintf(
            text, capacity,
            "Callbacks of the kind \"%s\" are not supported by this version of the "
            "Orthanc Python bridge",
            kind);
        return OPB_REFUSED;
    }
    if (!is_follower) {
        opb_log_info("%s", what->announcement);
        opb_kind_register(&routes->kinds, routes->node, (enum opb_call_index)call);
    }
    pthread_mutex_lock(&routes->lock);
    table = opb_table_to_fill(routes, session);
    if (table != NULL) {
        table->has_kind[call] = true;
        opb_routes_publish_kinds(routes);
    }
    pthread_mutex_unlock(&routes->lock);
    return OPB_OK;
}
