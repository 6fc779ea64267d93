/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/slots.c - the places that a node has for hosts, and their exchange
 *
 * Here:      how many there are, START_NEXT and SWITCH. Elsewhere: how many there may be
 * (capacity.c), the hosts in them (hosts.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/words.h"

static void
on_slot_timer_closed(uv_handle_t *handle)
{
    const struct opb_slot *slot = handle->data;

    opb_node_release(slot->node);
}

void
opb_slots_make(struct opb_node *node, uint32_t count)
{
    for (; node->made_count < count; node->made_count++) {
        struct opb_slot *slot = &node->slots[node->made_count];

        slot->node = node;
        slot->index = node->made_count;
        (void)uv_timer_init(&node->pool->loop, &slot->timer); /* always 0 */
        slot->timer.data = slot;
        node->open_handles++;
    }
}

void
opb_slots_close(struct opb_node *node)
{
    for (uint32_t i = 0; i < node->made_count; i++) {
        uv_close((uv_handle_t *)&node->slots[i].timer, on_slot_timer_closed);
    }
}

/* Now is when a node that has fewer hosts than it wants may get more: those that it has
 * know how many they are, and may have registered what a single one may. */
static void
grant_next(struct opb_node *node, uint32_t wanted)
{
    struct opb_message *message = node->pool->message;

    node->next_count = opb_capacity_grant(node->pool, node, wanted);
    opb_slots_make(node, node->next_count);
    opb_message_begin_notify(message, OPB_CONTROL_NEXT_COUNT, 1);
    opb_pack_uint(message, node->next_count);
    opb_connection_send(node->connection);
}

enum opb_status
opb_slots_serve_start_next(struct opb_node *node, struct opb_frame *frame)
{
    struct opb_script_list *scripts;
    struct opb_reader reader;
    uint64_t wanted = 0; /* it may be left out */

    opb_frame_params(frame, &reader);
    scripts = opb_scripts_read(&reader);
    if (scripts != NULL && reader.left > 0) {
        wanted = opb_read_uint(&reader, OPB_MAX_WORKERS);
    }
    if (scripts == NULL || opb_reader_finish(&reader) != OPB_OK) {
        opb_scripts_free(scripts);
        return reader.status == OPB_NO_MEMORY ? OPB_NO_MEMORY : OPB_BAD_FRAME;
    }
    if (node == NULL || node->state != OPB_NODE_ATTACHED) {
        opb_scripts_free(scripts);
        return OPB_OK; /* all of its hosts end */
    }
    opb_scripts_free(node->next_scripts);
    node->next_scripts = scripts;
    if (wanted > 0) {
        grant_next(node, (uint32_t)wanted);
    }
    for (uint32_t i = 0; i < node->next_count; i++) {
        opb_host_start_next(&node->slots[i]);
    }
    return OPB_OK;
}

enum opb_status
opb_slots_serve_switch(struct opb_node *node, struct opb_frame *frame)
{
    struct opb_reader reader;
    struct opb_reader items;
    uint32_t ids[OPB_MAX_WORKERS] = {0};
    uint32_t count;

    opb_frame_params(frame, &reader);
    count = opb_read_array(&reader, &items);
    for (uint32_t i = 0; i < count && i < OPB_MAX_WORKERS; i++) {
        ids[i] = (uint32_t)opb_read_uint(&items, UINT32_MAX);
    }
    if (opb_reader_finish(&reader) != OPB_OK || opb_reader_finish(&items) != OPB_OK ||
        (node != NULL && count != node->slot_count && count != node->next_count)) {
        return OPB_BAD_FRAME;
    }
    if (node == NULL || node->state != OPB_NODE_ATTACHED) {
        return OPB_OK; /* all of its hosts end */
    }
    if (node->next_scripts != NULL) {
        opb_scripts_free(node->scripts);
        node->scripts = node->next_scripts;
        node->next_scripts = NULL;
    }
    opb_message_begin_notify(node->pool->message, OPB_CONTROL_SWITCHED, 1);
    opb_pack_uint(node->pool->message, ids[0]);
    opb_connection_send(node->connection);
    node->slot_count = count;
    for (uint32_t i = 0; i < count; i++) {
        opb_host_switch(&node->slots[i], ids[i]); /* its news come after */
    }
    return OPB_OK;
}
