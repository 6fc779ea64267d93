/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/handshake.c - hello, welcome, and saying no
 *
 * Here:      the two frames that open a connection. Their layout is the same in every
 *            version, so that peers of different versions can tell each other so.
 * Elsewhere: whether a secret is the right one (the server that decodes the hello).
 * Called by: both ends, once for each connection.
 */
#include "protocol/handshake.h"

#include "protocol/internal.h"

#include <stdio.h>
#include <string.h>

#define HELLO_METHOD      0u
#define HELLO_MSGID       0u
#define HELLO_PARAMS      6u
#define MAX_REFUSAL_BYTES 2048u /* must fit a frame of OPB_MAX_HELLO_BYTES */

enum opb_status
opb_hello_send(struct opb_lane *lane, const struct opb_hello *hello, uint64_t deadline_ms)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    opb_message_begin_request(message, HELLO_METHOD, HELLO_PARAMS);
    opb_message_set_msgid(message, HELLO_MSGID);
    opb_pack_cstr(message, OPB_PROTOCOL_MAGIC);
    opb_pack_uint(message, hello->version);
    opb_pack_uint(message, (uint64_t)hello->kind);
    opb_pack_cstr(message, hello->node);
    opb_pack_uint(message, hello->host);
    opb_pack_bytes(message, hello->secret, sizeof(hello->secret));
    status = opb_lane_send(lane, message, deadline_ms);
    opb_message_free(message);
    return status;
}

/* Copies a peer's words for a log: one line, nothing that moves a cursor. */
static void
copy_words(char *out, size_t capacity, const char *text)
{
    size_t i = 0;

    while (text[i] != '\0' && i + 1 < capacity) {
        unsigned char byte = (unsigned char)text[i];

        out[i] = byte < 0x20 || byte == 0x7f ? ' ' : text[i];
        i++;
    }
    out[i] = '\0';
}

static enum opb_status
take_refusal(struct opb_lane *lane, struct opb_frame *frame, uint32_t *peer_version)
{
    char words[OPB_FAILURE_BYTES];
    const char *text;
    int32_t code;

    (void)opb_frame_fault(frame, NULL, &code, &text); /* known to be a fault */
    copy_words(words, sizeof(words), text);
    if (code < 0) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME,
                                  "the peer refused without saying its version");
    }
    *peer_version = (uint32_t)code;
    opb_lane_fail(lane, code == OPB_PROTOCOL_VERSION ? OPB_REFUSED : OPB_VERSION, words);
    return opb_lane_status(lane);
}

static enum opb_status
take_welcome(struct opb_lane *lane, struct opb_frame *frame, uint32_t *peer_version)
{
    struct opb_reader reader;
    uint32_t version;

    if (opb_frame_type(frame) != OPB_RESPONSE || opb_frame_msgid(frame) != HELLO_MSGID) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME,
                                  "the peer's first frame is not a welcome");
    }
    if (opb_frame_fault(frame, NULL, NULL, NULL)) {
        return take_refusal(lane, frame, peer_version);
    }
    opb_frame_result(frame, &reader);
    if (opb_read_array(&reader, &reader) != 1) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME, "the peer's welcome is malformed");
    }
    version = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    if (opb_reader_finish(&reader) != OPB_OK) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME, "the peer's welcome is malformed");
    }
    *peer_version = version;
    if (version != OPB_PROTOCOL_VERSION) {
        return opb_lane_fail_with(
            lane, OPB_VERSION,
            "the peer speaks version %u of the protocol, and this side version %u: install "
            "plugin and worker of the same release",
            version, (unsigned)OPB_PROTOCOL_VERSION);
    }
    opb_lane_trust(lane);
    return OPB_OK;
}

enum opb_status
opb_welcome_receive(struct opb_lane *lane, uint32_t *peer_version, uint64_t deadline_ms)
{
    enum opb_status status;
    struct opb_frame *frame;

    *peer_version = 0;
    status = opb_lane_receive(lane, &frame, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    status = take_welcome(lane, frame, peer_version);
    opb_frame_free(frame);
    return status == OPB_OK ? opb_offer_take(lane, deadline_ms) : status;
}

/* A node's name ends up in logs and file names. */
static bool
is_plain_name(const char *name)
{
    for (; *name != '\0'; name++) {
        unsigned char byte = (unsigned char)*name;

        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

/* What follows magic and version, in our own version. */
static enum opb_status
decode_details(struct opb_reader *reader, struct opb_hello *out)
{
    const void *secret;
    const char *node;
    size_t secret_bytes;
    uint64_t kind;

    kind = opb_read_uint(reader, OPB_CONNECTION_CONSOLE);
    node = opb_read_cstr(reader, false);
    out->host = (uint32_t)opb_read_uint(reader, UINT32_MAX);
    secret = opb_read_bytes(reader, &secret_bytes);
    if (opb_reader_finish(reader) != OPB_OK || kind < OPB_CONNECTION_CONTROL ||
        secret_bytes != OPB_SECRET_BYTES || strlen(node) > OPB_NODE_NAME_BYTES ||
        !is_plain_name(node)) {
        return OPB_BAD_FRAME;
    }
    out->kind = (enum opb_connection_kind)kind;
    memcpy(out->node, node, strlen(node) + 1);
    memcpy(out->secret, secret, OPB_SECRET_BYTES);
    return OPB_OK;
}

enum opb_status
opb_hello_decode(struct opb_frame *frame, struct opb_hello *out)
{
    struct opb_reader reader;
    enum opb_status status;
    const char *magic;
    size_t magic_bytes;

    memset(out, 0, sizeof(*out));
    if (opb_frame_type(frame) != OPB_REQUEST || opb_frame_msgid(frame) != HELLO_MSGID ||
        opb_frame_method(frame) != HELLO_METHOD) {
        return OPB_BAD_FRAME;
    }
    opb_frame_params(frame, &reader);
    magic = opb_read_str(&reader, &magic_bytes);
    out->version = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    if (reader.status != OPB_OK || magic_bytes != strlen(OPB_PROTOCOL_MAGIC) ||
        memcmp(magic, OPB_PROTOCOL_MAGIC, magic_bytes) != 0) {
        memset(out, 0, sizeof(*out));
        return OPB_BAD_FRAME;
    }
    if (out->version != OPB_PROTOCOL_VERSION) {
        return OPB_VERSION;
    }
    status = decode_details(&reader, out);
    if (status != OPB_OK) {
        memset(out, 0, sizeof(*out));
    }
    return status;
}

enum opb_status
opb_welcome_send(struct opb_lane *lane, uint64_t deadline_ms)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    opb_message_begin_response(message, HELLO_MSGID);
    opb_pack_array(message, 1);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    status = opb_lane_send(lane, message, deadline_ms);
    opb_message_free(message);
    if (status == OPB_OK) {
        opb_lane_trust(lane);
    }
    return status;
}

enum opb_status
opb_welcome_refuse(struct opb_lane *lane, const char *text, uint64_t deadline_ms)
{
    char words[MAX_REFUSAL_BYTES];
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    (void)snprintf(words, sizeof(words), "%s", text); /* may be cut */
    opb_message_error(message, HELLO_MSGID, OPB_FAULT_PROTOCOL, OPB_PROTOCOL_VERSION,
                      words);
    status = opb_lane_send(lane, message, deadline_ms);
    opb_message_free(message);
    return status;
}
