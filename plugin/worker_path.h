/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/worker_path.h - where the daemon's executable is
 */
#ifndef OPB_WORKER_PATH_H
#define OPB_WORKER_PATH_H

#include "protocol/status.h"

#include <stddef.h>

/* Gives the path in *out (free() it): configured if that is not NULL, else beside this
 * library, in its build tree, or in the installation. On OPB_REFUSED message names every
 * place that was looked at. */
OPB_MUST_CHECK enum opb_status opb_worker_path_find(char **out, const char *configured,
                                                    char *message, size_t capacity);

#endif
