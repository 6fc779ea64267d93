/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/rest_entries.h - one C function for each REST route
 *
 * The SDK's REST callbacks carry no user pointer: the function that Orthanc calls has to
 * name the route by itself, so that no regular expression is matched a second time.
 */
#ifndef OPB_REST_ENTRIES_H
#define OPB_REST_ENTRIES_H

#include "routes.h"

/* entry below OPB_MAX_ROUTES: the function that calls opb_callback_rest(entry, ...). */
OrthancPluginRestCallback opb_rest_entry(uint32_t entry);

#endif
