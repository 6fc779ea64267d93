/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/invocation_impl.h - what invocation.c and invocation_args.c share, and nobody else
 */
#ifndef OPB_INVOCATION_IMPL_H
#define OPB_INVOCATION_IMPL_H

#include "invocation.h"

#include <time.h>

#define OPB_MAX_PINS 4u
#define OPB_MAX_KEPT 8u
/* Texts longer than this travel as bytes, in either direction. */
#define OPB_LONG_TEXT_BYTES (1024u * 1024u)

struct opb_invocation {
    struct opb_node *node;
    struct opb_session *session;
    struct opb_handles *handles;
    OrthancPluginContext *context;
    const struct opb_sdk_function *function;
    struct opb_reader reader;
    struct opb_message *message; /* holds the response once is_given */
    uint32_t msgid;
    bool wants_response; /* a request, not a post */
    bool is_given;
    bool fault;
    bool is_malformed;   /* the arguments do not fit the function */
    bool is_server_call; /* listed in node->server_calls, whose lock guards these: */
    time_t begun;
    struct opb_invocation *next_server_call;
    struct opb_invocation **server_call_link; /* what points to this one */
    uint64_t new_handle;                      /* owned object in the response */
    uint64_t pins[OPB_MAX_PINS];
    uint32_t pin_count;
    struct {
        void *memory;
        void (*release)(void *);
    } kept[OPB_MAX_KEPT]; /* until the response has been sent */
    uint32_t kept_count;
};

#endif
