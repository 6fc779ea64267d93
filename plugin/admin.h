/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/admin.h - the bridge's own REST routes, below Python.AdminPath */
#ifndef OPB_ADMIN_H
#define OPB_ADMIN_H

#include "node.h"

/* Inside OrthancPluginInitialize, before the script's routes: the first one that matches is
 * the one that Orthanc calls. */
void opb_admin_register(struct opb_node *node);

#endif
