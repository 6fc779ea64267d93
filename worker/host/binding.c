/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/binding.c - the scripts that the pool lets this host run
 *
 * Here:      what the supervisor has said, before any lane; comparing Load with it.
 * Elsewhere: what the pool allows (worker/supervisor/scripts.c).
 * The control thread writes before it hands on the main lane, whose thread reads: so the
 * lock of the main lane orders them.
 */
#include "host.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool is_bound;
    char *scripts[OPB_MAX_SCRIPTS]; /* owned, for ever; all links resolved */
    uint32_t count;
    char reason[OPB_HOST_ERROR_BYTES]; /* why none may be run; "": they may */
} binding;

static void
refuse(const char *reason, size_t bytes)
{
    if (binding.reason[0] == '\0') { /* the first counts; may be cut */
        (void)snprintf(binding.reason, sizeof(binding.reason), "%.*s", (int)bytes, reason);
    }
}

void
opb_binding_set(const char *message, size_t byte_count)
{
    static const char malformed[] = "the worker's words about the script are malformed";
    static const char unnamed[] = "the worker gives no reason";
    size_t path_bytes = strnlen(message, byte_count);
    char *copy;

    binding.is_bound = true; /* whatever follows: less than all is allowed now */
    if (path_bytes == byte_count || path_bytes >= PATH_MAX ||
        binding.count == OPB_MAX_SCRIPTS) {
        refuse(malformed, sizeof(malformed) - 1);
        return;
    }
    if (path_bytes == 0) {
        refuse(message + 1, byte_count - 1);
        refuse(unnamed, sizeof(unnamed) - 1);
        return;
    }
    copy = strdup(message);
    if (copy == NULL) {
        refuse(malformed, sizeof(malformed) - 1);
        return;
    }
    binding.scripts[binding.count] = copy;
    binding.count++;
}

/* Puts the path that may be loaded in the place of what leads to it. */
static enum opb_status
apply(char **script, const char *allowed, char *text, size_t capacity)
{
    char found[PATH_MAX];
    char *copy;

    if (realpath(*script, found) == NULL || strcmp(found, allowed) != 0) {
        /* cut if it does not fit */
        (void)snprintf(
            text, capacity,
            "The pool lets this host run %s only, and not %s: \"Scripts\" in the "
            "worker's configuration says what it may run",
            allowed, *script);
        return OPB_REFUSED;
    }
    copy = strdup(allowed); /* no link can change it any more */
    if (copy == NULL) {
        (void)snprintf(text, capacity, "the host is out of memory");
        return OPB_NO_MEMORY;
    }
    free(*script);
    *script = copy;
    return OPB_OK;
}

enum opb_status
opb_binding_apply(struct opb_node_info *info, char *text, size_t capacity)
{
    enum opb_status status = OPB_OK;

    if (!binding.is_bound) {
        return OPB_OK;
    }
    if (binding.reason[0] != '\0') {
        /* cut if it does not fit */
        (void)snprintf(text, capacity, "The pool does not run this script: %s",
                       binding.reason);
        return OPB_REFUSED;
    }
    if (binding.count != info->script_count) {
        (void)snprintf(text, capacity, /* fits */
                       "The pool lets this host run %u scripts, and not %u: \"Scripts\" in "
                       "the worker's configuration says what it may run",
                       binding.count, info->script_count);
        return OPB_REFUSED;
    }
    for (uint32_t i = 0; i < info->script_count && status == OPB_OK; i++) {
        status = apply(&info->scripts[i], binding.scripts[i], text, capacity);
    }
    return status;
}
