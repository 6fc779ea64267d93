/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/config.h - the configuration of a pool: a file, and the command line
 *
 * Here:      keys, types, ranges, and one sentence for what is wrong.
 * Elsewhere: acting on it (pool.c, main.c). docs/configuration.md has the keys.
 */
#ifndef OPB_SUPERVISOR_CONFIG_H
#define OPB_SUPERVISOR_CONFIG_H

#include "protocol/status.h"

#include <getopt.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opb_log_level { OPB_LOG_ERROR = 0, OPB_LOG_WARNING = 1, OPB_LOG_INFO = 2 };

struct opb_names {
    char **items;
    size_t count;
};

struct opb_pool_config {
    struct opb_names allow_users; /* AllowUsers: names or numbers */
    struct opb_names scripts;     /* Scripts: paths; items is NULL: all scripts */
    char *allow_group;            /* AllowGroup: a name or a number, or NULL */
    char *socket;                 /* Socket: an absolute path; NULL: not given */
    char *socket_group;           /* SocketGroup: a name or a number; NULL: our own */
    char *host_program;           /* HostProgram; NULL: looked for */
    uint32_t socket_mode;         /* SocketMode; 0: 0600, or 0660 with a group */
    uint32_t stop_timeout_ms;     /* StopTimeout (seconds, 30) */
    uint32_t max_hosts;           /* MaxHosts; 0: any number */
    enum opb_log_level log_level; /* LogLevel (info) */
};

void opb_pool_config_fini(struct opb_pool_config *config); /* also where init failed */

/* On failure of these three, message holds one sentence; OPB_REFUSED or OPB_NO_MEMORY. */
OPB_MUST_CHECK enum opb_status opb_pool_config_read(struct opb_pool_config *config,
                                                    const char *path, char *message,
                                                    size_t capacity);
/* With what holds without any configuration. */
OPB_MUST_CHECK enum opb_status opb_pool_config_init(struct opb_pool_config *config,
                                                    char *message, size_t capacity);
/* An option of the command line that stands for a key; it wins over the file. */
OPB_MUST_CHECK enum opb_status opb_pool_config_set(struct opb_pool_config *config,
                                                   size_t option, const char *text,
                                                   char *message, size_t capacity);

/* How many there are, and each for getopt_long: its val is first_code plus its index. */
size_t opb_pool_config_options(void);
struct option opb_pool_config_option(size_t option, int first_code);
void opb_pool_config_help(FILE *out);

#endif
