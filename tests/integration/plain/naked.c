/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/plain/naked.c - a plugin without our two protections
 *
 * It calls the SDK from a REST callback as any plain plugin does: on the thread's own small
 * stack, and without a catch-all. test_nesting.py shows with it what plugin/stack.c and
 * plugin/shim.cc are there for.
 *
 *   /naked/archive/STUDY   a nested archive, below frames of 48 KiB
 *   /naked/find            a query that makes JsonCpp throw, on a thread of the plugin's
 * own
 */
#include "plain.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define FRAME_BYTES 49152 /* of the about 74 KiB that a callback of an HTTP thread has */

static OrthancPluginErrorCode
archive(OrthancPluginRestOutput *output, const char *url,
        const OrthancPluginHttpRequest *request)
{
    volatile char frame[FRAME_BYTES];
    OrthancPluginErrorCode code;
    char uri[256];

    (void)url;
    for (size_t i = 0; i < sizeof(frame); i += 1024) {
        frame[i] = 1; /* a callback's locals */
    }
    (void)snprintf(uri, sizeof(uri), "/studies/%s/archive", request->groups[0]);
    code = plain_hand_on(output, uri, false, "application/zip");
    return frame[0] == 1 ? code : OrthancPluginErrorCode_InternalError; /* it is in use */
}

static void *
find_on_own_thread(void *argument)
{
    static const char query[] = "{\"Level\": \"Study\", \"Query\": [1]}";
    OrthancPluginMemoryBuffer buffer = {NULL, 0};

    (void)argument;
    if (OrthancPluginRestApiPost(plain_context(), &buffer, "/tools/find", query,
                                 (uint32_t)strlen(query)) ==
        OrthancPluginErrorCode_Success) {
        OrthancPluginFreeMemoryBuffer(plain_context(), &buffer);
    }
    return NULL;
}

static OrthancPluginErrorCode
find(OrthancPluginRestOutput *output, const char *url,
     const OrthancPluginHttpRequest *request)
{
    pthread_t thread;

    (void)url;
    (void)request;
    if (pthread_create(&thread, NULL, find_on_own_thread, NULL) != 0) {
        return OrthancPluginErrorCode_Plugin;
    }
    pthread_join(thread, NULL);
    OrthancPluginAnswerBuffer(plain_context(), output, "survived", 8, "text/plain");
    return OrthancPluginErrorCode_Success;
}

static const struct plain_route routes[] = {
    {"/naked/archive/(.*)", archive},
    {"/naked/find", find},
    {NULL, NULL},
};

const struct plain_plugin plain_plugin = {.name = "naked", .routes = routes};
