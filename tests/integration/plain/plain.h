/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/plain/plain.h - the set-up of a plain plugin with REST routes
 *
 * A plugin of the tests is one file that defines plain_plugin, and plain.c.
 */
#ifndef OPB_TESTS_PLAIN_H
#define OPB_TESTS_PLAIN_H

#include <orthanc/OrthancCPlugin.h>
#include <stdbool.h>

struct plain_route {
    const char *pattern;
    OrthancPluginRestCallback callback;
};

struct plain_plugin {
    const char *name;
    const struct plain_route *routes; /* the last one has no pattern */
};

extern const struct plain_plugin plain_plugin;

/* As given by Orthanc, between Initialize and Finalize. */
OrthancPluginContext *plain_context(void);
/* Gets a route of Orthanc itself (is_after_plugins: or of a plugin), and answers with its
 * body. */
OrthancPluginErrorCode plain_hand_on(OrthancPluginRestOutput *output, const char *uri,
                                     bool is_after_plugins, const char *mime_type);

#endif
