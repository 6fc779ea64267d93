/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_cstore_filter.c - the filter of instances that come by C-STORE
 *
 * It fails closed: without an answer of the script the sender is told that the instance
 * was refused for want of resources, and tries again.
 */
#include "call.h"
#include "facts.h"
#include "handles.h"
#include "kinds.h"
#include "policy.h"
#include "routes.h"

#define FILTER_ACCEPT      1
#define FILTER_REFUSE      0    /* with the DIMSE status that we give */
#define FILTER_ERROR       (-1) /* Orthanc answers DIMSE_NO_RESOURCES by itself */
#define DIMSE_SUCCESS      0x0000u
#define DIMSE_NO_RESOURCES 0xa700u

struct cstore {
    const OrthancPluginDicomInstance *instance;
    uint64_t handle;
    uint16_t status;
};

static void
cstore_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct cstore *cstore = context;

    opb_message_begin_request(message, OPB_CALL_CSTORE_FILTER_INDEX, 1);
    cstore->handle =
        opb_facts_lend(message, session, OPB_CLASS_DicomInstance, cstore->instance);
}

static void
cstore_result(struct opb_reader *reader, void *context)
{
    struct cstore *cstore = context;

    cstore->status = (uint16_t)opb_read_uint(reader, UINT16_MAX);
}

static void
cstore_finish(struct opb_session *session, void *context)
{
    const struct cstore *cstore = context;

    opb_handle_end(opb_session_handles(session), cstore->handle);
}

static int32_t
cstore_end(struct opb_node *node, const struct cstore *cstore, enum opb_outcome outcome,
           uint16_t *status)
{
    switch (outcome) {
    case OPB_CALL_DONE:
        *status = cstore->status;
        return cstore->status == DIMSE_SUCCESS ? FILTER_ACCEPT : FILTER_REFUSE;
    case OPB_CALL_RAISED:
        return FILTER_ERROR;
    case OPB_CALL_ABSENT:
        return FILTER_ACCEPT;
    case OPB_CALL_ENCODING:
    case OPB_CALL_FAILED:
    case OPB_CALL_DIED:
    case OPB_CALL_LATE:
    case OPB_CALL_NO_HOST:
        break; /* the call has logged why there is no answer */
    }
    if (opb_policy_lets_in(node, OPB_CALL_CSTORE_FILTER_INDEX,
                           "An instance that came by C-STORE")) {
        *status = DIMSE_SUCCESS;
        return FILTER_ACCEPT;
    }
    *status = DIMSE_NO_RESOURCES;
    return FILTER_REFUSE;
}

static int32_t
callback_cstore_filter(uint16_t *status, const OrthancPluginDicomInstance *instance)
{
    struct opb_node *node = opb_node_current();
    struct cstore cstore = {.instance = instance};
    struct opb_call_io io = {.pack = cstore_pack,
                             .result = cstore_result,
                             .finish = cstore_finish,
                             .context = &cstore,
                             .is_of_script = true};

    if (node == NULL || !opb_routes_has(node->routes, OPB_CALL_CSTORE_FILTER_INDEX)) {
        return FILTER_ACCEPT;
    }
    return cstore_end(node, &cstore,
                      opb_call_run(node, OPB_CALL_CSTORE_FILTER_INDEX, &io,
                                   "incoming-cstore-instance filter", OPB_FOREVER),
                      status);
}

OrthancPluginErrorCode
opb_register_cstore_filter(OrthancPluginContext *context)
{
    return OrthancPluginRegisterIncomingCStoreInstanceFilter(context,
                                                             callback_cstore_filter);
}
