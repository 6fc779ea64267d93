/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/invocation.h - decoding, running and answering one SDK call
 *
 * Here:      what the generated dispatch (sdk_dispatch.gen.c) and the hand-written
 *            one (sdk_custom.c) use to turn a frame into an SDK call and back.
 * Elsewhere: the lane loop that receives the frame (call.c), handles (handles.c).
 *
 * A dispatch function reads its arguments in order, asks opb_invocation_ready()
 * once, calls the SDK with inv->context (whose InvokeService is the C++ shim), and
 * gives its result with exactly one opb_give_*(). On a failed read it just returns:
 * the reply has been prepared. Reads after a failure give harmless zeros.
 */
#ifndef OPB_INVOCATION_H
#define OPB_INVOCATION_H

#include "opb_plugin.h"

#include "protocol/frame.h"
#include "protocol/message.h"

#include <time.h>

struct opb_invocation;
struct opb_lane;
struct opb_session;

/* Runs the SDK call of a request or notification that arrived on a lane, on the calling
 * thread, and sends the response of a request, built in message. A status other than OPB_OK
 * means that the lane has failed. */
OPB_MUST_CHECK enum opb_status opb_invocation_run(struct opb_session *session,
                                                  struct opb_lane *lane,
                                                  struct opb_frame *frame,
                                                  struct opb_message *message,
                                                  uint64_t deadline_ms);
/* After the phase became OPB_PHASE_STOPPED: waits until no thread of our own is inside an
 * SDK call that needs the server. False if that takes longer than the deadline: then *since
 * is when the oldest of them began. */
struct opb_node;
bool opb_invocations_drain(struct opb_node *node, uint64_t deadline_ms, time_t *since);
/* "1.12.6" as 1012006; UINT32_MAX for "mainline", 0 for what is no version. */
uint32_t opb_orthanc_version(const char *text);
/* Orthanc's text for an error code. Lends; never NULL. */
const char *opb_error_text(OrthancPluginContext *context, int32_t code);

/* The context to call the SDK with: everything goes through the shim. */
OrthancPluginContext *opb_invocation_context(struct opb_invocation *inv);

const char *opb_take_str(struct opb_invocation *inv);
/* buf: data and length; a length above 32 bits faults with OE(4). */
const void *opb_take_buf(struct opb_invocation *inv, uint32_t *size);
const void *opb_take_buf64(struct opb_invocation *inv, uint64_t *size);
int32_t opb_take_i32(struct opb_invocation *inv); /* enumerations too */
int64_t opb_take_i64(struct opb_invocation *inv);
uint8_t opb_take_u8(struct opb_invocation *inv);
uint16_t opb_take_u16(struct opb_invocation *inv);
uint32_t opb_take_u32(struct opb_invocation *inv);
uint64_t opb_take_u64(struct opb_invocation *inv);
float opb_take_float(struct opb_invocation *inv);
/* As opb_take_str(), but nil gives NULL. */
const char *opb_take_str_or_null(struct opb_invocation *inv);
uint32_t opb_args_left(const struct opb_invocation *inv);
struct opb_session *opb_invocation_session(struct opb_invocation *inv);
/* The object behind a handle of that class, pinned until the invocation ends;
 * nil is NULL if nullable, else faults with OPB_FAULT_INVALID_OBJECT. */
void *opb_take_object(struct opb_invocation *inv, enum opb_class class_id, bool nullable);

/* Fault OE(3) unless have >= need (pixels of an image, a size next to a pointer). */
void opb_check_size(struct opb_invocation *inv, uint64_t need, uint64_t have);
/* Fault OE(3) unless height rows of pitch bytes fit in have, and width pixels of the
 * format fit in pitch. */
void opb_check_image(struct opb_invocation *inv, OrthancPluginPixelFormat format,
                     uint32_t width, uint32_t height, uint32_t pitch, uint64_t have);
/* False if an image has more bytes than 32 bits can tell: the core would compute its size
 * modulo 2^32, and then read and write beyond what it has allocated. */
bool opb_image_is_possible(OrthancPluginPixelFormat format, uint32_t width,
                           uint32_t height);

/* True if every argument was right and none is left over. */
bool opb_invocation_ready(struct opb_invocation *inv);

/* Takes memory, which release frees once the response has been sent. NULL is fine. */
void opb_keep(struct opb_invocation *inv, void *memory, void (*release)(void *));

void opb_give_void(struct opb_invocation *inv);
void opb_give_bool(struct opb_invocation *inv, bool value);
void opb_give_code(struct opb_invocation *inv, OrthancPluginErrorCode code); /* nil or OE */
/* Frees the buffer through the SDK once sent. Never touches it if code is an error. */
void opb_give_buffer(struct opb_invocation *inv, OrthancPluginErrorCode code,
                     OrthancPluginMemoryBuffer *buffer);
void opb_give_bytes(struct opb_invocation *inv, const void *data,
                    uint64_t size);                           /* lent until sent */
void opb_give_string(struct opb_invocation *inv, char *text); /* frees; NULL is OE(-1) */
void opb_give_static_string(struct opb_invocation *inv, const char *text); /* NULL is nil */
void opb_give_int(struct opb_invocation *inv, int64_t value);
void opb_give_uint(struct opb_invocation *inv, uint64_t value);
void opb_give_float(struct opb_invocation *inv, double value);
/* New object owned by the host; NULL is OE(-1). */
void opb_give_object(struct opb_invocation *inv, enum opb_class class_id, void *object);
void opb_give_fault(struct opb_invocation *inv, enum opb_fault fault, int32_t code,
                    const char *text);
/* For results of several values (LookupDictionary, Set*Status): pack exactly one value. */
struct opb_message *opb_give_begin(struct opb_invocation *inv);

/* One function of the node, in the generated table. */
struct opb_sdk_function {
    const char *name;      /* "RestApiGet", "RestOutput.AnswerBuffer" */
    const char *signature; /* see docs/protocol.md, "Signatures" */
    uint32_t since;        /* 1012006 for 1.12.6; 0: every version */
    uint32_t flags;
    void (*run)(struct opb_invocation *inv);
};
#define OPB_SDK_PROTECTED 1u /* must not run in OrthancPluginFinalize (core notes 8.3) */
#define OPB_SDK_NEEDS_SERVER                                                               \
    2u /* needs the server context; refused once it is going away */

extern const struct opb_sdk_function opb_sdk_functions[]; /* generated */
extern const uint32_t opb_sdk_function_count;

/* Frees an owned object of a class with its SDK destructor (generated);
 * false if the class has none. */
bool opb_sdk_free_object(OrthancPluginContext *context, enum opb_class class_id,
                         void *object);

#endif
