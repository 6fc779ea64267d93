/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/nearest.h - what somebody may have meant by a name that nobody knows
 *
 * Here:      the distance between names, for configurations of both sides.
 * Elsewhere: which names there are, and the message.
 */
#ifndef OPB_NEAREST_H
#define OPB_NEAREST_H

#include <stddef.h>

/* Of count names, the one with the least distance. each: an array of structures of `stride`
 * bytes, each of which begins with its name (const char *). count > 0. The distance is how
 * many letters to change, add or remove, without case; names of more than 64 bytes are far
 * from everything. */
const char *opb_nearest_name(const char *name, const void *each, size_t count,
                             size_t stride);

#endif
