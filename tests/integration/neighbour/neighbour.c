/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/neighbour/neighbour.c - another plugin that serves REST routes
 *
 * Its callbacks hold the locks that the registration of one more route waits for, and call
 * back into plugins meanwhile: test_late_routes.py shows that ours leaves it alone.
 *
 *   /neighbour/plain        answers "neighbour"
 *   /neighbour/slow/MS      the same after so many milliseconds
 *   /neighbour/nested/PATH  what GET /PATH answers, plugins included
 */
#include <orthanc/OrthancCPlugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int32_t OrthancPluginInitialize(OrthancPluginContext *context);
EXPORT void OrthancPluginFinalize(void);
EXPORT const char *OrthancPluginGetName(void);
EXPORT const char *OrthancPluginGetVersion(void);

static OrthancPluginContext *orthanc;

static OrthancPluginErrorCode
plain(OrthancPluginRestOutput *output, const char *url,
      const OrthancPluginHttpRequest *request)
{
    static const char text[] = "neighbour";

    (void)url;
    (void)request;
    OrthancPluginAnswerBuffer(orthanc, output, text, (uint32_t)strlen(text), "text/plain");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
slow(OrthancPluginRestOutput *output, const char *url,
     const OrthancPluginHttpRequest *request)
{
    long ms = strtol(request->groups[0], NULL, 10);

    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000},
                    NULL);
    return plain(output, url, request);
}

static OrthancPluginErrorCode
nested(OrthancPluginRestOutput *output, const char *url,
       const OrthancPluginHttpRequest *request)
{
    OrthancPluginMemoryBuffer buffer = {NULL, 0};
    OrthancPluginErrorCode code;
    char uri[256];

    (void)url;
    (void)snprintf(uri, sizeof(uri), "/%s", request->groups[0]);
    code = OrthancPluginRestApiGetAfterPlugins(orthanc, &buffer, uri);
    if (code == OrthancPluginErrorCode_Success) {
        OrthancPluginAnswerBuffer(orthanc, output, buffer.data, buffer.size, "text/plain");
        OrthancPluginFreeMemoryBuffer(orthanc, &buffer);
    }
    return code;
}

int32_t
OrthancPluginInitialize(OrthancPluginContext *context)
{
    orthanc = context;
    OrthancPluginRegisterRestCallbackNoLock(context, "/neighbour/plain", plain);
    OrthancPluginRegisterRestCallbackNoLock(context, "/neighbour/slow/([0-9]+)", slow);
    OrthancPluginRegisterRestCallbackNoLock(context, "/neighbour/nested/(.*)", nested);
    return 0;
}

void
OrthancPluginFinalize(void)
{
}

const char *
OrthancPluginGetName(void)
{
    return "neighbour";
}

const char *
OrthancPluginGetVersion(void)
{
    return "1";
}
