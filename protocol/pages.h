/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/pages.h - fewer page faults in buffers that are filled from end to end
 *
 * Here:      hints to the kernel. A buffer of 50 MB that is filled once costs 12,000 page
 * faults, four times as long as the copy into it; a copy of 512 KB takes 14 us, and 230
 * where each page of it faults on the way.
 * Elsewhere: who allocates (blocks.c, worker/module/link.c).
 */
#ifndef OPB_PAGES_H
#define OPB_PAGES_H

#include <stddef.h>

/* For memory that has just been allocated and will be filled from end to end. What is large
 * gets large pages, if the kernel wants to; of what is smaller it provides at once what it
 * has not provided yet, not page by page (MADV_POPULATE_WRITE, Linux 5.14). Small memory
 * is left alone; an older kernel, or one without memory to spare, is fine. Changes no
 * contents. */
void opb_pages_prepare(void *memory, size_t bytes);

#endif
