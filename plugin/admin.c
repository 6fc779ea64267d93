/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/admin.c - the bridge's own REST routes, below Python.AdminPath
 *
 * Here:      POST .../reload, GET .../status, GET .../stacks, the page, and their answers.
 * Elsewhere: the reload itself (generations.c), what the status says (node_status.c).
 *
 * Whoever may use the REST API may use them: authentication and the script's HTTP filter
 * come before. They count as REST callbacks of ours (late_routes.h).
 */
#include "plugin/admin.h"

#include "plugin/call.h"
#include "plugin/config.h"
#include "plugin/late_routes.h"
#include "plugin/log.h"
#include "plugin/pool.h"
#include "plugin/routes.h"
#include "plugin/node_status.h"
#include "plugin/page.h"
#include "plugin/stacks_json.h"
#include "plugin/status_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_BYTES 512u

/* Takes answer. */
static void
send_json(struct opb_node *node, OrthancPluginRestOutput *output, uint16_t status,
          json_t *answer)
{
    char *body = answer != NULL ? json_dumps(answer, JSON_INDENT(3)) : NULL;
    const char *text = body != NULL ? body : "{}";
    uint32_t bytes = (uint32_t)strlen(text);

    if (status == 200) {
        OrthancPluginAnswerBuffer(node->context, output, text, bytes, "application/json");
    }
    else {
        OrthancPluginSetHttpHeader(node->context, output, "Content-Type",
                                   "application/json");
        OrthancPluginSendHttpStatus(node->context, output, status, text, bytes);
    }
    free(body);
    json_decref(answer);
}

/* Takes details. */
static void
send_failure(struct opb_node *node, OrthancPluginRestOutput *output, uint16_t status,
             const char *error, json_t *details)
{
    json_t *answer = json_object();

    (void)json_object_set_new(answer, "Error",
                              json_string(error)); /* "{}" without memory */
    (void)json_object_set_new(answer, "Details", details);
    send_json(node, output, status, answer);
}

static void
reload(struct opb_node *node, OrthancPluginRestOutput *output)
{
    static const char waits_for_itself[] =
        "With \"Python.Reload\": \"replace\" the script cannot wait for its own end: ask "
        "for this reload from outside";
    struct opb_reload *result = calloc(1, sizeof(*result)); /* the stack is small */
    json_t *answer;

    if (result == NULL) {
        send_failure(node, output, 500, "Not enough memory", json_null());
        return;
    }
    if (node->config->reload_replaces &&
        (opb_call_depth() > 0 || opb_call_is_inside(OPB_CALL_COUNT))) {
        opb_log_error("%s", waits_for_itself);
        send_failure(node, output, 409, waits_for_itself, json_null());
        free(result);
        return;
    }
    if (opb_call_is_inside(OPB_CALL_LOAD_INDEX)) { /* which it would wait for */
        result->outcome = OPB_RELOAD_BUSY;
    }
    else {
        opb_pool_reload(node->pool, result);
    }
    switch (result->outcome) {
    case OPB_RELOAD_DONE:
        answer = json_object();
        (void)json_object_set_new(answer, "Generation",
                                  json_integer((json_int_t)result->generation));
        (void)json_object_set_new(answer, "Pid", json_integer((json_int_t)result->pid));
        send_json(node, output, 200, answer);
        break;
    case OPB_RELOAD_FAILED:
        send_failure(node, output, 500,
                     result->is_old_gone
                         ? "The script could not be loaded, and the generation before has "
                           "ended: no host serves"
                         : "The script could not be loaded: the generation before goes on",
                     opb_json_text(result->text));
        break;
    case OPB_RELOAD_BUSY:
        send_failure(node, output, 409, "The script is being loaded already", json_null());
        break;
    case OPB_RELOAD_STOPPING:
        send_failure(node, output, 503, "Orthanc is starting or stopping", json_null());
        break;
    }
    free(result);
}

static OrthancPluginErrorCode
serve_reload(OrthancPluginRestOutput *output, const char *url,
             const OrthancPluginHttpRequest *request)
{
    struct opb_node *node = opb_node_current();
    bool may_run;

    (void)url;
    if (node == NULL || node->pool == NULL) {
        return OrthancPluginErrorCode_Plugin;
    }
    if (request->method != OrthancPluginHttpMethod_Post) {
        OrthancPluginSendMethodNotAllowed(node->context, output, "POST");
        return OrthancPluginErrorCode_Success;
    }
    may_run = opb_late_enter(opb_routes_late(node->routes));
    if (may_run) {
        reload(node, output);
    }
    else {
        send_failure(node, output, 503, "A new REST route is being registered",
                     json_null());
    }
    opb_late_leave(opb_routes_late(node->routes));
    return OrthancPluginErrorCode_Success;
}

typedef void (*answer_fn)(struct opb_node *node, OrthancPluginRestOutput *output,
                          const OrthancPluginHttpRequest *request);

/* What all routes have in common that only look. */
static OrthancPluginErrorCode
serve_get(OrthancPluginRestOutput *output, const OrthancPluginHttpRequest *request,
          answer_fn answer)
{
    struct opb_node *node = opb_node_current();

    if (node == NULL || node->pool == NULL) {
        return OrthancPluginErrorCode_Plugin;
    }
    if (request->method != OrthancPluginHttpMethod_Get) {
        OrthancPluginSendMethodNotAllowed(node->context, output, "GET");
        return OrthancPluginErrorCode_Success;
    }
    (void)opb_late_enter(opb_routes_late(node->routes)); /* it takes no lock of Orthanc */
    answer(node, output, request);
    opb_late_leave(opb_routes_late(node->routes));
    return OrthancPluginErrorCode_Success;
}

static void
answer_status(struct opb_node *node, OrthancPluginRestOutput *output,
              const OrthancPluginHttpRequest *request)
{
    char *text = opb_node_status_text(node);

    (void)request;
    if (text != NULL) {
        OrthancPluginAnswerBuffer(node->context, output, text, (uint32_t)strlen(text),
                                  "application/json");
        free(text);
    }
    else {
        send_failure(node, output, 500, "Not enough memory", json_null());
    }
}

static OrthancPluginErrorCode
serve_status(OrthancPluginRestOutput *output, const char *url,
             const OrthancPluginHttpRequest *request)
{
    (void)url;
    return serve_get(output, request, answer_status);
}

static bool
wants_text(const OrthancPluginHttpRequest *request)
{
    for (uint32_t i = 0; i < request->getCount; i++) {
        if (strcmp(request->getKeys[i], "format") == 0) {
            return strcmp(request->getValues[i], "text") == 0;
        }
    }
    return false;
}

static void
answer_stacks(struct opb_node *node, OrthancPluginRestOutput *output,
              const OrthancPluginHttpRequest *request)
{
    bool is_text = wants_text(request);
    enum opb_status status;
    char *body;

    status = is_text ? opb_stacks_text(node, &body) : opb_stacks_json(node, &body);
    if (status == OPB_OK) {
        OrthancPluginAnswerBuffer(node->context, output, body, (uint32_t)strlen(body),
                                  is_text ? "text/plain" : "application/json");
        free(body);
    }
    else {
        send_failure(node, output, status == OPB_LATE ? 503 : 500,
                     "The stacks could not be collected",
                     json_string(opb_status_text(status)));
    }
}

static OrthancPluginErrorCode
serve_stacks(OrthancPluginRestOutput *output, const char *url,
             const OrthancPluginHttpRequest *request)
{
    (void)url;
    return serve_get(output, request, answer_stacks);
}

static void
answer_page(struct opb_node *node, OrthancPluginRestOutput *output,
            const OrthancPluginHttpRequest *request)
{
    static const char *const headers[][2] = {{"Content-Security-Policy", opb_page_policy},
                                             {"X-Content-Type-Options", "nosniff"},
                                             {"Referrer-Policy", "no-referrer"},
                                             {"Cache-Control", "no-cache"}};

    (void)request;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        OrthancPluginSetHttpHeader(node->context, output, headers[i][0], headers[i][1]);
    }
    OrthancPluginAnswerBuffer(node->context, output, opb_page, opb_page_bytes,
                              "text/html; charset=utf-8");
}

static OrthancPluginErrorCode
serve_page(OrthancPluginRestOutput *output, const char *url,
           const OrthancPluginHttpRequest *request)
{
    (void)url;
    return serve_get(output, request, answer_page);
}

/* The link from Orthanc Explorer, in its list of plugins. A script that sets another one
 * comes later, and wins. */
static void
link_page(struct opb_node *node)
{
    char uri[PATTERN_BYTES];

    if (snprintf(uri, sizeof(uri), "%s/", node->config->admin_path) >= (int)sizeof(uri)) {
        return; /* it has been said already */
    }
/* Newer headers prefer a function that older servers lack. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    OrthancPluginSetRootUri(node->context, uri);
#pragma GCC diagnostic pop
}

static void
add_route(struct opb_node *node, const char *name, OrthancPluginRestCallback callback)
{
    char pattern[PATTERN_BYTES];

    if (snprintf(pattern, sizeof(pattern), "%s/%s", node->config->admin_path, name) >=
        (int)sizeof(pattern)) {
        opb_log_error("The configuration option \"Python.AdminPath\" is too long: there is "
                      "no route %s",
                      name);
        return;
    }
    OrthancPluginRegisterRestCallbackNoLock(node->context, pattern, callback);
}

void
opb_admin_register(struct opb_node *node)
{
    if (node->config->admin_path[0] != '\0') {
        add_route(node, "?", serve_page); /* with or without the slash */
        add_route(node, "reload", serve_reload);
        add_route(node, "status", serve_status);
        add_route(node, "stacks", serve_stacks);
        link_page(node);
    }
}
