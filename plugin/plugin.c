/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/plugin.c - the four functions that Orthanc calls
 *
 * Here:      the order in which the parts of the bridge begin and end.
 * Elsewhere: the parts.
 *
 * Orthanc does not call Finalize if Initialize fails, and unmaps the library either way: so
 * both must leave no thread, no process and no file behind. /tools/reset comes through here
 * again in the same process, with or without fresh static variables.
 */
#include "plugin/opb_plugin.h"

#include "plugin/admin.h"
#include "plugin/config.h"
#include "plugin/events.h"
#include "plugin/last_jobs.h"
#include "plugin/log.h"
#include "plugin/metrics.h"
#include "plugin/policy.h"
#include "plugin/node.h"
#include "plugin/pool.h"
#include "plugin/routes.h"
#include "plugin/scripts.h"
#include "plugin/shim.h"
#include "plugin/stack.h"

#include "protocol/blocks.h"

#include <stdio.h>
#include <string.h>

#define OLDEST_MAJOR    1
#define OLDEST_MINOR    10
#define OLDEST_REVISION 1

#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)
#define SDK_VERSION                                                                        \
    STRINGIFY(ORTHANC_PLUGINS_MINIMAL_MAJOR_NUMBER)                                        \
    "." STRINGIFY(ORTHANC_PLUGINS_MINIMAL_MINOR_NUMBER) "." STRINGIFY(                     \
        ORTHANC_PLUGINS_MINIMAL_REVISION_NUMBER)

ORTHANC_PLUGINS_API int32_t OrthancPluginInitialize(OrthancPluginContext *context);
ORTHANC_PLUGINS_API void OrthancPluginFinalize(void);
ORTHANC_PLUGINS_API const char *OrthancPluginGetVersion(void);
ORTHANC_PLUGINS_API const char *OrthancPluginGetName(void);

ORTHANC_PLUGINS_API const char *
OrthancPluginGetName(void)
{
    return "python"; /* scripts and clients name it so */
}

ORTHANC_PLUGINS_API const char *
OrthancPluginGetVersion(void)
{
    return OPB_BUILD_VERSION;
}

/* Ends whatever has begun, in reverse. */
static void
end_node(struct opb_node *node)
{
    opb_node_set_phase(node, OPB_PHASE_FINALIZING);
    opb_last_jobs_end(node->last_jobs);
    opb_pool_stop(node);
    if (node->events != NULL) {
        opb_events_stop(node->events);
        opb_events_free(node->events);
        node->events = NULL;
    }
    opb_pool_free(node); /* after the thread of events, which may be at the end of a call */
    if (node->routes != NULL) {
        opb_routes_free(node->routes);
        node->routes = NULL;
    }
    opb_node_set_current(NULL);
    opb_stacks_fini();
    opb_blocks_fini();
    opb_shim_free(node->context);
    opb_node_free(node);
}

static enum opb_status
read_config(struct opb_node *node)
{
    char *json = OrthancPluginGetConfiguration(node->context);
    char message[1024];
    enum opb_status status;

    if (json == NULL) {
        opb_log_error("Orthanc does not give its configuration");
        return OPB_REFUSED;
    }
    status = opb_config_parse(&node->config, json, message, sizeof(message));
    OrthancPluginFreeString(node->context, json);
    if (status != OPB_OK) {
        opb_log_error("%s", message);
        opb_log_error("Exception while starting the Python plugin: %s",
                      status == OPB_REFUSED ? "Bad file format" : "Not enough memory");
    }
    return status;
}

static void
log_scripts(const struct opb_node *node)
{
    char *orthanc = OrthancPluginGetOrthancPath(node->context);

    for (uint32_t i = 0; i < node->scripts->count; i++) {
        const char *path = node->scripts->paths[i];
        const char *name = strrchr(path, '/') + 1; /* absolute */

        opb_log_warning("Using Python script \"%.*s.py\" from directory: %.*s",
                        (int)(strrchr(name, '.') - name), name,
                        name - path > 1 ? (int)(name - path - 1) : 1, path);
    }
    opb_log_warning("Program name: %s", orthanc == NULL ? "" : orthanc);
    if (orthanc != NULL) {
        OrthancPluginFreeString(node->context, orthanc);
    }
}

static enum opb_status
start_parts(struct opb_node *node, char *message, size_t capacity)
{
    enum opb_status status;

    status = opb_routes_new(&node->routes, node);
    if (status == OPB_OK) {
        status = opb_events_new(&node->events, node);
    }
    if (status == OPB_OK) {
        status = opb_events_start(node->events);
    }
    if (status != OPB_OK) {
        (void)snprintf(message, capacity, "The Python plugin cannot be started: %s",
                       opb_status_text(status));
        return status;
    }
    opb_admin_register(node);
    opb_metrics_register(node);
    status = opb_pool_start(node, message, capacity);
    if (status == OPB_OK) {
        opb_routes_register_fixed(node->routes);
    }
    return status;
}

/* OPB_OK: the plugin stays loaded. */
static enum opb_status
start(struct opb_node *node)
{
    char message[1024] = "";
    enum opb_status status;

    opb_log_warning("Python plugin is initializing");
    opb_log_warning("Version of the Orthanc SDK in use by the Python plugin: " SDK_VERSION);
    status = read_config(node);
    if (status != OPB_OK) {
        return status;
    }
    if (node->config->script == NULL) {
        opb_log_warning(
            "Options \"PythonScript\" and \"Python.Path\" are not provided: Python "
            "scripting is disabled");
        return OPB_OK;
    }
    status = opb_scripts_find(&node->scripts, node->config, message, sizeof(message));
    if (status == OPB_OK) {
        log_scripts(node);
        opb_policy_announce(node);
        status = start_parts(node, message, sizeof(message));
    }
    if (status == OPB_OK) {
        opb_node_set_phase(node, OPB_PHASE_RUNNING);
    }
    else if (message[0] != '\0') {
        opb_log_error("%s", message);
    }
    return status;
}

static void
describe_plugin(OrthancPluginContext *context)
{
/* Newer headers prefer a function that older servers lack. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    OrthancPluginSetDescription(context, "Run Python scripts as Orthanc plugins");
#pragma GCC diagnostic pop
}

ORTHANC_PLUGINS_API int32_t
OrthancPluginInitialize(OrthancPluginContext *context)
{
    struct opb_node *node;

    if (opb_node_new(&node) != OPB_OK) {
        return -1;
    }
    node->orthanc = context;
    node->context = opb_shim_new(context);
    if (node->context == NULL) {
        opb_node_free(node);
        return -1;
    }
    opb_node_set_current(node);
    if (!OrthancPluginCheckVersionAdvanced(node->context, OLDEST_MAJOR, OLDEST_MINOR,
                                           OLDEST_REVISION)) {
        opb_log_error(
            "Orthanc %s is too old for the Python plugin, which needs %d.%d.%d or "
            "newer",
            context->orthancVersion, OLDEST_MAJOR, OLDEST_MINOR, OLDEST_REVISION);
        end_node(node);
        return -1;
    }
    describe_plugin(node->context);
    if (start(node) != OPB_OK) {
        end_node(node);
        return -1;
    }
    return 0;
}

ORTHANC_PLUGINS_API void
OrthancPluginFinalize(void)
{
    struct opb_node *node = opb_node_current();

    if (node == NULL) {
        return;
    }
    opb_log_warning("Python plugin is finalizing");
    opb_policy_sum_up(node);
    end_node(node);
}
