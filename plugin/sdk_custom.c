/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/sdk_custom.c - the SDK functions that no rule can generate
 *
 * Here:      one dispatch function for each, as invocation.h describes them, and the three
 *            that are not the SDK's: _Fence, _Register and _Release. Names and signatures
 *            are on the generator's list of exceptions.
 * Elsewhere: those that only newer headers have (sdk_custom_newer.c).
 */
#include "handles.h"
#include "invocation.h"
#include "routes.h"
#include "sdk_custom.gen.h"
#include "session.h"

#include "protocol/words.h"

#include <stdio.h>
#include <string.h>

void
opb_custom__Release(struct opb_invocation *inv)
{
    struct opb_handles *handles = opb_session_handles(opb_invocation_session(inv));

    /* a handle that does not exist (any more) is no harm: the object is gone */
    while (opb_args_left(inv) > 0) {
        uint64_t handle = opb_take_u64(inv);

        (void)opb_handle_release(handles, handle, opb_invocation_context(inv));
    }
    if (opb_invocation_ready(inv)) {
        opb_give_void(inv);
    }
}

/* Within a process of the script, posts on one lane before a request on another. */
void
opb_custom__Fence(struct opb_invocation *inv)
{
    struct opb_session *session = opb_invocation_session(inv);
    uint64_t number = opb_take_u64(inv);
    bool is_waiting = opb_take_u32(inv) != 0;

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (is_waiting) {
        opb_session_await_fence(session, number);
    }
    else {
        opb_session_pass_fence(session, number);
    }
    opb_give_void(inv);
}

void
opb_custom__Register(struct opb_invocation *inv)
{
    struct opb_session *session = opb_invocation_session(inv);
    const char *kind = opb_take_str(inv);
    const char *pattern = opb_take_str_or_null(inv);
    uint32_t index = opb_take_u32(inv);
    enum opb_fault fault = OPB_FAULT_RUNTIME;
    char text[512];

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (opb_session_is_dead(session)) {
        opb_give_fault(inv, OPB_FAULT_RUNTIME, 0, "This host is no longer in use");
        return;
    }
    if (opb_session_is_child(session)) {
        opb_give_fault(inv, OPB_FAULT_RUNTIME, 0,
                       "A child process of a host serves no callbacks");
        return;
    }
    if (opb_routes_add(opb_session_node(session)->routes, session, kind, pattern, index,
                       &fault, text, sizeof(text)) != OPB_OK) {
        opb_give_fault(inv, fault, 0, text);
        return;
    }
    opb_give_void(inv);
}

/* The inline function of the SDK hides whether it failed. */
void
opb_custom_RegisterErrorCode(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    OrthancPluginErrorCode target = OrthancPluginErrorCode_InternalError;
    _OrthancPluginRegisterErrorCode params = {.target = &target};
    OrthancPluginErrorCode code;

    params.code = opb_take_i32(inv);
    params.httpStatus = opb_take_u16(inv);
    params.message = opb_take_str(inv);
    if (!opb_invocation_ready(inv)) {
        return;
    }
    code =
        context->InvokeService(context, _OrthancPluginService_RegisterErrorCode, &params);
    if (code == OrthancPluginErrorCode_Success) {
        opb_give_int(inv, (int64_t)target);
    }
    else {
        opb_give_code(inv, code);
    }
}

void
opb_custom_CheckVersion(struct opb_invocation *inv)
{
    /* The SDK's compares the server with the header of the build, which may be newer; the
     * plugin adapts, and has refused to start where it cannot. */
    if (opb_invocation_ready(inv)) {
        opb_give_int(inv, 1);
    }
}

/* The core adds one to the index, for the name of the program comes first, and compares
 * with signed numbers: beyond 2^31 it reads what is not its own. -1 is that name. */
void
opb_custom_GetCommandLineArgument(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    uint32_t index = opb_take_u32(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (index != UINT32_MAX &&
        index >= OrthancPluginGetCommandLineArgumentsCount(context)) {
        opb_give_string(inv, NULL);
        return;
    }
    opb_give_string(inv, OrthancPluginGetCommandLineArgument(context, index));
}

void
opb_custom_LookupDictionary(struct opb_invocation *inv)
{
    const char *name = opb_take_str(inv);
    OrthancPluginDictionaryEntry entry;
    struct opb_message *message;
    char text[512];

    if (!opb_invocation_ready(inv)) {
        return;
    }
    memset(&entry, 0, sizeof(entry));
    if (OrthancPluginLookupDictionary(opb_invocation_context(inv), &entry, name) !=
        OrthancPluginErrorCode_Success) {
        (void)snprintf(text, sizeof(text), "Unknown DICOM tag: %s", name);
        opb_give_fault(inv, OPB_FAULT_TYPE, 0, text);
        return;
    }
    message = opb_give_begin(inv);
    opb_pack_array(message, 5);
    opb_pack_uint(message, entry.group);
    opb_pack_uint(message, entry.element);
    opb_pack_int(message, (int64_t)entry.vr);
    opb_pack_uint(message, entry.minMultiplicity);
    opb_pack_uint(message, entry.maxMultiplicity);
}

void
opb_custom_CreateImage(struct opb_invocation *inv)
{
    OrthancPluginPixelFormat format = (OrthancPluginPixelFormat)opb_take_i32(inv);
    uint32_t width = opb_take_u32(inv);
    uint32_t height = opb_take_u32(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (!opb_image_is_possible(format, width, height)) {
        opb_give_code(inv, OrthancPluginErrorCode_NotEnoughMemory);
        return;
    }
    opb_give_object(
        inv, OPB_CLASS_Image,
        OrthancPluginCreateImage(opb_invocation_context(inv), format, width, height));
}

void
opb_custom_Image_ConvertPixelFormat(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    const OrthancPluginImage *image = opb_take_object(inv, OPB_CLASS_Image, false);
    OrthancPluginPixelFormat format = (OrthancPluginPixelFormat)opb_take_i32(inv);

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if (!opb_image_is_possible(format, OrthancPluginGetImageWidth(context, image),
                               OrthancPluginGetImageHeight(context, image))) {
        opb_give_code(inv, OrthancPluginErrorCode_NotEnoughMemory);
        return;
    }
    opb_give_object(inv, OPB_CLASS_Image,
                    OrthancPluginConvertPixelFormat(context, image, format));
}

static void
copy_rows(OrthancPluginContext *context, OrthancPluginImage *image, const uint8_t *from,
          uint32_t height, uint32_t pitch)
{
    uint32_t to_pitch = OrthancPluginGetImagePitch(context, image);
    uint8_t *to = OrthancPluginGetImageBuffer(context, image);
    uint32_t bytes = pitch < to_pitch ? pitch : to_pitch;

    if (to == NULL || to_pitch == 0) {
        return; /* an empty image, whose height may be anything */
    }
    for (uint32_t y = 0; y < height; y++) {
        memcpy(to, from, bytes);
        memset(to + bytes, 0, to_pitch - bytes);
        to += to_pitch;
        from += pitch;
    }
}

void
opb_custom_CreateImageFromBuffer(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    OrthancPluginPixelFormat format = (OrthancPluginPixelFormat)opb_take_i32(inv);
    uint32_t width = opb_take_u32(inv);
    uint32_t height = opb_take_u32(inv);
    uint32_t pitch = opb_take_u32(inv);
    uint64_t size = 0;
    const void *pixels = opb_take_buf64(inv, &size);
    OrthancPluginImage *image;

    if (!opb_invocation_ready(inv)) {
        return;
    }
    if ((uint64_t)pitch * height != size) {
        opb_give_fault(inv, OPB_FAULT_TYPE, 0,
                       "The size of the memory buffer must match the product of height by "
                       "pitch");
        return;
    }
    image = opb_image_is_possible(format, width, height)
                ? OrthancPluginCreateImage(context, format, width, height)
                : NULL;
    if (image == NULL) {
        opb_give_fault(inv, OPB_FAULT_VALUE, 0, "Cannot create the image");
        return;
    }
    copy_rows(context, image, pixels, height, pitch);
    opb_give_object(inv, OPB_CLASS_Image, image);
}

void
opb_custom_Image_GetImageBuffer(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    OrthancPluginImage *image = opb_take_object(inv, OPB_CLASS_Image, false);
    uint64_t size;

    if (!opb_invocation_ready(inv)) {
        return;
    }
    size = (uint64_t)OrthancPluginGetImagePitch(context, image) *
           OrthancPluginGetImageHeight(context, image);
    opb_give_bytes(inv, size > 0 ? OrthancPluginGetImageBuffer(context, image) : NULL,
                   size);
}

void
opb_custom_DicomInstance_GetInstanceData(struct opb_invocation *inv)
{
    OrthancPluginContext *context = opb_invocation_context(inv);
    const OrthancPluginDicomInstance *instance =
        opb_take_object(inv, OPB_CLASS_DicomInstance, false);
    const void *data;
    int64_t size;

    if (!opb_invocation_ready(inv)) {
        return;
    }
    size = OrthancPluginGetInstanceSize(context, instance);
    data = OrthancPluginGetInstanceData(context, instance);
    if (size < 0 || (data == NULL && size > 0)) {
        opb_give_code(inv, OrthancPluginErrorCode_InternalError);
        return;
    }
    opb_give_bytes(inv, data, (uint64_t)size);
}

/* Reads the tag that a C-FIND query has at an index. False: the fault is given. */
static bool
find_tag(struct opb_invocation *inv, uint16_t *group, uint16_t *element)
{
    const OrthancPluginFindQuery *query = opb_take_object(inv, OPB_CLASS_FindQuery, false);
    uint32_t index = opb_take_u32(inv);

    *group = 0;
    *element = 0;
    if (!opb_invocation_ready(inv)) {
        return false;
    }
    if (OrthancPluginGetFindQueryTag(opb_invocation_context(inv), group, element, query,
                                     index) != OrthancPluginErrorCode_Success) {
        opb_give_fault(inv, OPB_FAULT_VALUE, 0, "Index is out of range");
        return false;
    }
    return true;
}

void
opb_custom_FindQuery_GetFindQueryTagGroup(struct opb_invocation *inv)
{
    uint16_t group;
    uint16_t element;

    if (find_tag(inv, &group, &element)) {
        opb_give_int(inv, group);
    }
}

void
opb_custom_FindQuery_GetFindQueryTagElement(struct opb_invocation *inv)
{
    uint16_t group;
    uint16_t element;

    if (find_tag(inv, &group, &element)) {
        opb_give_int(inv, element);
    }
}
