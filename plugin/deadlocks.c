/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/deadlocks.c - SDK calls that would never return
 *
 * Three places are known where Orthanc calls us with a lock held that is not recursive:
 * removing a file from the storage area (the database's, up to 1.12.7), reading one for an
 * SDK call (the server context's, up to 1.12.1), forgetting a job (the jobs').
 */
#include "deadlocks.h"

#include "call.h"

#include <stdio.h>
#include <string.h>

#define LAST_PLAIN_DATABASE_LOCK 1012007u /* 1.12.7 */
#define LAST_PLAIN_CONTEXT_LOCK  1012001u /* 1.12.1 */

static __thread const struct opb_running *innermost;

void
opb_running_begin(struct opb_running *running, const struct opb_sdk_function *function)
{
    running->function = function;
    running->outer = innermost;
    innermost = running;
}

void
opb_running_end(const struct opb_running *running)
{
    innermost = running->outer;
}

/* The SDK functions that hold the lock of the context while they read a file. */
static const struct opb_sdk_function *
find_context_holder(void)
{
    static const char *const names[] = {"GetDicomForInstance", "DicomInstanceToJson",
                                        "LoadDicomInstance"};

    for (const struct opb_running *each = innermost; each != NULL; each = each->outer) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            if (strcmp(each->function->name, names[i]) == 0) {
                return each->function;
            }
        }
    }
    return NULL;
}

bool
opb_deadlock_is_certain(const struct opb_sdk_function *function, uint32_t version,
                        char *text, size_t capacity)
{
    const struct opb_sdk_function *holder;

    if ((function->flags & OPB_SDK_NEEDS_SERVER) == 0) {
        return false;
    }
    if (version <= LAST_PLAIN_DATABASE_LOCK &&
        opb_call_is_inside(OPB_CALL_STORAGE_REMOVE_INDEX)) {
        (void)snprintf(text, capacity,
                       "%s cannot be called while a file is removed from the storage area: "
                       "this version of Orthanc has locked its database, and would wait "
                       "for itself",
                       function->name);
        return true;
    }
    if (opb_call_is_inside(OPB_CALL_COMMITMENT_FREE_INDEX)) {
        (void)snprintf(text, capacity,
                       "%s cannot be called while Orthanc forgets a storage commitment: it "
                       "has locked its jobs, and might wait for itself",
                       function->name);
        return true;
    }
    holder = version <= LAST_PLAIN_CONTEXT_LOCK ? find_context_holder() : NULL;
    if (holder != NULL) {
        (void)snprintf(text, capacity,
                       "%s cannot be called by a storage area that reads a file for %s: "
                       "this version of Orthanc would wait for itself",
                       function->name, holder->name);
        return true;
    }
    return false;
}
