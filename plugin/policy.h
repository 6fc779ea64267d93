/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/policy.h - what the callbacks do when Python could not be asked
 *
 * Here:      which filters let in then what they would have judged (Python.FailOpen), what
 *            a handler that raises leads to (Python.Strict), counting, telling the user at
 *            the start and at the end.
 * Elsewhere: noticing that Python could not be asked (call.c), answers (callback_*.c).
 */
#ifndef OPB_POLICY_H
#define OPB_POLICY_H

#include "call.h"

/* A call is over. */
void opb_policy_count_outcome(struct opb_node *node, enum opb_outcome outcome);

/* A filter, or the received-instance callback, could not be asked about subject ("the
 * request for /toto"): logs and counts what is done. True: let it in. */
bool opb_policy_lets_in(struct opb_node *node, enum opb_call_index kind,
                        const char *subject);

/* A call that is safe to repeat, and must not be lost: true once, if its host died or took
 * too long. *deaths is zero at first. */
bool opb_policy_repeats(struct opb_node *node, enum opb_outcome outcome, const char *what,
                        uint32_t *deaths);
/* Nobody will run it any more. */
void opb_policy_gives_up(struct opb_node *node, const char *what);

/* Warns of what the configuration asks for, at the start. */
void opb_policy_announce(const struct opb_node *node);
/* Says what has happened, at the end. */
void opb_policy_sum_up(struct opb_node *node);

#endif
