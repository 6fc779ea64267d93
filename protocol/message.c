/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/message.c - packing of one outgoing message
 *
 * Here:      msgpack-RPC envelopes, the list of bulk segments, and a count that
 *            tells a message with too few or too many values before it is sent.
 * Elsewhere: writing it to a socket (lane.c), checks of what arrives (scan.c).
 * Called by: plugin/ and worker/, on the thread that owns the message.
 */
#include "protocol/message.h"

#include "protocol/internal.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_ENVELOPE_BYTES (1024u * 1024u) /* a larger buffer is not kept for reuse */

struct opb_message {
    msgpack_sbuffer envelope;
    msgpack_packer packer;
    enum opb_status status;
    enum opb_frame_type type;
    bool is_begun;
    uint32_t msgid;
    size_t msgid_offset;          /* of its four bytes in the envelope; 0: has none */
    uint32_t depth_below;         /* arrays around owed[0] */
    uint32_t level;               /* entries of owed in use */
    uint64_t owed[OPB_MAX_DEPTH]; /* values still missing, outermost array first */
    uint32_t segment_count;
    uint64_t segment_bytes;
    struct iovec parts[OPB_MESSAGE_PARTS];
    uint8_t header[OPB_FRAME_HEADER_BYTES + 8u * OPB_MAX_SEGMENTS];
};

static void
put_be(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--) {
        out[i - 1] = (uint8_t)(value & 0xffu);
        value >>= 8;
    }
}

/* What msgpack-c calls for every piece that it packs. */
static int
write_envelope(void *context, const char *bytes, size_t byte_count)
{
    struct opb_message *message = context;

    if (message->status != OPB_OK) {
        return -1;
    }
    if (byte_count > OPB_MAX_ENVELOPE_BYTES - message->envelope.size) {
        message->status = OPB_TOO_LARGE;
        return -1;
    }
    if (msgpack_sbuffer_write(&message->envelope, bytes, byte_count) != 0) {
        message->status = OPB_NO_MEMORY;
        return -1;
    }
    return 0;
}

struct opb_message *
opb_message_new(void)
{
    struct opb_message *message = calloc(1, sizeof(*message));

    if (message == NULL) {
        return NULL;
    }
    msgpack_sbuffer_init(&message->envelope);
    msgpack_packer_init(&message->packer, message, write_envelope);
    return message;
}

void
opb_message_free(struct opb_message *message)
{
    if (message == NULL) {
        return;
    }
    msgpack_sbuffer_destroy(&message->envelope);
    free(message);
}

static void
begin(struct opb_message *message, enum opb_frame_type type)
{
    if (message->envelope.alloc > KEPT_ENVELOPE_BYTES) {
        msgpack_sbuffer_destroy(&message->envelope);
        msgpack_sbuffer_init(&message->envelope);
    }
    msgpack_sbuffer_clear(&message->envelope);
    message->status = OPB_OK;
    message->type = type;
    message->is_begun = true;
    message->msgid = 0;
    message->msgid_offset = 0;
    message->depth_below = 0;
    message->level = 0;
    message->segment_count = 0;
    message->segment_bytes = 0;
}

/* Opens the array that the caller fills. The arrays around it are complete. */
static void
owe(struct opb_message *message, uint32_t depth_below, uint64_t count)
{
    message->depth_below = depth_below;
    message->owed[0] = count;
    message->level = 1;
}

/* A msgid always takes five bytes, so that it can be filled in later. */
static void
pack_msgid(struct opb_message *message, uint32_t msgid)
{
    (void)msgpack_pack_fix_uint32(&message->packer, msgid); /* failures stick */
    message->msgid = msgid;
    message->msgid_offset = message->envelope.size - 4;
}

void
opb_message_begin_request(struct opb_message *message, uint32_t method,
                          uint32_t param_count)
{
    begin(message, OPB_REQUEST);
    (void)msgpack_pack_array(&message->packer, 4);
    (void)msgpack_pack_uint8(&message->packer, OPB_REQUEST);
    pack_msgid(message, 0);
    (void)msgpack_pack_uint32(&message->packer, method);
    (void)msgpack_pack_array(&message->packer, param_count);
    owe(message, 1, param_count);
}

void
opb_message_begin_notify(struct opb_message *message, uint32_t method, uint32_t param_count)
{
    begin(message, OPB_NOTIFY);
    (void)msgpack_pack_array(&message->packer, 3);
    (void)msgpack_pack_uint8(&message->packer, OPB_NOTIFY);
    (void)msgpack_pack_uint32(&message->packer, method);
    (void)msgpack_pack_array(&message->packer, param_count);
    owe(message, 1, param_count);
}

void
opb_message_begin_response(struct opb_message *message, uint32_t msgid)
{
    begin(message, OPB_RESPONSE);
    (void)msgpack_pack_array(&message->packer, 4);
    (void)msgpack_pack_uint8(&message->packer, OPB_RESPONSE);
    pack_msgid(message, msgid);
    (void)msgpack_pack_nil(&message->packer);
    owe(message, 0, 1);
}

void
opb_message_error(struct opb_message *message, uint32_t msgid, enum opb_fault fault,
                  int32_t code, const char *text)
{
    size_t bytes = text == NULL ? 0 : strlen(text);

    begin(message, OPB_RESPONSE);
    if (bytes > OPB_MAX_FAULT_BYTES) {
        bytes = OPB_MAX_FAULT_BYTES; /* a shortened reason is better than none */
        while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0u) == 0x80u) {
            bytes--; /* not inside a UTF-8 sequence */
        }
    }
    (void)msgpack_pack_array(&message->packer, 4);
    (void)msgpack_pack_uint8(&message->packer, OPB_RESPONSE);
    pack_msgid(message, msgid);
    (void)msgpack_pack_array(&message->packer, 3);
    (void)msgpack_pack_uint8(&message->packer, (uint8_t)fault);
    (void)msgpack_pack_int32(&message->packer, code);
    (void)msgpack_pack_str(&message->packer, bytes);
    (void)msgpack_pack_str_body(&message->packer, text, bytes);
    (void)msgpack_pack_nil(&message->packer);
}

/* Counts one value. False if the message has failed or has no room for it. */
static bool
count_value(struct opb_message *message)
{
    if (message->status != OPB_OK) {
        return false;
    }
    while (message->level > 0 && message->owed[message->level - 1] == 0) {
        message->level--;
    }
    if (message->level == 0) {
        message->status = OPB_BAD_FRAME; /* more values than were declared */
        return false;
    }
    message->owed[message->level - 1]--;
    return true;
}

static void
open_container(struct opb_message *message, uint64_t count)
{
    if (message->depth_below + message->level >= OPB_MAX_DEPTH) {
        message->status = OPB_TOO_LARGE;
        return;
    }
    message->owed[message->level] = count;
    message->level++;
}

void
opb_pack_nil(struct opb_message *message)
{
    if (count_value(message)) {
        (void)msgpack_pack_nil(&message->packer); /* here and below: failures stick */
    }
}

void
opb_pack_bool(struct opb_message *message, bool value)
{
    if (count_value(message)) {
        (void)(value ? msgpack_pack_true(&message->packer)
                     : msgpack_pack_false(&message->packer));
    }
}

void
opb_pack_int(struct opb_message *message, int64_t value)
{
    if (count_value(message)) {
        (void)msgpack_pack_int64(&message->packer, value);
    }
}

void
opb_pack_uint(struct opb_message *message, uint64_t value)
{
    if (count_value(message)) {
        (void)msgpack_pack_uint64(&message->packer, value);
    }
}

void
opb_pack_double(struct opb_message *message, double value)
{
    if (count_value(message)) {
        (void)msgpack_pack_double(&message->packer, value);
    }
}

void
opb_pack_str(struct opb_message *message, const char *text, size_t bytes)
{
    if (!count_value(message)) {
        return;
    }
    if (bytes > OPB_MAX_ENVELOPE_BYTES) {
        message->status = OPB_TOO_LARGE;
        return;
    }
    (void)msgpack_pack_str(&message->packer, bytes);
    (void)msgpack_pack_str_body(&message->packer, text, bytes);
}

void
opb_pack_cstr(struct opb_message *message, const char *text)
{
    if (text == NULL) {
        opb_pack_nil(message);
        return;
    }
    opb_pack_str(message, text, strlen(text));
}

static void
pack_segment(struct opb_message *message, const void *data, size_t bytes)
{
    uint8_t index_be[4];
    struct iovec *part;

    if (message->segment_count == OPB_MAX_SEGMENTS) {
        message->status = OPB_TOO_LARGE;
        return;
    }
    put_be(index_be, message->segment_count, sizeof(index_be));
    (void)msgpack_pack_ext(&message->packer, sizeof(index_be), OPB_SEGMENT_EXT_TYPE);
    (void)msgpack_pack_ext_body(&message->packer, index_be, sizeof(index_be));
    part = &message->parts[2 + message->segment_count];
    /* iovec serves reading too and has no const; sendmsg() only reads. */
    memcpy(&part->iov_base, &data, sizeof(part->iov_base));
    part->iov_len = bytes;
    message->segment_count++;
    message->segment_bytes += bytes;
}

void
opb_pack_bytes(struct opb_message *message, const void *data, size_t bytes)
{
    if (!count_value(message)) {
        return;
    }
    if (bytes > OPB_INLINE_BYTES) {
        pack_segment(message, data, bytes);
        return;
    }
    (void)msgpack_pack_bin(&message->packer, bytes);
    (void)msgpack_pack_bin_body(&message->packer, data, bytes);
}

void
opb_pack_array(struct opb_message *message, uint32_t count)
{
    if (count_value(message)) {
        open_container(message, count);
        (void)msgpack_pack_array(&message->packer, count);
    }
}

void
opb_pack_map(struct opb_message *message, uint32_t count)
{
    if (count_value(message)) {
        open_container(message, 2 * (uint64_t)count);
        (void)msgpack_pack_map(&message->packer, count);
    }
}

void
opb_message_set_msgid(struct opb_message *message, uint32_t msgid)
{
    if (message->status != OPB_OK || message->msgid_offset == 0) {
        return;
    }
    message->msgid = msgid;
    put_be((uint8_t *)message->envelope.data + message->msgid_offset, msgid, 4);
}

enum opb_status
opb_message_status(const struct opb_message *message)
{
    return message->status;
}

uint64_t
opb_message_bytes(const struct opb_message *message)
{
    return message->envelope.size + message->segment_bytes;
}

enum opb_frame_type
opb_message_type(const struct opb_message *message)
{
    return message->type;
}

uint32_t
opb_message_msgid(const struct opb_message *message)
{
    return message->msgid;
}

bool
opb_message_has_segments(const struct opb_message *message)
{
    return message->segment_count > 0;
}

enum opb_status
opb_message_frame(struct opb_message *message, const struct iovec **parts,
                  size_t *part_count)
{
    uint8_t *header = message->header;

    *parts = NULL;
    *part_count = 0;
    if (message->status != OPB_OK) {
        return message->status;
    }
    if (!message->is_begun) {
        return OPB_BAD_FRAME;
    }
    for (uint32_t i = 0; i < message->level; i++) {
        if (message->owed[i] != 0) {
            return OPB_BAD_FRAME; /* fewer values than were declared */
        }
    }
    put_be(header, message->envelope.size, 4);
    put_be(header + 4, message->segment_count, 2);
    put_be(header + 6, 0, 2);
    for (uint32_t i = 0; i < message->segment_count; i++) {
        put_be(header + OPB_FRAME_HEADER_BYTES + 8 * (size_t)i,
               message->parts[2 + i].iov_len, 8);
    }
    message->parts[0].iov_base = header;
    message->parts[0].iov_len = OPB_FRAME_HEADER_BYTES + 8 * (size_t)message->segment_count;
    message->parts[1].iov_base = message->envelope.data;
    message->parts[1].iov_len = message->envelope.size;
    *parts = message->parts;
    *part_count = 2 + message->segment_count;
    return OPB_OK;
}
