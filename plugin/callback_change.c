/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_change.c - Orthanc's change notifications
 *
 * They are only put into the queue (events.c). The one that Orthanc stops is different: the
 * server works until we return from it, and not for long after.
 */
#include "events.h"
#include "invocation.h"
#include "last_jobs.h"
#include "log.h"
#include "pool.h"
#include "routes.h"

#include "protocol/sockets.h"

/* For SDK calls of the script's threads that run at the stop; and once those that wait for
 * a job have nothing to wait for any more. */
#define DRAIN_MS 5000u

/* From here on no thread of ours may begin what needs the server. */
static void
stop_serving(struct opb_node *node)
{
    time_t since = 0;

    if (opb_node_phase(node) < OPB_PHASE_STOPPED) {
        opb_node_set_phase(node, OPB_PHASE_STOPPED);
    }
    if (!opb_invocations_drain(node, opb_deadline_ms(DRAIN_MS), &since)) {
        node->last_jobs = opb_last_jobs_begin(node, since);
        if (!opb_invocations_drain(node, opb_deadline_ms(DRAIN_MS), &since)) {
            opb_log_warning(
                "Orthanc stops while a thread of the Python script is in an SDK call "
                "that has taken more than %u seconds",
                2 * DRAIN_MS / 1000u);
        }
        opb_last_jobs_hurry(node->last_jobs);
    }
    if (node->pool != NULL) {
        opb_pool_limit_calls(node->pool);
    }
}

OrthancPluginErrorCode
opb_callback_change(OrthancPluginChangeType change, OrthancPluginResourceType resource_type,
                    const char *resource_id)
{
    struct opb_node *node = opb_node_current();

    if (node == NULL) {
        return OrthancPluginErrorCode_Success;
    }
    if (change == OrthancPluginChangeType_OrthancStarted) {
        opb_events_note_started(node->events);
    }
    if (change == OrthancPluginChangeType_OrthancStopped) {
        opb_pool_stop_reloads(node->pool);
    }
    if (opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX)) {
        opb_events_push(node->events, change, resource_type, resource_id);
    }
    if (change == OrthancPluginChangeType_OrthancStopped) {
        stop_serving(node);
    }
    return OrthancPluginErrorCode_Success; /* anything else would end Orthanc */
}
