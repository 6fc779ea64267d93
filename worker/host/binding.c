/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/binding.c - the one script that the pool lets this host run
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
    char script[PATH_MAX]; /* all links resolved; "": none */
    char reason[OPB_HOST_ERROR_BYTES];
} binding;

void
opb_binding_set(const char *message, size_t byte_count)
{
    size_t path_bytes = strnlen(message, byte_count);

    binding.is_bound = true; /* whatever follows: less than all is allowed now */
    if (path_bytes == byte_count || path_bytes >= sizeof(binding.script)) {
        (void)snprintf(binding.reason, sizeof(binding.reason),
                       "the worker's words about the script are malformed");
        return;
    }
    memcpy(binding.script, message, path_bytes + 1);
    (void)snprintf(binding.reason, sizeof(binding.reason), "%.*s", /* may be cut */
                   (int)(byte_count - path_bytes - 1), message + path_bytes + 1);
}

enum opb_status
opb_binding_apply(struct opb_node_info *info, char *text, size_t capacity)
{
    char found[PATH_MAX];
    char *copy;

    if (!binding.is_bound) {
        return OPB_OK;
    }
    /* texts that do not fit are cut */
    if (binding.script[0] == '\0') {
        (void)snprintf(text, capacity, "The pool does not run this script: %s",
                       binding.reason);
        return OPB_REFUSED;
    }
    if (realpath(info->script, found) == NULL || strcmp(found, binding.script) != 0) {
        (void)snprintf(
            text, capacity,
            "The pool lets this host run %s only, and not %s: \"Scripts\" in the "
            "worker's configuration says what it may run",
            binding.script, info->script);
        return OPB_REFUSED;
    }
    copy = strdup(binding.script); /* no link can change it any more */
    if (copy == NULL) {
        (void)snprintf(text, capacity, "the host is out of memory");
        return OPB_NO_MEMORY;
    }
    free(info->script);
    info->script = copy;
    return OPB_OK;
}
