/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/blocks.h - memory for large segments, some of it kept for the next
 *
 * Here:      malloc() and free() that do not give large memory back to the kernel at once.
 * To fill 50 MB of fresh memory takes twice as long as to fill memory that was there.
 * Elsewhere: who uses it (frame.c; the storage area of the plugin).
 *
 * Threads: any.
 */
#ifndef OPB_BLOCKS_H
#define OPB_BLOCKS_H

#include <stddef.h>

/* For memory that is going to be filled from end to end: it may hold what somebody wrote
 * to an earlier block. NULL: no memory. Give it back by opb_block_free(). */
void *opb_block_alloc(size_t bytes);

/* Takes memory of opb_block_alloc(), or of malloc(). NULL is fine. What is kept the kernel
 * may take when it is short of memory. */
void opb_block_free(void *memory);

/* Unmaps what is kept; blocks in use stay. */
void opb_blocks_fini(void);

/* How many blocks are kept, for tests. */
size_t opb_blocks_idle(void);

#endif
