/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/access.c - see access.h */
#include "worker/supervisor/access.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A name or a number. False: there is no such group. */
static bool
find_group(const char *text, gid_t *out)
{
    const struct group *group = getgrnam(text); /* one thread */
    char *end = NULL;
    unsigned long number;

    if (group != NULL) {
        *out = group->gr_gid;
        return true;
    }
    errno = 0;
    number = strtoul(text, &end, 10);
    *out = (gid_t)number;
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' &&
           number < UINT32_MAX;
}

enum opb_status
opb_access_open(const char *path, const struct opb_pool_config *config, char *message,
                size_t capacity)
{
    const char *group = config->socket_group;
    mode_t mode = (mode_t)config->socket_mode;
    gid_t gid = (gid_t)-1;

    /* messages that do not fit are cut */
    if (group != NULL && !find_group(group, &gid)) {
        (void)snprintf(message, capacity,
                       "there is no group %s, which \"SocketGroup\" names: make it "
                       "(groupadd --system %s), or name another",
                       group, group);
        return OPB_REFUSED;
    }
    if (group != NULL && chown(path, (uid_t)-1, gid) != 0) {
        (void)snprintf(message, capacity,
                       "cannot give %s to the group %s, which \"SocketGroup\" names: %s; "
                       "the user of this program must be a member of it",
                       path, group, strerror(errno));
        return OPB_REFUSED;
    }
    if (mode == 0) {
        mode = group != NULL ? 0660 : 0600;
    }
    if (chmod(path, mode) != 0) {
        (void)snprintf(message, capacity, "cannot give %s the mode %o (\"SocketMode\"): %s",
                       path, config->socket_mode, strerror(errno));
        return OPB_REFUSED;
    }
    return OPB_OK;
}
