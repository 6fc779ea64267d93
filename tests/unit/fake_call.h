/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_call.h - an SDK call as the node of the module's tests writes it down
 *
 * Here:      the text of a call, and the answer that its order and its signature ask for.
 * Elsewhere: connections, and the orders that are no answers (fake_node.c).
 *
 * The first text or buffer argument of a request may be an order:
 *   fault:KIND:CODE:TEXT   answers with that fault
 *   nest:N                 calls the host N times on the same lane, then answers
 *   deep:N                 calls the host once with the text deep:N-1 (ends at 0)
 *   big:N                  answers N bytes
 *   sleep:MS               answers later
 *   none                   answers nil
 *   wrong                  answers a map, which nothing expects
 *   drop                   closes the connection instead
 * Anything else is answered with a description of the call, as text or bytes, or with a
 * number that fits the signature.
 */
#ifndef OPB_FAKE_CALL_H
#define OPB_FAKE_CALL_H

#include "fake_node.h"

struct fake_call {
    char text[2048];
    size_t used;
    char order[256]; /* the first text or buffer; "" if there is none */
    bool has_order;
};

/* Reads the call; objects that it releases are released in the node. */
void opb_fake_call_describe(struct opb_fake_node *node, struct fake_call *out,
                            const struct opb_node_function *function,
                            struct opb_frame *frame);
/* Packs the answer to a request. *kept is memory that it lends: to free when it is sent. */
void opb_fake_call_answer(struct opb_fake_node *node, struct opb_message *message,
                          uint32_t msgid, const char *signature,
                          const struct fake_call *call, void **kept);

#endif
