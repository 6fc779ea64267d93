/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/invocation_args.c - reading the arguments of one SDK call
 *
 * Here:      types, ranges and handles of what the host sent; sizes that the SDK would
 * trust. Elsewhere: what Python accepts (the host converts before it sends).
 */
#include "handles.h"
#include "invocation_impl.h"
#include "session.h"

#include "protocol/frame.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

static void
malformed(struct opb_invocation *inv)
{
    inv->is_malformed = true;
    opb_give_fault(inv, OPB_FAULT_PROTOCOL, 0,
                   "The arguments of the SDK call do not have the types of its signature");
}

static void
give_orthanc(struct opb_invocation *inv, OrthancPluginErrorCode code)
{
    opb_give_fault(inv, OPB_FAULT_ORTHANC, (int32_t)code,
                   opb_error_text(inv->context, (int32_t)code));
}

uint32_t
opb_args_left(const struct opb_invocation *inv)
{
    return inv->reader.status == OPB_OK ? inv->reader.left : 0;
}

/* A long text, which came as bytes: a copy with a NUL behind it. */
static const char *
take_long_text(struct opb_invocation *inv, const void *bytes, size_t size)
{
    char *text;

    if (memchr(bytes, 0, size) != NULL) {
        malformed(inv);
        return "";
    }
    text = malloc(size + 1);
    if (text == NULL) {
        give_orthanc(inv, OrthancPluginErrorCode_NotEnoughMemory);
        return "";
    }
    memcpy(text, bytes, size);
    text[size] = '\0';
    opb_keep(inv, text, free);
    return text;
}

const char *
opb_take_str(struct opb_invocation *inv)
{
    struct opb_reader ahead = inv->reader;
    size_t size = 0;
    const void *bytes = opb_read_bytes(&ahead, &size);

    if (ahead.status == OPB_OK && inv->kept_count < OPB_MAX_KEPT) {
        inv->reader = ahead;
        return take_long_text(inv, bytes, size);
    }
    return opb_read_cstr(&inv->reader, false);
}

const char *
opb_take_str_or_null(struct opb_invocation *inv)
{
    if (opb_read_is_nil(&inv->reader)) {
        opb_read_skip(&inv->reader);
        return NULL;
    }
    return opb_take_str(inv);
}

const void *
opb_take_buf64(struct opb_invocation *inv, uint64_t *size)
{
    size_t bytes = 0;
    const void *data = opb_read_bytes(&inv->reader, &bytes);

    *size = bytes;
    return data;
}

const void *
opb_take_buf(struct opb_invocation *inv, uint32_t *size)
{
    uint64_t bytes = 0;
    const void *data = opb_take_buf64(inv, &bytes);

    if (bytes > UINT32_MAX) {
        give_orthanc(inv, OrthancPluginErrorCode_NotEnoughMemory);
        bytes = 0;
    }
    *size = (uint32_t)bytes;
    return data;
}

int32_t
opb_take_i32(struct opb_invocation *inv)
{
    /* a host that truncated to 32 bits may call the result signed or not */
    return (int32_t)(uint32_t)opb_read_int(&inv->reader, INT32_MIN, UINT32_MAX);
}

int64_t
opb_take_i64(struct opb_invocation *inv)
{
    return opb_read_int(&inv->reader, INT64_MIN, INT64_MAX);
}

uint8_t
opb_take_u8(struct opb_invocation *inv)
{
    return (uint8_t)opb_read_uint(&inv->reader, UINT8_MAX);
}

uint16_t
opb_take_u16(struct opb_invocation *inv)
{
    return (uint16_t)opb_read_uint(&inv->reader, UINT16_MAX);
}

uint32_t
opb_take_u32(struct opb_invocation *inv)
{
    return (uint32_t)opb_read_uint(&inv->reader, UINT32_MAX);
}

uint64_t
opb_take_u64(struct opb_invocation *inv)
{
    return opb_read_uint(&inv->reader, UINT64_MAX);
}

float
opb_take_float(struct opb_invocation *inv)
{
    double value = opb_read_double(&inv->reader);

    if (value > (double)FLT_MAX) { /* the conversion of what does not fit is undefined */
        return __builtin_inff();
    }
    if (value < -(double)FLT_MAX) {
        return -__builtin_inff();
    }
    return (float)value;
}

void *
opb_take_object(struct opb_invocation *inv, enum opb_class class_id, bool nullable)
{
    uint64_t handle;
    void *object;

    if (nullable && opb_read_is_nil(&inv->reader)) {
        opb_read_skip(&inv->reader);
        return NULL;
    }
    handle = opb_read_uint(&inv->reader, UINT64_MAX);
    if (inv->reader.status != OPB_OK || inv->is_given) {
        return NULL;
    }
    object = inv->pin_count < OPB_MAX_PINS ? opb_handle_pin(inv->handles, handle, class_id)
                                           : NULL;
    if (object == NULL) {
        opb_give_fault(inv, OPB_FAULT_INVALID_OBJECT, 0, "Invalid object");
        return NULL;
    }
    inv->pins[inv->pin_count++] = handle;
    return object;
}

void
opb_check_size(struct opb_invocation *inv, uint64_t need, uint64_t have)
{
    if (need > have) {
        give_orthanc(inv, OrthancPluginErrorCode_ParameterOutOfRange);
    }
}

/* 0 for a format that only the core can judge. */
static uint32_t
bytes_per_pixel(OrthancPluginPixelFormat format)
{
    switch ((int)format) {
    case OrthancPluginPixelFormat_Grayscale8:
        return 1;
    case OrthancPluginPixelFormat_Grayscale16:
    case OrthancPluginPixelFormat_SignedGrayscale16:
        return 2;
    case OrthancPluginPixelFormat_RGB24:
        return 3;
    case OrthancPluginPixelFormat_RGBA32:
    case OrthancPluginPixelFormat_BGRA32:
    case OrthancPluginPixelFormat_Grayscale32:
    case OrthancPluginPixelFormat_Float32:
        return 4;
    case OrthancPluginPixelFormat_RGB48:
        return 6;
    case OrthancPluginPixelFormat_Grayscale64:
        return 8;
    default:
        return 0;
    }
}

void
opb_check_image(struct opb_invocation *inv, OrthancPluginPixelFormat format, uint32_t width,
                uint32_t height, uint32_t pitch, uint64_t have)
{
    opb_check_size(inv, (uint64_t)height * pitch, have);
    if (height > 0) {
        opb_check_size(inv, (uint64_t)width * bytes_per_pixel(format), pitch);
    }
}

bool
opb_image_is_possible(OrthancPluginPixelFormat format, uint32_t width, uint32_t height)
{
    uint64_t pitch = (uint64_t)width * bytes_per_pixel(format);

    return pitch <= UINT32_MAX && (height == 0 || pitch <= UINT32_MAX / height);
}

/* A RestOutput remembers that an answer was begun: no other may follow if the host dies. */
static void
mark_answers(struct opb_invocation *inv)
{
    static const char prefix[] = "RestOutput.";
    const char *name = inv->function->name;

    if (inv->pin_count > 0 && strncmp(name, prefix, sizeof(prefix) - 1) == 0 &&
        strncmp(name + sizeof(prefix) - 1, "Set", 3) != 0) {
        opb_handle_mark(inv->handles, inv->pins[0]);
    }
}

bool
opb_invocation_ready(struct opb_invocation *inv)
{
    if (inv->is_given) {
        return false;
    }
    if (opb_reader_finish(&inv->reader) != OPB_OK) {
        malformed(inv);
        return false;
    }
    mark_answers(inv);
    return true;
}
