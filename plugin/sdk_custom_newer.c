/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/sdk_custom_newer.c - hand-written functions that newer SDK headers have
 *
 * As sdk_custom.c; each is there if the header is (generated OPB_SDK_HAS_...). Failures are
 * TypeErrors with Orthanc's text, as in the official plugin (contract, section 8, row 13).
 */
#include "invocation.h"
#include "sdk_custom.gen.h"

#include <stdio.h>

#if defined(OPB_SDK_HAS_GetKeyValue) || defined(OPB_SDK_HAS_DequeueValue) ||               \
    defined(OPB_SDK_HAS_ReserveQueueValue) || defined(OPB_SDK_HAS_GetQueueSize) ||         \
    defined(OPB_SDK_HAS_KeysValuesIterator_Next)
static bool
is_success(struct opb_invocation *inv, OrthancPluginErrorCode code)
{
    if (code != OrthancPluginErrorCode_Success) {
        opb_give_fault(inv, OPB_FAULT_TYPE, (int32_t)code,
                       opb_error_text(opb_invocation_context(inv), (int32_t)code));
        return false;
    }
    return true;
}
#endif

#if defined(OPB_SDK_HAS_GetKeyValue) || defined(OPB_SDK_HAS_DequeueValue)
/* bytes, or nil if nothing was found. Takes the buffer. */
static void
give_found(struct opb_invocation *inv, OrthancPluginErrorCode code, uint8_t found,
           OrthancPluginMemoryBuffer *buffer)
{
    if (!is_success(inv, code)) {
        return;
    }
    if (found != 0) {
        opb_give_buffer(inv, code, buffer);
    }
    else {
        opb_give_void(inv);
    }
}
#endif

#ifdef OPB_SDK_HAS_GetKeyValue
void
opb_custom_GetKeyValue(struct opb_invocation *inv)
{
    const char *store = opb_take_str(inv);
    const char *key = opb_take_str(inv);
    OrthancPluginMemoryBuffer buffer = {NULL, 0};
    OrthancPluginErrorCode code;
    uint8_t found = 0;

    if (opb_invocation_ready(inv)) {
        code = OrthancPluginGetKeyValue(opb_invocation_context(inv), &found, &buffer, store,
                                        key);
        give_found(inv, code, found, &buffer);
    }
}
#endif

#ifdef OPB_SDK_HAS_DequeueValue
void
opb_custom_DequeueValue(struct opb_invocation *inv)
{
    const char *queue = opb_take_str(inv);
    OrthancPluginQueueOrigin origin = (OrthancPluginQueueOrigin)opb_take_i32(inv);
    OrthancPluginMemoryBuffer buffer = {NULL, 0};
    OrthancPluginErrorCode code;
    uint8_t found = 0;

    if (opb_invocation_ready(inv)) {
        /* deprecated since there are reservations, and still what scripts ask for */
#    pragma GCC diagnostic push
#    pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        code = OrthancPluginDequeueValue(opb_invocation_context(inv), &found, &buffer,
                                         queue, origin);
#    pragma GCC diagnostic pop
        give_found(inv, code, found, &buffer);
    }
}
#endif

#ifdef OPB_SDK_HAS_ReserveQueueValue
void
opb_custom_ReserveQueueValue(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    const char *queue = opb_take_str(inv);
    OrthancPluginQueueOrigin origin = (OrthancPluginQueueOrigin)opb_take_i32(inv);
    uint32_t timeout = opb_take_u32(inv);
    OrthancPluginMemoryBuffer buffer = {NULL, 0};
    struct opb_message *message;
    uint64_t value_id = 0;
    uint8_t found = 0;

    if (!opb_invocation_ready(inv) ||
        !is_success(inv, OrthancPluginReserveQueueValue(context, &found, &buffer, &value_id,
                                                        queue, origin, timeout))) {
        return;
    }
    if (found == 0) {
        opb_give_void(inv);
        return;
    }
    opb_keep(inv, buffer.data, context->Free);
    message = opb_give_begin(inv);
    opb_pack_array(message, 2);
    opb_pack_bytes(message, buffer.data != NULL ? buffer.data : "", buffer.size);
    opb_pack_uint(message, value_id);
}
#endif

#ifdef OPB_SDK_HAS_GetQueueSize
void
opb_custom_GetQueueSize(struct opb_invocation *inv)
{
    const char *queue = opb_take_str(inv);
    uint64_t size = 0;

    if (opb_invocation_ready(inv) &&
        is_success(inv,
                   OrthancPluginGetQueueSize(opb_invocation_context(inv), queue, &size))) {
        opb_give_uint(inv, size);
    }
}
#endif

#ifdef OPB_SDK_HAS_SetStableStatus
void
opb_custom_SetStableStatus(struct opb_invocation *inv)
{
    const char *resource = opb_take_str(inv);
    OrthancPluginStableStatus status = (OrthancPluginStableStatus)opb_take_i32(inv);
    struct opb_message *message;
    uint8_t has_changed = 0;
    char text[256];

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (OrthancPluginSetStableStatus(opb_invocation_context(inv), &has_changed, resource,
                                     status) != OrthancPluginErrorCode_Success) {
        (void)snprintf(text, sizeof(text), "Failed to change stable status of resource: %s",
                       resource);
        opb_give_fault(inv, OPB_FAULT_TYPE, 0, text);
        return;
    }
    message = opb_give_begin(inv);
    opb_pack_array(message, 2);
    opb_pack_int(message, 0);
    opb_pack_int(message, has_changed != 0 ? 1 : 0);
}
#endif

#ifdef OPB_SDK_HAS_KeysValuesIterator_Next
void
opb_custom_KeysValuesIterator_Next(struct opb_invocation *inv)
{
    OrthancPluginKeysValuesIterator *iterator =
        opb_take_object(inv, OPB_CLASS_KeysValuesIterator, false);
    /* The header calls it "done" and describes the reverse; Orthanc 1.13.0 sets it while
     * there is an item, and scripts loop as long as Next() is true. */
    uint8_t has_item = 0;

    if (opb_invocation_ready(inv) &&
        is_success(inv, OrthancPluginKeysValuesIteratorNext(opb_invocation_context(inv),
                                                            &has_item, iterator))) {
        opb_give_bool(inv, has_item != 0);
    }
}
#endif
