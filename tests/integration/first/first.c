/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/first/first.c - what a sanitizer's runtime needs in an Orthanc without
 *
 * Preloaded together with the runtime (sanitizer.py). Linked with -z initfirst, so that its
 * constructor is the first of all: with no other, the runtime starts in the first malloc()
 * of whichever library comes first, which is newlocale() in libp11-kit. Its start calls
 * dlerror(), whose translation takes and gives back the lock that newlocale() holds, and
 * the next one waits for ever.
 *
 * Libraries stay mapped, so that a report after the plugin's end can name its functions.
 */
#include <dlfcn.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int
dlclose(void *handle)
{
    (void)handle;
    return 0;
}

static __attribute__((constructor)) void
wake_runtime(void)
{
    void *volatile memory = malloc(1); /* volatile: not to be optimised away */

    free(memory);
}
