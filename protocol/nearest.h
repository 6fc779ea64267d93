/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/nearest.h - what somebody may have meant by a name that nobody knows
 *
 * Here:      the distance between two names, for configurations of both sides.
 * Elsewhere: which names there are, and the message.
 */
#ifndef OPB_NEAREST_H
#define OPB_NEAREST_H

#include <stddef.h>

/* How many letters to change, add or remove, without case. Names of more than 64 bytes are
 * far from everything. */
size_t opb_name_distance(const char *a, const char *b);

#endif
