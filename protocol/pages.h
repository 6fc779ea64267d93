/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/pages.h - large pages for large buffers
 *
 * Here:      a hint to the kernel. A buffer of 50 MB that is filled once costs 12,000 page
 * faults, four times as long as the copy into it. Elsewhere: who allocates (blocks.c,
 * worker/module/link.c).
 */
#ifndef OPB_PAGES_H
#define OPB_PAGES_H

#include <stddef.h>

/* For memory that has just been allocated and will be filled from end to end. Small memory
 * is left alone; a kernel that does not want to is fine. Changes no contents. */
void opb_pages_prefer_large(void *memory, size_t bytes);

#endif
