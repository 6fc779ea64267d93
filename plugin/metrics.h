/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/metrics.h - the bridge's part of Orthanc's metrics */
#ifndef OPB_METRICS_H
#define OPB_METRICS_H

#include "node.h"

/* Inside OrthancPluginInitialize. From then on whoever reads /tools/metrics-prometheus
 * gets the values of that moment: docs/admin-api.md names them. */
void opb_metrics_register(struct opb_node *node);

#endif
