/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node_status.h - how the bridge is, in JSON */
#ifndef OPB_NODE_STATUS_H
#define OPB_NODE_STATUS_H

#include "node.h"

/* Gives a text, to be freed; NULL without memory. Calls nothing of Orthanc. */
char *opb_node_status_text(struct opb_node *node);

#endif
