/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/heap.c - Orthanc's heap keeps what images leave, from the first one on
 *
 * Here:      one large object, freed at once.
 * Elsewhere: memory of ours that is kept (protocol/blocks.c), the hosts' heap
 *            (worker/host/allocator.c).
 * Called by: plugin.c, when Orthanc loads the plugin.
 *
 * glibc gives the end of a heap back to the kernel beyond a threshold, 128 KiB at first,
 * and twice the largest object beyond 128 KiB that it has seen freed. Until a large one has
 * been there, each image of some 100 KB is three or four times its size of pages that are
 * cleared anew. Orthanc's own bodies teach it sooner or later; so we need not wait, and set
 * nothing: whoever has set the C library's variables has decided otherwise.
 */
#include "plugin/heap.h"

#include <stddef.h>
#include <stdlib.h>

#define LIKE_AN_IMAGE ((size_t)8 * 1024 * 1024)

void
opb_heap_teach(void)
{
    void *volatile object = malloc(LIKE_AN_IMAGE); /* volatile: it must not be left out */

    free(object); /* none of it was touched; no memory is fine */
}
