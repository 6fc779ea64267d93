/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool_user.c - see pool_user.h */
#include "plugin/pool_user.h"

#include "plugin/config.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ENTRY_BYTES 16384u

/* A name, or the number of a user that has one. False: errno says why, or is 0. */
static bool
find(const char *text, struct opb_pool_user *out)
{
    char *buffer = malloc(MAX_ENTRY_BYTES);
    struct passwd entry;
    struct passwd *found = NULL;
    char *end = NULL;
    unsigned long number;
    int error;

    if (buffer == NULL) {
        errno = ENOMEM;
        return false;
    }
    error = getpwnam_r(text, &entry, buffer, MAX_ENTRY_BYTES, &found);
    number = strtoul(text, &end, 10);
    if (found == NULL && text[0] >= '0' && text[0] <= '9' && *end == '\0') {
        error = getpwuid_r((uid_t)number, &entry, buffer, MAX_ENTRY_BYTES, &found);
    }
    if (found != NULL) {
        *out = (struct opb_pool_user){
            .is_set = true, .uid = found->pw_uid, .gid = found->pw_gid};
    }
    free(buffer);
    errno = error;
    return found != NULL;
}

enum opb_status
opb_pool_user_find(struct opb_pool_user *out, const struct opb_config *config,
                   char *message, size_t capacity)
{
    *out = (struct opb_pool_user){.is_set = false};
    if (config->pool_user == NULL) {
        return OPB_OK;
    }
    /* messages that do not fit are cut */
    if (config->pool == NULL) {
        (void)snprintf(
            message, capacity,
            "The configuration option \"Python.PoolUser\" is about a shared pool: "
            "name its socket in \"Python.Pool\", or leave the user out");
        return OPB_REFUSED;
    }
    if (!find(config->pool_user, out)) {
        (void)snprintf(message, capacity,
                       "There is no user %s, whom the configuration option "
                       "\"Python.PoolUser\" names%s%s: correct it, or leave it out",
                       config->pool_user, errno != 0 ? ": " : "",
                       errno != 0 ? strerror(errno) : "");
        return OPB_REFUSED;
    }
    return OPB_OK;
}

bool
opb_pool_user_is(const struct opb_pool_user *user, const struct opb_peer *peer)
{
    return peer->uid == 0 || peer->uid == geteuid() ||
           (user->is_set && peer->uid == user->uid);
}
