/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/scripts.c - which scripts hosts may run: "Scripts"
 *
 * Here:      looking at the paths that a node has told, with all links resolved; telling
 * each new host the files that it may load. Elsewhere: the host, which loads nothing else
 * (worker/host/binding.c).
 *
 * A path is resolved anew for each host: a link that has been pointed to the next release
 * since is followed if that is allowed as well. The host gets the file itself, so that a
 * link which changes after this does not matter.
 */
#include "worker/supervisor/pool.h"

#include "protocol/limits.h"
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

void
opb_scripts_free(struct opb_script_list *scripts)
{
    for (uint32_t i = 0; scripts != NULL && i < scripts->count; i++) {
        free(scripts->paths[i]);
    }
    free(scripts);
}

struct opb_script_list *
opb_scripts_read(struct opb_reader *reader)
{
    struct opb_script_list *scripts;
    struct opb_reader items;
    size_t bytes = 0;
    uint32_t count = opb_read_array(reader, &items);

    if (reader->status != OPB_OK || count == 0 || count > OPB_MAX_SCRIPTS) {
        reader->status = OPB_BAD_FRAME;
        return NULL;
    }
    scripts = calloc(1, sizeof(*scripts) + count * sizeof(scripts->paths[0]));
    if (scripts == NULL) {
        reader->status = OPB_NO_MEMORY;
        return NULL;
    }
    for (uint32_t i = 0; i < count && reader->status == OPB_OK; i++) {
        const char *path = opb_read_cstr(&items, false);

        bytes += strlen(path) + 1;
        if (items.status != OPB_OK || path[0] != '/' || strlen(path) >= PATH_MAX ||
            bytes > OPB_MAX_SCRIPT_BYTES) {
            reader->status = OPB_BAD_FRAME;
        }
        else if ((scripts->paths[i] = strdup(path)) == NULL) {
            reader->status = OPB_NO_MEMORY;
        }
        else {
            scripts->count++;
        }
    }
    if (reader->status != OPB_OK) {
        opb_scripts_free(scripts);
        return NULL;
    }
    return scripts;
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

/* The file behind a path, if it may be run; else message says why not. */
static enum opb_status
resolve(const struct opb_pool *pool, const char *script, char out[PATH_MAX], char *message,
        size_t capacity)
{
    out[0] = '\0';
    /* messages that do not fit are cut */
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

enum opb_status
opb_scripts_check(const struct opb_pool *pool, const struct opb_script_list *scripts,
                  char *message, size_t capacity)
{
    enum opb_status status = OPB_OK;
    char file[PATH_MAX];

    if (scripts == NULL) {
        (void)snprintf(
            message, capacity,
            "\"Scripts\" in the worker's configuration allows some scripts only, "
            "and this server has not told which one it has: install plugin and "
            "worker from the same release");
        return OPB_REFUSED;
    }
    for (uint32_t i = 0; i < scripts->count && status == OPB_OK; i++) {
        status = resolve(pool, scripts->paths[i], file, message, capacity);
    }
    return status;
}

/* One message: the byte, the path, a NUL, and why there is no path. */
static enum opb_status
tell(struct opb_host *host, const char *file, const char *reason)
{
    char message[1 + PATH_MAX + MAX_REASON_BYTES];
    int bytes = snprintf(message, sizeof(message), "%c%s%c%s", (int)OPB_HOST_BINDING, file,
                         '\0', reason); /* fits */

    return opb_socket_pass(host->control_fd, message, (size_t)bytes, -1);
}

/* A message for each script, in their order. */
void
opb_scripts_bind(struct opb_host *host)
{
    const struct opb_node *node = host->node;
    const bool is_next = node->slots[host->slot].next == host;
    const struct opb_script_list *scripts =
        is_next && node->next_scripts != NULL ? node->next_scripts : node->scripts;
    enum opb_status status = OPB_OK;

    if (!opb_scripts_are_bound(node->pool)) {
        return;
    }
    if (scripts ==
        NULL) { /* refused when it attached; without a word the host would run all */
        status = tell(host, "", "the server has not told which script it has");
    }
    for (uint32_t i = 0; scripts != NULL && i < scripts->count && status == OPB_OK; i++) {
        char file[PATH_MAX];
        char reason[MAX_REASON_BYTES] = "";

        if (resolve(node->pool, scripts->paths[i], file, reason, sizeof(reason)) !=
            OPB_OK) {
            file[0] = '\0'; /* the host lets the node know why it loads nothing */
        }
        status = tell(host, file, reason);
    }
    if (status != OPB_OK) {
        opb_host_replace(host, "could not be told which script it may run");
    }
}
