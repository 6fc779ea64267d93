/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/stacks_json.h - the Python stacks of hosts, in JSON and as text */
#ifndef OPB_STACKS_JSON_H
#define OPB_STACKS_JSON_H

#include "node.h"

#include <jansson.h>

/* Look at all hosts, which go on. Give *out, to be freed. OPB_LATE: too many do so now. */
OPB_MUST_CHECK enum opb_status opb_stacks_json(struct opb_node *node, char **out);
OPB_MUST_CHECK enum opb_status opb_stacks_text(struct opb_node *node, char **out);

/* The threads in what faulthandler writes: a new array. */
json_t *opb_stacks_read_threads(const char *text);

#endif
