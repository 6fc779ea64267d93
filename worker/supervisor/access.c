/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/access.c - see access.h */
#include "worker/supervisor/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* False: this is no user's or group's number. */
static bool
parse_id(const char *text, uint32_t *out)
{
    char *end = NULL;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    *out = (uint32_t)number;
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' &&
           number < UINT32_MAX;
}

/* A name or a number. False: there is no such group. */
static bool
find_group(const char *text, gid_t *out)
{
    const struct group *group = getgrnam(text); /* one thread, likewise below */

    if (group != NULL) {
        *out = group->gr_gid;
        return true;
    }
    return parse_id(text, out);
}

static bool
find_user(const char *text, uid_t *out)
{
    const struct passwd *user = getpwnam(text);

    if (user != NULL) {
        *out = user->pw_uid;
        return true;
    }
    return parse_id(text, out);
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

enum opb_status
opb_access_init(struct opb_access *access, const struct opb_pool_config *config,
                char *message, size_t capacity)
{
    memset(access, 0, sizeof(*access));
    /* messages that do not fit are cut */
    access->users = calloc(config->allow_users.count + 1, sizeof(*access->users));
    if (access->users == NULL) {
        (void)snprintf(message, capacity, "Not enough memory");
        return OPB_NO_MEMORY;
    }
    for (size_t i = 0; i < config->allow_users.count; i++) {
        const char *name = config->allow_users.items[i];

        if (!find_user(name, &access->users[i])) {
            (void)snprintf(message, capacity,
                           "there is no user %s, whom \"AllowUsers\" names: correct the "
                           "name, or leave it out",
                           name);
            return OPB_REFUSED;
        }
        access->user_count++;
    }
    access->has_group = config->allow_group != NULL;
    if (access->has_group && !find_group(config->allow_group, &access->group)) {
        (void)snprintf(message, capacity,
                       "there is no group %s, which \"AllowGroup\" names: make it "
                       "(groupadd --system %s), or name another",
                       config->allow_group, config->allow_group);
        return OPB_REFUSED;
    }
    return OPB_OK;
}

void
opb_access_fini(struct opb_access *access)
{
    free(access->users);
    access->users = NULL;
}

/* The groups that the peer was in when it connected. */
static bool
is_member(int fd, gid_t group)
{
    socklen_t bytes = 0;
    gid_t *groups;
    bool is_found = false;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) == 0 || errno != ERANGE) {
        return false; /* it has none, or the kernel does not say */
    }
    groups = malloc(bytes);
    if (groups != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) == 0) {
        for (size_t i = 0; i < bytes / sizeof(*groups); i++) {
            is_found = is_found || groups[i] == group;
        }
    }
    free(groups);
    return is_found;
}

bool
opb_access_allows(const struct opb_access *access, int fd, const struct opb_peer *peer)
{
    if (peer->uid == geteuid() || peer->uid == 0) {
        return true;
    }
    for (size_t i = 0; i < access->user_count; i++) {
        if (access->users[i] == peer->uid) {
            return true;
        }
    }
    return access->has_group &&
           (peer->gid == access->group || is_member(fd, access->group));
}
