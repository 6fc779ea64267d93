/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/handshake.h - the first two frames of every connection
 *
 * Here:      hello and welcome: who, which version, for what, with which secret.
 * Elsewhere: what the connection is used for afterwards.
 *
 * hello is request 0, method 0, params
 *   [magic str, version uint, kind uint, node str, host uint, secret bin]
 * welcome is its response, result [version uint]; a refusal is a fault whose code
 * is the refuser's protocol version. This layout never changes with the version.
 */
#ifndef OPB_HANDSHAKE_H
#define OPB_HANDSHAKE_H

#include "lane.h"
#include "limits.h"

enum opb_connection_kind {
    OPB_CONNECTION_CONTROL =
        1,                   /* node -> pool: attach, and news of hosts; secret all zero */
    OPB_CONNECTION_MAIN = 2, /* node -> host main thread: Load, Finalize */
    OPB_CONNECTION_CALL = 3, /* node -> host: a call lane */
    OPB_CONNECTION_SERVICE = 4, /* host -> node: a service lane */
    OPB_CONNECTION_CHILD = 5,   /* child process of a host -> node: a service lane */
    OPB_CONNECTION_CONSOLE = 6  /* an administrator's Python -> node: a service lane */
};

struct opb_hello {
    uint32_t version;
    enum opb_connection_kind kind;
    char node[OPB_NODE_NAME_BYTES + 1];
    uint32_t host; /* 0 where it does not matter */
    uint8_t secret[OPB_SECRET_BYTES];
};

/* Client: sends hello. */
OPB_MUST_CHECK enum opb_status
opb_hello_send(struct opb_lane *lane, const struct opb_hello *hello, uint64_t deadline_ms);
/* Client: waits for the welcome and trusts the lane. OPB_VERSION: *peer_version
 * says what the peer speaks. OPB_REFUSED and OPB_VERSION: opb_lane_failure() has the
 * peer's words, as one line. */
OPB_MUST_CHECK enum opb_status
opb_welcome_receive(struct opb_lane *lane, uint32_t *peer_version, uint64_t deadline_ms);

/* Server: checks a received hello frame. OPB_VERSION: out->version is theirs. */
OPB_MUST_CHECK enum opb_status opb_hello_decode(struct opb_frame *frame,
                                                struct opb_hello *out);
/* Server: says yes and trusts the lane. */
OPB_MUST_CHECK enum opb_status opb_welcome_send(struct opb_lane *lane,
                                                uint64_t deadline_ms);
/* Server: says no. text tells the user what to do (longer than 2 KB: cut). The lane
 * stays open and untrusted. */
OPB_MUST_CHECK enum opb_status opb_welcome_refuse(struct opb_lane *lane, const char *text,
                                                  uint64_t deadline_ms);

#endif
