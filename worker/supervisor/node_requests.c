/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/node_requests.c - what nodes say on control connections
 *
 * Here:      which message it is; those about hosts, and DETACH. For connection.c.
 * Elsewhere: ATTACH (attach.c), START_NEXT and SWITCH (slots.c), frames (connection.c),
 * what they lead to (nodes.c, hosts.c, stacks.c, look.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/words.h"

void
opb_control_answer_fault(struct opb_connection *connection, uint32_t msgid,
                         enum opb_fault fault, const char *text)
{
    opb_message_error(connection->pool->message, msgid, fault, 0, text);
    opb_connection_send(connection);
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
        opb_control_answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_RUNTIME,
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
        return opb_attach_serve(connection, frame);
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
        return opb_attach_serve_describe(connection, frame);
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
        opb_control_answer_fault(connection, opb_frame_msgid(frame), OPB_FAULT_UNAVAILABLE,
                                 "this worker does not know the request");
    }
    return OPB_OK; /* posts of a newer release are not for us */
}
