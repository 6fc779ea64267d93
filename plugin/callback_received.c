/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_received.c - an instance has arrived: keep, modify or discard it
 *
 * It has no way to say that it failed. To ask for a modification without giving one makes
 * Orthanc refuse the instance, so that its sender keeps it: neither to let in what the
 * script should have changed, nor to say that something was stored that was not.
 */
#include "call.h"
#include "kinds.h"
#include "config.h"
#include "log.h"
#include "policy.h"
#include "routes.h"

#include <string.h>

struct received {
    struct opb_node *node;
    const void *dicom;
    uint64_t bytes;
    OrthancPluginInstanceOrigin origin;
    OrthancPluginMemoryBuffer64 *modified;
    int64_t action;
};

static void
received_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct received *received = context;

    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_RECEIVED_INSTANCE_INDEX, 2);
    opb_pack_bytes(message, received->dicom, (size_t)received->bytes);
    opb_pack_int(message, (int64_t)received->origin);
}

/* Copies the new instance for Orthanc, which frees it. */
static void
give_modified(struct received *received, const void *dicom, size_t bytes)
{
    OrthancPluginMemoryBuffer64 buffer = {NULL, 0};

    if (bytes == 0) {
        return;
    }
    if (OrthancPluginCreateMemoryBuffer64(received->node->context, &buffer, bytes) !=
            OrthancPluginErrorCode_Success ||
        buffer.data == NULL) {
        opb_log_error("There is no memory for the %zu bytes of the instance that the "
                      "Python received instance callback has made",
                      bytes);
        return;
    }
    memcpy(buffer.data, dicom, bytes);
    *received->modified = buffer;
}

static void
received_result(struct opb_reader *reader, void *context)
{
    struct received *received = context;
    struct opb_reader pair;
    const void *dicom = NULL;
    size_t bytes = 0;

    if (opb_read_array(reader, &pair) != 2) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    received->action = opb_read_int(&pair, INT64_MIN, INT64_MAX);
    if (opb_read_is_nil(&pair)) {
        opb_read_skip(&pair);
    }
    else {
        dicom = opb_read_bytes(&pair, &bytes);
    }
    reader->status = opb_reader_finish(&pair);
    if (reader->status == OPB_OK && dicom != NULL &&
        received->action != OrthancPluginReceivedInstanceAction_KeepAsIs &&
        received->action != OrthancPluginReceivedInstanceAction_Discard) {
        give_modified(received, dicom, bytes);
    }
}

static OrthancPluginReceivedInstanceAction
received_end(const struct received *received, enum opb_outcome outcome)
{
    switch (outcome) {
    case OPB_CALL_DONE:
        if (received->action == OrthancPluginReceivedInstanceAction_KeepAsIs ||
            received->action == OrthancPluginReceivedInstanceAction_Discard) {
            return (OrthancPluginReceivedInstanceAction)received->action;
        }
        return OrthancPluginReceivedInstanceAction_Modify;
    case OPB_CALL_RAISED:
        if (!received->node->config->strict) {
            return OrthancPluginReceivedInstanceAction_KeepAsIs; /* as the contract says */
        }
        opb_log_error("An instance was refused: the Python received instance callback has "
                      "raised an exception, and Python.Strict is set");
        return OrthancPluginReceivedInstanceAction_Modify;
    case OPB_CALL_ABSENT:
        return OrthancPluginReceivedInstanceAction_KeepAsIs;
    case OPB_CALL_ENCODING:
    case OPB_CALL_FAILED:
    case OPB_CALL_DIED:
    case OPB_CALL_LATE:
    case OPB_CALL_NO_HOST:
        break; /* the call has logged why there is no answer */
    }
    return opb_policy_lets_in(received->node, OPB_CALL_RECEIVED_INSTANCE_INDEX,
                              "A received instance")
               ? OrthancPluginReceivedInstanceAction_KeepAsIs
               : OrthancPluginReceivedInstanceAction_Modify;
}

static OrthancPluginReceivedInstanceAction
callback_received(OrthancPluginMemoryBuffer64 *modified, const void *dicom, uint64_t bytes,
                  OrthancPluginInstanceOrigin origin)
{
    struct opb_node *node = opb_node_current();
    struct received received = {.node = node,
                                .dicom = dicom,
                                .bytes = bytes,
                                .origin = origin,
                                .modified = modified};
    struct opb_call_io io = {.pack = received_pack,
                             .result = received_result,
                             .context = &received,
                             .is_of_script = true};

    if (node == NULL || !opb_routes_has(node->routes, OPB_CALL_RECEIVED_INSTANCE_INDEX)) {
        return OrthancPluginReceivedInstanceAction_KeepAsIs;
    }
    return received_end(&received, opb_call_run(node, OPB_CALL_RECEIVED_INSTANCE_INDEX, &io,
                                                "received instance callback", OPB_FOREVER));
}

OrthancPluginErrorCode
opb_register_received(OrthancPluginContext *context)
{
    const struct opb_node *node = opb_node_current();

    if (node == NULL || !node->config->strict) {
        opb_log_warning(
            "If the Python received instance callback raises an exception, the instance is "
            "stored as it was received: a script that removes what must not be stored "
            "needs the configuration option \"Python.Strict\", which refuses the instance "
            "then");
    }
    return OrthancPluginRegisterReceivedInstanceCallback(context, callback_received);
}
