/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/plain/plain.c - what every plugin has: see plain.h */
#include "plain.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int32_t OrthancPluginInitialize(OrthancPluginContext *context);
EXPORT void OrthancPluginFinalize(void);
EXPORT const char *OrthancPluginGetName(void);
EXPORT const char *OrthancPluginGetVersion(void);

static OrthancPluginContext *orthanc; /* the SDK's callbacks carry no pointer */

OrthancPluginContext *
plain_context(void)
{
    return orthanc;
}

OrthancPluginErrorCode
plain_hand_on(OrthancPluginRestOutput *output, const char *uri, bool is_after_plugins,
              const char *mime_type)
{
    OrthancPluginMemoryBuffer buffer = {NULL, 0};
    OrthancPluginErrorCode code =
        is_after_plugins ? OrthancPluginRestApiGetAfterPlugins(orthanc, &buffer, uri)
                         : OrthancPluginRestApiGet(orthanc, &buffer, uri);

    if (code == OrthancPluginErrorCode_Success) {
        OrthancPluginAnswerBuffer(orthanc, output, buffer.data, buffer.size, mime_type);
        OrthancPluginFreeMemoryBuffer(orthanc, &buffer);
    }
    return code;
}

int32_t
OrthancPluginInitialize(OrthancPluginContext *context)
{
    orthanc = context;
    for (const struct plain_route *route = plain_plugin.routes; route->pattern != NULL;
         route++) {
        OrthancPluginRegisterRestCallbackNoLock(context, route->pattern, route->callback);
    }
    return 0;
}

void
OrthancPluginFinalize(void)
{
    orthanc = NULL;
}

const char *
OrthancPluginGetName(void)
{
    return plain_plugin.name;
}

const char *
OrthancPluginGetVersion(void)
{
    return "1";
}
