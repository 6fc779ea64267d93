/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node.c - the one node of the process, and its phase
 *
 * Here:      making a node, finding it from callbacks that carry no pointer.
 * Elsewhere: what it points to; plugin.c fills it in and empties it.
 */
#include "plugin/node.h"

#include "plugin/call_stats.h"
#include "plugin/history.h"
#include "plugin/scripts.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(struct opb_node *) current_node;

enum opb_status
opb_node_new(struct opb_node **out)
{
    struct opb_node *node;

    *out = NULL;
    node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return OPB_NO_MEMORY;
    }
    if (opb_call_stats_new(&node->call_stats) != OPB_OK) {
        goto free_node;
    }
    if (opb_history_new(&node->history) != OPB_OK) {
        goto free_call_stats;
    }
    if (pthread_mutex_init(&node->lock, NULL) != 0) {
        goto free_history;
    }
    if (opb_condition_init(&node->changed) != OPB_OK) {
        goto fini_lock;
    }
    node->born_ms = opb_clock_ms();
    node->worker_count = 1;
    *out = node;
    return OPB_OK;

fini_lock:
    (void)pthread_mutex_destroy(&node->lock); /* nobody can hold it */
free_history:
    opb_history_free(node->history);
free_call_stats:
    opb_call_stats_free(node->call_stats);
free_node:
    free(node);
    return OPB_NO_MEMORY;
}

void
opb_node_free(struct opb_node *node)
{
    if (node == NULL) {
        return;
    }
    opb_scripts_unref(node->scripts);
    opb_config_free(node->config);
    opb_history_free(node->history);
    opb_call_stats_free(node->call_stats);
    explicit_bzero(node->secret, sizeof(node->secret));
    (void)pthread_cond_destroy(&node->changed); /* nobody waits any more */
    (void)pthread_mutex_destroy(&node->lock);   /* nor holds it */
    free(node);
}

struct opb_node *
opb_node_current(void)
{
    return atomic_load_explicit(&current_node, memory_order_acquire);
}

void
opb_node_set_current(struct opb_node *node)
{
    atomic_store_explicit(&current_node, node, memory_order_release);
}

enum opb_phase
opb_node_phase(struct opb_node *node)
{
    enum opb_phase phase;

    pthread_mutex_lock(&node->lock);
    phase = node->phase;
    pthread_mutex_unlock(&node->lock);
    return phase;
}

void
opb_node_set_phase(struct opb_node *node, enum opb_phase phase)
{
    pthread_mutex_lock(&node->lock);
    node->phase = phase;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

struct opb_scripts *
opb_node_scripts(struct opb_node *node)
{
    struct opb_scripts *scripts;

    pthread_mutex_lock(&node->lock);
    scripts = opb_scripts_ref(node->scripts);
    pthread_mutex_unlock(&node->lock);
    return scripts;
}

void
opb_node_set_scripts(struct opb_node *node, struct opb_scripts **scripts)
{
    struct opb_scripts *before;

    pthread_mutex_lock(&node->lock);
    before = node->scripts;
    node->scripts = *scripts;
    pthread_mutex_unlock(&node->lock);
    *scripts = NULL;
    opb_scripts_unref(before);
}
