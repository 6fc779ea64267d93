/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/nodes.c - attached nodes and what they say on control connections
 *
 * Here:      ATTACH, DETACH and REPLACE_HOST, the news of hosts, and the end of a node.
 * Elsewhere: how many hosts, and the next generation (slots.c), frames (connection.c),
 *            processes (hosts.c, reaper.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum detach_step { DETACH_GRACE, DETACH_TERMINATED, DETACH_KILLED };

struct opb_node *
opb_node_find(struct opb_pool *pool, const char *name)
{
    for (struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node->state != OPB_NODE_LOST && strcmp(node->name, name) == 0) {
            return node;
        }
    }
    return NULL;
}

void
opb_node_release(struct opb_node *node)
{
    if (--node->open_handles == 0) {
        free(node->environment);
        opb_scripts_free(node->scripts);
        opb_scripts_free(node->next_scripts);
        free(node);
    }
}

static void
on_detach_timer_closed(uv_handle_t *handle)
{
    opb_node_release(handle->data);
}

void
opb_node_forget(struct opb_node *node)
{
    struct opb_pool *pool = node->pool;

    for (struct opb_node **at = &pool->nodes; *at != NULL; at = &(*at)->next) {
        if (*at == node) {
            *at = node->next;
            break;
        }
    }
    if (node->connection != NULL) {
        node->connection->node = NULL;
    }
    if (!pool->is_managed) {
        opb_pool_say(pool, node, OPB_LOG_INFO, "detached; nothing of it is left");
    }
    opb_zygote_free(node);
    uv_close((uv_handle_t *)&node->detach_timer, on_detach_timer_closed);
    opb_slots_close(node);
    opb_pool_check_stopped(pool);
}

static bool
node_has_hosts(const struct opb_node *node)
{
    for (const struct opb_host *host = node->pool->hosts; host != NULL; host = host->next) {
        if (host->node == node) {
            return true;
        }
    }
    for (const struct opb_host *host = node->pool->dead; host != NULL; host = host->next) {
        if (host->node == node) {
            return true;
        }
    }
    return false;
}

static void
node_kill_hosts(struct opb_node *node, int signal_number)
{
    for (struct opb_host *host = node->pool->hosts; host != NULL; host = host->next) {
        if (host->node == node) {
            opb_host_kill(host, signal_number);
        }
    }
}

/* If nothing of a node that is ending is left: answers and forgets it. */
static void
node_check_ended(struct opb_node *node)
{
    if (node->state == OPB_NODE_ATTACHED || node_has_hosts(node)) {
        return;
    }
    if (node->is_answer_due && node->connection != NULL) {
        opb_message_begin_response(node->pool->message, node->detach_msgid);
        opb_pack_nil(node->pool->message);
        opb_connection_send(node->connection);
    }
    opb_node_forget(node);
}

static void
stop_respawning(struct opb_node *node)
{
    for (uint32_t i = 0; i < node->slot_count; i++) {
        (void)uv_timer_stop(&node->slots[i].timer); /* always 0 */
    }
    opb_zygote_end(node);
}

static void
on_detach_timer(uv_timer_t *timer)
{
    struct opb_node *node = timer->data;

    if (node->detach_step == DETACH_GRACE) {
        node->detach_step = DETACH_TERMINATED;
        opb_pool_log(node->pool, node, OPB_LOG_WARNING,
                     "Python did not finish in time: sending it SIGTERM");
        node_kill_hosts(node, SIGTERM);
        (void)uv_timer_start(timer, on_detach_timer, OPB_TERMINATE_MS, 0);
    }
    else if (node->detach_step == DETACH_TERMINATED) {
        node->detach_step = DETACH_KILLED;
        opb_pool_log(node->pool, node, OPB_LOG_WARNING,
                     "Python did not end on SIGTERM: killing it");
        node_kill_hosts(node, SIGKILL);
        (void)uv_timer_start(timer, on_detach_timer, OPB_TERMINATE_MS, 0);
    }
    else {
        opb_pool_log(node->pool, node, OPB_LOG_ERROR,
                     "a Python process does not end on SIGKILL: the kernel holds it");
    }
}

void
opb_node_detach(struct opb_node *node, uint64_t grace_ms)
{
    if (node->state != OPB_NODE_ATTACHED) {
        return;
    }
    node->state = OPB_NODE_DETACHING;
    node->detach_step = DETACH_GRACE;
    stop_respawning(node);
    (void)uv_timer_start(&node->detach_timer, on_detach_timer,
                         grace_ms < OPB_MAX_GRACE_MS ? grace_ms : OPB_MAX_GRACE_MS, 0);
    node_check_ended(node);
}

void
opb_node_leave(struct opb_node *node, uint64_t grace_ms)
{
    struct opb_message *message = node->pool->message;

    if (node->state == OPB_NODE_ATTACHED && node->connection != NULL) {
        opb_message_begin_notify(message, OPB_CONTROL_LEAVING, 0);
        opb_connection_send(node->connection);
    }
    opb_node_detach(node, grace_ms);
}

void
opb_node_lost(struct opb_node *node)
{
    struct opb_pool *pool = node->pool;
    struct opb_connection *connection = node->connection;

    if (node->state == OPB_NODE_LOST) {
        return;
    }
    node->connection = NULL;
    if (connection != NULL) {
        connection->node = NULL;
        opb_connection_close(connection);
    }
    node->state = OPB_NODE_LOST;
    stop_respawning(node);
    (void)uv_timer_stop(&node->detach_timer); /* always 0 */
    opb_pool_log(pool, node, OPB_LOG_WARNING,
                 "node %s is gone: ending its Python processes", node->name);
    node_kill_hosts(node, SIGKILL);
    node_check_ended(node); /* may free it */
    if (pool->is_managed) {
        opb_pool_stop(pool);
    }
}

static void
on_respawn_timer(uv_timer_t *timer)
{
    opb_host_start(timer->data);
}

void
opb_node_slot_free(struct opb_node *node, struct opb_slot *slot)
{
    if (node->state == OPB_NODE_ATTACHED && !node->pool->is_stopping) {
        (void)uv_timer_start(&slot->timer, on_respawn_timer, slot->respawn_delay_ms, 0);
        return;
    }
    node_check_ended(node);
}

void
opb_node_host_gone(struct opb_node *node)
{
    node_check_ended(node);
}

/* If the node listens. */
static void
tell(const struct opb_node *node, enum opb_control_method method, uint32_t host_id,
     pid_t pid, uint32_t slot)
{
    struct opb_message *message = node->pool->message;

    if (node->connection != NULL) {
        opb_message_begin_notify(message, method, 3);
        opb_pack_uint(message, host_id);
        opb_pack_uint(message, (uint64_t)pid);
        opb_pack_uint(message, slot);
        opb_connection_send(node->connection);
    }
}

void
opb_node_ask_reload(struct opb_node *node)
{
    struct opb_message *message = node->pool->message;

    if (node->connection != NULL && node->state == OPB_NODE_ATTACHED) {
        opb_message_begin_notify(message, OPB_CONTROL_RELOAD, 0);
        opb_connection_send(node->connection);
    }
}

void
opb_node_next_started(const struct opb_slot *slot, uint32_t host_id, pid_t pid)
{
    tell(slot->node, OPB_CONTROL_NEXT_STARTED, host_id, pid, slot->index);
}

void
opb_node_host_started(struct opb_node *node, const struct opb_host *host)
{
    tell(node, OPB_CONTROL_HOST_STARTED, host->id, host->pid, host->slot);
}

void
opb_node_host_died(struct opb_node *node, uint32_t host_id, pid_t pid, const char *reason)
{
    struct opb_message *message = node->pool->message;

    if (!node->pool->is_managed) {
        opb_pool_say(node->pool, node, OPB_LOG_INFO, "host %u (pid %d) %s", host_id,
                     (int)pid, reason);
    }
    if (node->connection != NULL) {
        opb_message_begin_notify(message, OPB_CONTROL_HOST_DIED, 3);
        opb_pack_uint(message, host_id);
        opb_pack_uint(message, (uint64_t)pid);
        opb_pack_cstr(message, reason);
        opb_connection_send(node->connection);
    }
}

/* Cuts in the middle of no UTF-8 character. */
static size_t
cut_length(const char *text, size_t most)
{
    size_t length = strnlen(text, most + 1);

    if (length <= most) {
        return length;
    }
    length = most;
    while (length > 0 && ((unsigned char)text[length] & 0xc0u) == 0x80u) {
        length--;
    }
    return length;
}

/* A name that no other node has, fit for log lines. */
static void
choose_name(struct opb_pool *pool, const char *wanted, char out[OPB_NODE_NAME_BYTES + 1])
{
    char base[OPB_NODE_NAME_BYTES + 1];
    char suffix[16] = "";

    if (wanted[0] == '\0') {
        wanted = "orthanc";
    }
    (void)snprintf(base, sizeof(base), "%.*s", (int)cut_length(wanted, OPB_NODE_NAME_BYTES),
                   wanted); /* fits */
    for (char *c = base; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    for (unsigned int number = 2;;
         number++) { /* ends: there are fewer nodes than numbers */
        size_t room = OPB_NODE_NAME_BYTES - strlen(suffix);

        (void)snprintf(out, OPB_NODE_NAME_BYTES + 1, "%.*s%s", (int)cut_length(base, room),
                       base, suffix); /* fits */
        if (opb_node_find(pool, out) == NULL) {
            return;
        }
        (void)snprintf(suffix, sizeof(suffix), "-%u", number); /* fits */
    }
}

static struct opb_node *
node_new(struct opb_pool *pool, const char *name, const uint8_t secret[OPB_SECRET_BYTES],
         uint32_t slot_count)
{
    struct opb_node *node = calloc(1, sizeof(*node));

    if (node == NULL) {
        return NULL;
    }
    node->pool = pool;
    node->slot_count = slot_count;
    node->next_count = slot_count;
    choose_name(pool, name, node->name);
    memcpy(node->secret, secret, OPB_SECRET_BYTES);
    (void)uv_timer_init(&pool->loop, &node->detach_timer); /* always 0 */
    node->detach_timer.data = node;
    node->open_handles = 1;
    opb_slots_make(node, slot_count);
    node->next = pool->nodes;
    pool->nodes = node;
    return node;
}

static void
answer_fault(struct opb_connection *connection, uint32_t msgid, enum opb_fault fault,
             const char *text)
{
    opb_message_error(connection->pool->message, msgid, fault, 0, text);
    opb_connection_send(connection);
}

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

/* What the node is, before it attaches. */
static enum opb_status
serve_describe(struct opb_connection *connection, struct opb_frame *frame)
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

static enum opb_status
serve_attach(struct opb_connection *connection, struct opb_frame *frame)
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
        answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME, why);
        return OPB_OK;
    }
    workers = workers == 0 ? 1 : workers;
    node = node_new(pool, name, secret, opb_capacity_grant(pool, NULL, (uint32_t)workers));
    if (node == NULL) {
        opb_preload_free(&preload);
        answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME,
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

static enum opb_status
serve_detach(struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_node *node = connection->node;
    struct opb_reader reader;
    uint64_t grace_ms;

    opb_frame_params(frame, &reader);
    grace_ms = opb_read_uint(&reader, UINT64_MAX);
    if (opb_reader_finish(&reader) != OPB_OK) {
        return OPB_BAD_FRAME;
    }
    if (node == NULL || node->state != OPB_NODE_ATTACHED) {
        answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME,
                     node == NULL ? "this connection has no attached node"
                                  : "the node is being detached already");
        return OPB_OK;
    }
    node->is_answer_due = true;
    node->detach_msgid = opb_frame_msgid(frame);
    opb_node_detach(node, grace_ms);
    return OPB_OK;
}

/* how: opb_host_replace or opb_stacks_ask. */
static enum opb_status
serve_replace_host(struct opb_connection *connection, struct opb_frame *frame,
                   void (*how)(struct opb_host *host, const char *reason))
{
    struct opb_node *node = connection->node;
    struct opb_reader reader;
    struct opb_host *host;
    const char *reason;
    uint32_t id;

    opb_frame_params(frame, &reader);
    id = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    reason = opb_read_cstr(&reader, false);
    if (opb_reader_finish(&reader) != OPB_OK) {
        return OPB_BAD_FRAME;
    }
    host = node != NULL ? opb_host_find(node, id) : NULL;
    if (host != NULL) {
        how(host, reason);
    }
    return OPB_OK; /* an unknown host has died meanwhile, and the node is being told */
}

static enum opb_status
serve_look(const struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_node *node = connection->node;
    struct opb_reader reader;
    uint32_t ticket;
    uint32_t id;

    opb_frame_params(frame, &reader);
    id = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    ticket = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    if (opb_reader_finish(&reader) != OPB_OK) {
        return OPB_BAD_FRAME;
    }
    if (node != NULL) {
        opb_look_begin(node, opb_host_find(node, id), ticket);
    }
    return OPB_OK;
}

static enum opb_status
serve_limit_restarts(struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_node *node = connection->node;
    struct opb_reader reader;
    uint64_t restarts;
    uint64_t window_ms;

    opb_frame_params(frame, &reader);
    restarts = opb_read_uint(&reader, OPB_MAX_RESTARTS);
    window_ms = opb_read_uint(&reader, UINT32_MAX);
    if (opb_reader_finish(&reader) != OPB_OK) {
        return OPB_BAD_FRAME;
    }
    if (node != NULL) {
        node->max_restarts = (uint32_t)restarts;
        node->restart_window_ms = window_ms;
        for (uint32_t i = 0; i < node->made_count; i++) {
            node->slots[i].death_count = 0; /* the ring has another length now */
            node->slots[i].is_slow = false;
        }
    }
    return OPB_OK;
}

enum opb_status
opb_control_serve(struct opb_connection *connection, struct opb_frame *frame)
{
    const enum opb_frame_type type = opb_frame_type(frame);
    uint32_t method;

    if (type == OPB_RESPONSE) {
        return OPB_BAD_FRAME; /* the pool asks nothing */
    }
    method = opb_frame_method(frame);
    if (type == OPB_REQUEST && method == OPB_CONTROL_ATTACH) {
        return serve_attach(connection, frame);
    }
    if (type == OPB_REQUEST && method == OPB_CONTROL_DETACH) {
        return serve_detach(connection, frame);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_REPLACE_HOST) {
        return serve_replace_host(connection, frame, opb_host_replace);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_HOST_HANGS) {
        return serve_replace_host(connection, frame, opb_stacks_ask);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_DESCRIBE) {
        return serve_describe(connection, frame);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_LIMIT_RESTARTS) {
        return serve_limit_restarts(connection, frame);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_START_NEXT) {
        return opb_slots_serve_start_next(connection->node, frame);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_LOOK) {
        return serve_look(connection, frame);
    }
    if (type == OPB_NOTIFY && method == OPB_CONTROL_SWITCH) {
        return opb_slots_serve_switch(connection->node, frame);
    }
    if (type == OPB_REQUEST) {
        answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_UNAVAILABLE,
                     "this worker does not know the request");
    }
    return OPB_OK; /* posts of a newer release are not for us */
}
