/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node_status.h - how the bridge is, in JSON */
#ifndef OPB_NODE_STATUS_H
#define OPB_NODE_STATUS_H

#include "node.h"

#include <jansson.h>

/* A JSON string of what is UTF-8 in text, which may have been cut inside a character. */
json_t *opb_json_text(const char *text);
/* Gives a text, to be freed; NULL without memory. Calls nothing of Orthanc. */
char *opb_node_status_text(struct opb_node *node);

#endif
