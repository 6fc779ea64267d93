/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_stored.c - an instance was stored
 *
 * Orthanc only logs what we return. A host that dies gets the instance's successor: it is
 * delivered once more, since the instance is in the database by now and nobody else tells.
 */
#include "call.h"
#include "config.h"
#include "handles.h"
#include "log.h"
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

    /* the accessors of the SDK take it as const again */
    stored->handle = opb_handle_lend(opb_session_handles(session), OPB_CLASS_DicomInstance,
                                     (void *)(uintptr_t)stored->instance);
    opb_message_begin_request(message, OPB_CALL_STORED_INSTANCE_INDEX, 2);
    opb_pack_uint(message, stored->handle);
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
    struct opb_call_io io = {
        .pack = stored_pack, .finish = stored_finish, .context = &stored};
    enum opb_outcome outcome;
    char what[WHAT_BYTES];

    if (node == NULL || !opb_routes_has(node->routes, OPB_CALL_STORED_INSTANCE_INDEX)) {
        return OrthancPluginErrorCode_Success;
    }
    (void)snprintf(what, sizeof(what), "on-stored-instance callback for %s", instance_id);
    outcome = opb_call_run(node, OPB_CALL_STORED_INSTANCE_INDEX, &io, what, OPB_FOREVER);
    if (outcome == OPB_CALL_DIED) {
        opb_log_warning("The %s is run once more, in the next host", what);
        outcome =
            opb_call_run(node, OPB_CALL_STORED_INSTANCE_INDEX, &io, what, OPB_FOREVER);
        if (outcome == OPB_CALL_DIED) {
            opb_log_error("The %s has ended two hosts, and is not run again", what);
        }
    }
    return outcome == OPB_CALL_DONE       ? OrthancPluginErrorCode_Success
           : outcome == OPB_CALL_ENCODING ? OrthancPluginErrorCode_InternalError
                                          : OrthancPluginErrorCode_Plugin;
}
