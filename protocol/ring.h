/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/ring.h - two rings of bytes in memory that both ends of a lane map
 *
 * Here:      the memory, and bytes in and out of it without a system call.
 * Elsewhere: when it is used, sleeping and waking (stream.c), agreeing on it (handshake.c).
 *
 * The peer can write to all of this memory at any time. So this end keeps its own indices,
 * takes the peer's once and checks it, and bytes are copied out before anybody looks at
 * them. Seals keep the peer from making the memory smaller, which would end this process.
 *
 * Threads: one reader and one writer at a time at each end.
 */
#ifndef OPB_RING_H
#define OPB_RING_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct opb_ring;

/* Makes the memory. Gives *out and *fd, by which the peer can map it. */
OPB_MUST_CHECK enum opb_status opb_ring_create(struct opb_ring **out, int *fd);
/* Maps what a peer has made. Takes *fd and sets it to -1 in any case. OPB_BAD_FRAME: it
 * is not of the right size, or not sealed. */
OPB_MUST_CHECK enum opb_status opb_ring_map(struct opb_ring **out, int *fd);
void opb_ring_free(struct opb_ring *ring); /* NULL is fine */

/* Copies what is there, up to capacity; *count is 0 if nothing is. *is_awaited: the peer
 * sleeps until there is room, and must be woken. OPB_BAD_FRAME: the peer's index is none.
 */
OPB_MUST_CHECK enum opb_status opb_ring_read(struct opb_ring *ring, void *out,
                                             size_t capacity, size_t *count,
                                             bool *is_awaited);
/* Copies what there is room for; *count is 0 if there is none. *is_awaited: the peer sleeps
 * until something comes, and must be woken. OPB_BAD_FRAME as above. */
OPB_MUST_CHECK enum opb_status opb_ring_write(struct opb_ring *ring,
                                              const struct iovec *parts, size_t part_count,
                                              size_t *count, bool *is_awaited);

/* True if a read, or a write, would do something - if only fail. */
bool opb_ring_has_data(const struct opb_ring *ring);
bool opb_ring_has_room(const struct opb_ring *ring);

/* This end is about to sleep until there is data, or room (true), or no longer (false).
 * Look again after saying true: the peer may not have seen it. */
void opb_ring_await_data(struct opb_ring *ring, bool is_waiting);
void opb_ring_await_room(struct opb_ring *ring, bool is_waiting);

#endif
