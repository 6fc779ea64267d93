/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/attach.c - a node asks to be attached
 *
 * Here:      DESCRIBE and ATTACH: whether it may, the sentence that says why not, its
 *            zygote, its first hosts. For node_requests.c.
 * Elsewhere: the node itself (nodes.c), how many hosts it may have (capacity.c), which
 *            scripts (scripts.c), who may connect at all (access.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
is_all_zero(const uint8_t *bytes, size_t count)
{
    uint8_t any = 0;

    for (size_t i = 0; i < count; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* A name that was configured is nobody else's. False: message says so. */
static bool
may_have_name(const struct opb_connection *connection, const char *name, char *message,
              size_t capacity)
{
    if (!connection->has_fixed_name || opb_node_find(connection->pool, name) == NULL) {
        return true;
    }
    (void)snprintf(message, capacity, /* fits */
                   "another server is attached under the name \"%.64s\": give each a "
                   "\"Python.NodeName\" of its own, or leave that out",
                   name);
    return false;
}

/* False: message says why the node may not attach. */
static bool
may_attach(const struct opb_connection *connection, const char *name, const uint8_t *secret,
           size_t secret_bytes, char *message, size_t capacity)
{
    const struct opb_pool *pool = connection->pool;
    const char *why = NULL;

    if (connection->node != NULL) {
        why = "this connection has attached its node already";
    }
    else if (pool->is_stopping || pool->is_draining) {
        why = "the worker is stopping";
    }
    else if (pool->is_managed && pool->nodes != NULL) {
        why = "this worker belongs to another Orthanc, which started it; give each its own";
    }
    else if (secret_bytes != OPB_SECRET_BYTES || is_all_zero(secret, secret_bytes)) {
        why = "the attach secret must be 32 random bytes";
    }
    else if (opb_capacity_grant(pool, NULL, 1) == 0) {
        why = "all hosts that \"MaxHosts\" in the worker's configuration allows belong to "
              "other servers: raise it, or stop one of them";
    }
    if (why != NULL) {
        (void)snprintf(message, capacity, "%s", why); /* fits */
        return false;
    }
    return may_have_name(connection, name, message, capacity) &&
           (!opb_scripts_are_bound(pool) ||
            opb_scripts_check(pool, connection->scripts, message, capacity) == OPB_OK);
}

enum opb_status
opb_attach_serve_describe(struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_reader reader;
    struct opb_script_list *scripts;
    bool has_fixed_name;

    opb_frame_params(frame, &reader);
    scripts = opb_scripts_read(&reader);
    has_fixed_name = opb_read_bool(&reader);
    if (scripts == NULL || opb_reader_finish(&reader) != OPB_OK) {
        opb_scripts_free(scripts);
        return reader.status == OPB_NO_MEMORY ? OPB_NO_MEMORY : OPB_BAD_FRAME;
    }
    opb_scripts_free(connection->scripts);
    connection->scripts = scripts;
    connection->has_fixed_name = has_fixed_name;
    return OPB_OK;
}

/* Modules, and what an environment runs by itself, come before the host is bound to a
 * script. */
static bool
may_preload(const struct opb_pool *pool, const struct opb_preload *preload, char *why,
            size_t capacity)
{
    if (!opb_scripts_are_bound(pool)) {
        return true;
    }
    if (preload->environment != NULL &&
        !opb_scripts_allow(&pool->options->config, preload->environment)) {
        (void)snprintf(
            why, capacity,
            "\"Scripts\" in the worker's configuration does not allow the virtual "
            "environment %.500s: add it there, or leave \"Python.VirtualEnv\" out",
            preload->environment); /* fits */
        return false;
    }
    if (preload->module_count == 0) {
        return true;
    }
    (void)snprintf(
        why, capacity,
        "\"Scripts\" in the worker's configuration allows some scripts only, and "
        "no other modules before them: leave \"Python.Preload\" out"); /* fits */
    return false;
}

static void
log_attached(const struct opb_connection *connection, uint32_t wanted)
{
    const struct opb_node *node = connection->node;
    const struct opb_script_list *scripts = node->scripts;
    char more[32] = "";

    if (scripts != NULL && scripts->count > 1) {
        (void)snprintf(more, sizeof(more), " and %u more", scripts->count - 1); /* fits */
    }
    opb_pool_say(node->pool, node, OPB_LOG_INFO,
                 "attached by process %d of user %u, with the script %s%s, and %u of the "
                 "%u hosts that it asks for",
                 (int)connection->peer.pid, (unsigned)connection->peer.uid,
                 scripts != NULL ? scripts->paths[0] : "that it has not told", more,
                 node->slot_count, wanted);
}

enum opb_status
opb_attach_serve(struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_pool *pool = connection->pool;
    struct opb_reader reader;
    const char *name;
    const uint8_t *secret;
    char why[1024];
    size_t secret_bytes = 0;
    struct opb_preload preload;
    struct opb_node *node;
    uint64_t workers;

    opb_frame_params(frame, &reader);
    name = opb_read_cstr(&reader, false);
    (void)opb_read_cstr(&reader,
                        false); /* Orthanc's version: for the hosts, told by Load */
    (void)opb_read_cstr(&reader, false); /* the node's socket: likewise */
    secret = opb_read_bytes(&reader, &secret_bytes);
    (void)opb_read_uint(&reader,
                        INT32_MAX); /* Orthanc's process id: the socket says it too */
    workers = opb_read_uint(&reader, OPB_MAX_WORKERS);
    opb_preload_read(&preload, &reader);
    if (opb_reader_finish(&reader) != OPB_OK) {
        opb_preload_free(&preload);
        return OPB_BAD_FRAME;
    }
    if (!may_attach(connection, name, secret, secret_bytes, why, sizeof(why)) ||
        !may_preload(pool, &preload, why, sizeof(why))) {
        if (!pool->is_managed) {
            opb_pool_say(pool, NULL, OPB_LOG_WARNING, "refused %s (process %d): %s", name,
                         (int)connection->peer.pid, why);
        }
        opb_preload_free(&preload);
        opb_control_answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME,
                                 why);
        return OPB_OK;
    }
    workers = workers == 0 ? 1 : workers;
    node = opb_node_make(pool, name, secret,
                         opb_capacity_grant(pool, NULL, (uint32_t)workers));
    if (node == NULL) {
        opb_preload_free(&preload);
        opb_control_answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME,
                                 "the worker is out of memory");
        return OPB_OK;
    }
    node->environment = preload.environment;
    preload.environment = NULL;
    node->scripts = connection->scripts;
    connection->scripts = NULL;
    opb_zygote_new(node, &preload);
    node->connection = connection;
    opb_connection_settle(connection, node);
    opb_message_begin_response(pool->message, opb_frame_msgid(frame));
    opb_pack_array(pool->message, 2);
    opb_pack_cstr(pool->message, node->name);
    opb_pack_uint(pool->message, node->slot_count);
    opb_connection_send(connection);
    if (!pool->is_managed) {
        log_attached(connection, (uint32_t)workers);
    }
    for (uint32_t i = 0; i < node->slot_count; i++) {
        opb_host_start(&node->slots[i]);
    }
    return OPB_OK;
}
