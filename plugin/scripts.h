/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/scripts.h - which scripts a generation of hosts runs
 *
 * Here:      from what is configured (a script, a directory, an array of scripts) to a list
 *            of absolute paths, with the checks that come before anybody imports them.
 * Elsewhere: reading the configuration (config.c), importing (worker/host/script.c).
 */
#ifndef OPB_SCRIPTS_H
#define OPB_SCRIPTS_H

#include "config.h"

#include "protocol/message.h"

/* Never changes; shared, by references. Any thread. */
struct opb_scripts {
    uint32_t count; /* 1 to OPB_MAX_SCRIPTS */
    char **paths;   /* absolute, in the order of their import */
};

/* Looks at what a configuration that names a script names, as it is on disk now, and
 * completes script_path the first time. Gives *out, one reference. On failure message holds
 * one sentence for the log, and OPB_REFUSED is returned (or OPB_NO_MEMORY). */
OPB_MUST_CHECK enum opb_status opb_scripts_find(struct opb_scripts **out,
                                                struct opb_config *config, char *message,
                                                size_t capacity);
/* Gives another one. NULL is fine, here and below: no scripts. */
struct opb_scripts *opb_scripts_ref(struct opb_scripts *scripts);
void opb_scripts_unref(struct opb_scripts *scripts);
/* Packs an array of the paths. */
void opb_scripts_pack(const struct opb_scripts *scripts, struct opb_message *message);
/* Whether there may be several: what is on disk is looked at again by each reload. */
bool opb_scripts_are_several(const struct opb_config *config);
/* Whether a file of that name, in the directory of scripts, is one of them. */
bool opb_scripts_is_name(const char *name);

#endif
