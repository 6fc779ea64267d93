/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/capacity.c - how many hosts a node may have: "MaxHosts"
 *
 * Each node keeps what it was given when it attached, so that none loses a host that works;
 * a node that got fewer than it wanted asks again with each generation. Hosts that replace
 * others do not count: a full pool could not be reloaded.
 */
#include "worker/supervisor/pool.h"

/* Those that it has, and those that are more in its next generation, or were to be. */
static uint32_t
count_taken(const struct opb_node *node)
{
    uint32_t count = node->slot_count;

    for (uint32_t i = node->slot_count; i < node->made_count; i++) {
        count += node->slots[i].next != NULL ? 1 : 0;
    }
    return count;
}

uint32_t
opb_capacity_grant(const struct opb_pool *pool, const struct opb_node *asking,
                   uint32_t wanted)
{
    const uint32_t most = pool->options->config.max_hosts;
    const uint32_t least = asking != NULL ? asking->slot_count : 0;
    uint32_t taken = 0;
    uint32_t granted;

    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node != asking && node->state != OPB_NODE_LOST) { /* those are being killed */
            taken += count_taken(node);
        }
    }
    granted = most == 0 ? wanted : taken >= most ? 0 : most - taken;
    if (granted > wanted) {
        granted = wanted;
    }
    return granted > least ? granted : least;
}
