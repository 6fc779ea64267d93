/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/capacity.c - how many hosts a node may have: "MaxHosts"
 *
 * Each node keeps what it was given when it attached, so that none loses a host that works.
 * The next generation's hosts do not count: they replace others, and a full pool could not
 * be reloaded.
 */
#include "worker/supervisor/pool.h"

uint32_t
opb_capacity_grant(const struct opb_pool *pool, uint32_t wanted)
{
    const uint32_t most = pool->options->config.max_hosts;
    uint32_t taken = 0;

    if (most == 0) {
        return wanted;
    }
    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node->state != OPB_NODE_LOST) { /* its hosts are being killed */
            taken += node->slot_count;
        }
    }
    if (taken >= most) {
        return 0;
    }
    return wanted < most - taken ? wanted : most - taken;
}
