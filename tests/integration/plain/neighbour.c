/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/integration/plain/neighbour.c - another plugin that serves REST routes
 *
 * Its callbacks hold the locks that the registration of one more route waits for, and call
 * back into plugins meanwhile: test_late_routes.py shows that ours leaves it alone.
 *
 *   /neighbour/plain        answers "neighbour"
 *   /neighbour/slow/MS      the same after so many milliseconds
 *   /neighbour/nested/PATH  what GET /PATH answers, plugins included
 */
#include "plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static OrthancPluginErrorCode
plain(OrthancPluginRestOutput *output, const char *url,
      const OrthancPluginHttpRequest *request)
{
    static const char text[] = "neighbour";

    (void)url;
    (void)request;
    OrthancPluginAnswerBuffer(plain_context(), output, text, (uint32_t)strlen(text),
                              "text/plain");
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
    char uri[256];

    (void)url;
    (void)snprintf(uri, sizeof(uri), "/%s", request->groups[0]);
    return plain_hand_on(output, uri, true, "text/plain");
}

static const struct plain_route routes[] = {
    {"/neighbour/plain", plain},
    {"/neighbour/slow/([0-9]+)", slow},
    {"/neighbour/nested/(.*)", nested},
    {NULL, NULL},
};

const struct plain_plugin plain_plugin = {.name = "neighbour", .routes = routes};
