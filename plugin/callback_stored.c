/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_stored.c - an instance was stored
 *
 * Orthanc only logs what we return. When its host dies, or it takes too long, it is
 * delivered once more, since the instance is in the database by now and nobody else tells.
 */
#include "call.h"
#include "config.h"
#include "facts.h"
#include "handles.h"
#include "policy.h"
#include "routes.h"

#include <stdio.h>

#define WHAT_BYTES 128u

struct stored {
    const OrthancPluginDicomInstance *instance;
    const char *instance_id;
    uint64_t handle;
};

static void
stored_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct stored *stored = context;

    opb_message_begin_request(message, OPB_CALL_STORED_INSTANCE_INDEX, 2);
    stored->handle = opb_facts_lend_stored(message, session, stored->instance);
    opb_pack_cstr(message, stored->instance_id);
}

static void
stored_finish(struct opb_session *session, void *context)
{
    const struct stored *stored = context;

    opb_handle_end(opb_session_handles(session), stored->handle);
}

OrthancPluginErrorCode
opb_callback_stored(const OrthancPluginDicomInstance *instance, const char *instance_id)
{
    struct opb_node *node = opb_node_current();
    struct stored stored = {.instance = instance, .instance_id = instance_id};
    struct opb_call_io io = {.pack = stored_pack,
                             .finish = stored_finish,
                             .context = &stored,
                             .is_of_script = true};
    enum opb_outcome outcome;
    uint32_t deaths = 0;
    char what[WHAT_BYTES];

    if (node == NULL || !opb_routes_has(node->routes, OPB_CALL_STORED_INSTANCE_INDEX)) {
        return OrthancPluginErrorCode_Success;
    }
    (void)snprintf(what, sizeof(what), "on-stored-instance callback for %s", instance_id);
    do {
        outcome =
            opb_call_run(node, OPB_CALL_STORED_INSTANCE_INDEX, &io, what, OPB_FOREVER);
    } while (opb_policy_repeats(node, outcome, what, &deaths));
    if (outcome == OPB_CALL_DIED || outcome == OPB_CALL_LATE ||
        outcome == OPB_CALL_NO_HOST) {
        opb_policy_gives_up(node, what);
    }
    return outcome == OPB_CALL_DONE || outcome == OPB_CALL_ABSENT
               ? OrthancPluginErrorCode_Success
           : outcome == OPB_CALL_ENCODING ? OrthancPluginErrorCode_InternalError
                                          : OrthancPluginErrorCode_Plugin;
}
