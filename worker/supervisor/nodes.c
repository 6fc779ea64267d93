/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/nodes.c - attached nodes, from their beginning to their end
 *
 * Here:      a node with its name, what it is told of its hosts, detaching, its loss.
 * Elsewhere: whether it may attach (attach.c), what else it asks for (node_requests.c), how
 *            many hosts, and the next generation (slots.c), processes (hosts.c, reaper.c).
 */
#include "worker/supervisor/pool.h"

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
    if (grace_ms > OPB_MAX_GRACE_MS) {
        grace_ms = OPB_MAX_GRACE_MS;
    }
    if (node->state == OPB_NODE_DETACHING && node->detach_step == DETACH_GRACE &&
        grace_ms < uv_timer_get_due_in(&node->detach_timer)) {
        (void)uv_timer_start(&node->detach_timer, on_detach_timer, grace_ms, 0);
    }
    if (node->state != OPB_NODE_ATTACHED) {
        return;
    }
    node->state = OPB_NODE_DETACHING;
    node->detach_step = DETACH_GRACE;
    stop_respawning(node);
    (void)uv_timer_start(&node->detach_timer, on_detach_timer, grace_ms, 0);
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

struct opb_node *
opb_node_make(struct opb_pool *pool, const char *name,
              const uint8_t secret[OPB_SECRET_BYTES], uint32_t slot_count)
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
