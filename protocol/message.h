/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/message.h - builds one outgoing message: envelope and segments
 *
 * Here:      packing of msgpack-RPC envelopes (request, response, error,
 *            notification) with msgpack-c, and the list of bulk segments.
 * Elsewhere: writing it (lane.c), what the values mean (the caller).
 * May use:   msgpack-c. Not Python.h, not the SDK.
 *
 * A message is reused: each opb_message_begin_*() forgets what was there.
 * Packing functions do not fail; a failure (no memory, too many segments, too
 * large) sticks to the message and opb_lane_send() reports it.
 */
#ifndef OPB_MESSAGE_H
#define OPB_MESSAGE_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct opb_message;

/* Gives a new message, or NULL without memory. */
struct opb_message *opb_message_new(void);
void opb_message_free(struct opb_message *message); /* NULL is fine */

/* [0, msgid, method, [params...]]: pack exactly param_count values next.
 * msgid is filled in by opb_exchange(); others pass their own to
 * opb_message_set_msgid() before sending. */
void opb_message_begin_request(struct opb_message *message, uint32_t method,
                               uint32_t param_count);
/* [2, method, [params...]]: a post; nobody answers it. */
void opb_message_begin_notify(struct opb_message *message, uint32_t method,
                              uint32_t param_count);
/* [1, msgid, nil, result]: pack exactly one value next. */
void opb_message_begin_response(struct opb_message *message, uint32_t msgid);

/* What went wrong at the far end, in a response. */
enum opb_fault {
    OPB_FAULT_ORTHANC = 0, /* code is an OrthancPluginErrorCode, text its description */
    OPB_FAULT_INVALID_OBJECT = 1, /* stale, foreign or forged handle */
    OPB_FAULT_UNAVAILABLE = 2,    /* this node lacks the function, or may not run it now */
    OPB_FAULT_TYPE = 3,           /* becomes TypeError(text) in Python */
    OPB_FAULT_VALUE = 4,          /* becomes ValueError(text) in Python */
    OPB_FAULT_RUNTIME = 5,        /* becomes RuntimeError(text) in Python */
    OPB_FAULT_RAISED = 6,         /* host -> node: the script raised; already logged */
    OPB_FAULT_ENCODING = 7, /* host -> node: a string was not UTF-8; script not called */
    OPB_FAULT_PROTOCOL = 8  /* the request itself was malformed */
};
/* [1, msgid, [fault, code, text], nil]; complete, pack nothing more. */
void opb_message_error(struct opb_message *message, uint32_t msgid, enum opb_fault fault,
                       int32_t code, const char *text);

void opb_pack_nil(struct opb_message *message);
void opb_pack_bool(struct opb_message *message, bool value);
void opb_pack_int(struct opb_message *message, int64_t value);
void opb_pack_uint(struct opb_message *message, uint64_t value);
void opb_pack_double(struct opb_message *message, double value);
/* Copies. NULL packs nil. */
void opb_pack_cstr(struct opb_message *message, const char *text);
void opb_pack_str(struct opb_message *message, const char *text, size_t bytes);
/* Up to OPB_INLINE_BYTES: copies. More: becomes a segment and the memory is
 * lent to the message until it has been sent or begun anew. */
void opb_pack_bytes(struct opb_message *message, const void *data, size_t bytes);
void opb_pack_array(struct opb_message *message, uint32_t count); /* then count values */
void opb_pack_map(struct opb_message *message,
                  uint32_t count); /* then count key/value pairs */

void opb_message_set_msgid(struct opb_message *message, uint32_t msgid);

/* The sticky status of the packing so far. */
enum opb_status opb_message_status(const struct opb_message *message);
/* Envelope plus segments, for counting and for "is it small enough to buffer". */
uint64_t opb_message_bytes(const struct opb_message *message);

/* For lane.c and tests: the finished frame as an iovec list (header first).
 * Lends; good until the message is begun anew or freed. */
struct iovec;
OPB_MUST_CHECK enum opb_status opb_message_frame(struct opb_message *message,
                                                 const struct iovec **parts,
                                                 size_t *part_count);

#endif
