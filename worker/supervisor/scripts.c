/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/scripts.c - which scripts hosts may run: "Scripts"
 *
 * Here:      looking at the path that a node has told, with all links resolved; telling
 * each new host the one file that it may load. Elsewhere: the host, which loads nothing
 * else (worker/host/binding.c).
 *
 * A path is resolved anew for each host: a link that has been pointed to the next release
 * since is followed if that is allowed as well. The host gets the file itself, so that a
 * link which changes after this does not matter.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REASON_BYTES 1024u

/* True if the file is the allowed one, or below the allowed directory; both are resolved.
 */
static bool
is_below(const char *file, const char *allowed)
{
    size_t bytes = strlen(allowed);

    if (strcmp(allowed, "/") == 0) {
        return true;
    }
    return strncmp(file, allowed, bytes) == 0 &&
           (file[bytes] == '\0' || file[bytes] == '/');
}

static bool
is_allowed(const struct opb_pool_config *config, const char *file)
{
    bool is_found = false;

    for (size_t i = 0; i < config->scripts.count && !is_found; i++) {
        char *allowed = realpath(config->scripts.items[i], NULL);

        is_found = allowed != NULL && is_below(file, allowed);
        free(allowed);
    }
    return is_found;
}

bool
opb_scripts_allow(const struct opb_pool_config *config, const char *path)
{
    char *file = realpath(path, NULL);
    bool allowed = file != NULL && is_allowed(config, file);

    free(file);
    return allowed;
}

bool
opb_scripts_are_bound(const struct opb_pool *pool)
{
    return pool->options->config.scripts.items != NULL;
}

enum opb_status
opb_scripts_look(const struct opb_pool_config *config, char *message, size_t capacity)
{
    for (size_t i = 0; i < config->scripts.count; i++) {
        if (access(config->scripts.items[i], R_OK) != 0) {
            /* cut if it does not fit */
            (void)snprintf(
                message, capacity,
                "cannot read %s, which \"Scripts\" names: %s; correct the path, or "
                "let user %u read it",
                config->scripts.items[i], strerror(errno), (unsigned)geteuid());
            return OPB_REFUSED;
        }
    }
    return OPB_OK;
}

enum opb_status
opb_scripts_resolve(const struct opb_pool *pool, const char *script, char out[PATH_MAX],
                    char *message, size_t capacity)
{
    out[0] = '\0';
    /* messages that do not fit are cut */
    if (script == NULL || script[0] != '/') {
        (void)snprintf(
            message, capacity,
            "\"Scripts\" in the worker's configuration allows some scripts only, "
            "and this server has not told which one it has: install plugin and "
            "worker from the same release");
        return OPB_REFUSED;
    }
    if (realpath(script, out) == NULL) {
        (void)snprintf(
            message, capacity,
            "the worker cannot find the script %.300s: %s; it runs as user %u, who "
            "must be able to read the script, and \"Scripts\" in its configuration "
            "must allow it",
            script, strerror(errno), (unsigned)geteuid());
        out[0] = '\0';
        return OPB_REFUSED;
    }
    if (!is_allowed(&pool->options->config, out)) {
        (void)snprintf(message, capacity,
                       "the script %.300s is outside of what \"Scripts\" in the worker's "
                       "configuration allows: add it or its directory there, or move it",
                       out);
        out[0] = '\0';
        return OPB_REFUSED;
    }
    return OPB_OK;
}

/* One message: the byte, the path, a NUL, and why there is no path. */
void
opb_scripts_bind(struct opb_host *host)
{
    const struct opb_node *node = host->node;
    char file[PATH_MAX];
    char reason[MAX_REASON_BYTES] = "";
    char message[1 + PATH_MAX + MAX_REASON_BYTES];
    size_t path_bytes;
    size_t reason_bytes;

    if (!opb_scripts_are_bound(node->pool)) {
        return;
    }
    if (opb_scripts_resolve(node->pool, node->script, file, reason, sizeof(reason)) !=
        OPB_OK) {
        file[0] = '\0'; /* the host lets the node know why it loads nothing */
    }
    path_bytes = strlen(file) + 1;
    reason_bytes = strlen(reason);
    message[0] = (char)OPB_HOST_BINDING;
    memcpy(message + 1, file, path_bytes);
    memcpy(message + 1 + path_bytes, reason, reason_bytes);
    if (opb_socket_pass(host->control_fd, message, 1 + path_bytes + reason_bytes, -1) !=
        OPB_OK) {
        opb_host_replace(host, "could not be told which script it may run");
    }
}
