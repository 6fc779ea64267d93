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

/* For memory that has just been allocated and will be filled from end to end. Small memory
 * is left alone; a kernel that does not want to is fine. Changes no contents. */
void opb_pages_prefer_large(void *memory, size_t bytes);

/* For the same kind of memory, of a size between the small and the large: has the kernel
 * provide what it has not provided yet at once, not page by page (MADV_POPULATE_WRITE). An
 * older kernel than Linux 5.14, or one without memory to spare, is fine. Changes no
 * contents. */
void opb_pages_provide(void *memory, size_t bytes);

#endif
