/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/self_query.c - a C-FIND to this very server inside a C-FIND
 *
 * Orthanc holds a lock that is not recursive while it runs a C-FIND callback, and another
 * one for a worklist callback; each C-FIND that comes in needs those of both kinds that
 * plugins handle. So a query to itself ends with the DICOM timeout, or never if there is
 * none: then the server hangs, and cannot even stop.
 *
 * Refused is only what cannot succeed: the port is that of our own DICOM server, and every
 * address of the host is one of this machine. What this does not see, such as an address
 * that a router leads back here, is left to the timeout.
 */
#include "self_query.h"

#include "call.h"
#include "config.h"
#include "invocation.h"
#include "routes.h"

#include <ifaddrs.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_URI_BYTES  512u
#define MAX_PARTS      6u
#define MAX_HOST_BYTES 256u

/* -- this machine ------------------------------------------------------------------------
 */

static bool
is_own_address(const struct ifaddrs *interfaces, struct in_addr address)
{
    if (address.s_addr == htonl(INADDR_ANY) || ntohl(address.s_addr) >> 24 == 127) {
        return true;
    }
    for (const struct ifaddrs *each = interfaces; each != NULL; each = each->ifa_next) {
        if (each->ifa_addr != NULL && each->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *own =
                (const struct sockaddr_in *)(const void *)each->ifa_addr;

            if (own->sin_addr.s_addr == address.s_addr) {
                return true;
            }
        }
    }
    return false;
}

bool
opb_host_is_this_machine(const char *host)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses = NULL;
    struct ifaddrs *interfaces = NULL;
    bool is_own;

    if (host[0] == '\0' || getaddrinfo(host, NULL, &hints, &addresses) != 0) {
        return false;
    }
    is_own = addresses != NULL && getifaddrs(&interfaces) == 0;
    for (const struct addrinfo *each = addresses; is_own && each != NULL;
         each = each->ai_next) {
        const struct sockaddr_in *address =
            (const struct sockaddr_in *)(const void *)each->ai_addr;

        is_own = is_own_address(interfaces, address->sin_addr);
    }
    if (interfaces != NULL) {
        freeifaddrs(interfaces);
    }
    freeaddrinfo(addresses);
    return is_own;
}

/* -- the modality ------------------------------------------------------------------------
 */

/* What GET answers, as text or JSON. False: Orthanc has no answer. */
static bool
get(struct opb_node *node, const char *uri, OrthancPluginMemoryBuffer *answer)
{
    *answer = (OrthancPluginMemoryBuffer){.data = NULL};
    return OrthancPluginRestApiGet(node->context, answer, uri) ==
           OrthancPluginErrorCode_Success;
}

static bool
get_text(struct opb_node *node, const char *uri, char *out, size_t capacity)
{
    OrthancPluginMemoryBuffer answer;
    bool fits;

    if (!get(node, uri, &answer)) {
        return false;
    }
    fits = answer.size > 0 && answer.size < capacity;
    if (fits) {
        memcpy(out, answer.data, answer.size);
        out[answer.size] = '\0';
    }
    OrthancPluginFreeMemoryBuffer(node->context, &answer);
    return fits;
}

/* Whether a connection to the modality would be one to our own DICOM server. */
static bool
is_this_server(struct opb_node *node, const char *modality, char *host, size_t capacity)
{
    char uri[MAX_URI_BYTES + 32];
    OrthancPluginMemoryBuffer answer;
    json_t *object;
    const char *name;
    bool is_own;

    if (modality[0] == '\0' || strchr(modality, '?') != NULL) {
        return false; /* a GET would take it for something else */
    }
    /* fits: the modality is part of a path of that size */
    (void)snprintf(uri, sizeof(uri), "/modalities/%s/configuration", modality);
    if (!get(node, uri, &answer)) {
        return false;
    }
    object = json_loadb(answer.data, answer.size, 0, NULL);
    OrthancPluginFreeMemoryBuffer(node->context, &answer);
    name = json_string_value(json_object_get(object, "Host"));
    is_own = name != NULL && strlen(name) < capacity &&
             json_integer_value(json_object_get(object, "Port")) ==
                 (json_int_t)node->config->dicom_port &&
             opb_host_is_this_machine(name);
    if (is_own) {
        strcpy(host, name);
    }
    json_decref(object);
    return is_own;
}

/* -- the path ----------------------------------------------------------------------------
 */

/* Splits a path at its slashes, which become NUL. 0: too many parts, or no path. */
static size_t
split(char *path, const char *parts[MAX_PARTS])
{
    size_t count = 0;
    size_t bytes = strlen(path);

    if (bytes > 1 && path[bytes - 1] == '/') {
        path[bytes - 1] = '\0';
    }
    if (path[0] != '/') {
        return 0;
    }
    for (char *at = path; at != NULL; at = strchr(at, '/')) {
        if (count == MAX_PARTS) {
            return 0;
        }
        *at++ = '\0';
        parts[count++] = at;
    }
    return count;
}

static bool
is_one_of(const char *text, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The modality that a POST to the path asks by C-FIND. False: it does no such thing. */
static bool
find_modality(struct opb_node *node, char *path, char *modality)
{
    static const char *const by_modality[] = {
        "query",       "find",          "find-patient", "find-study",
        "find-series", "find-instance", "find-worklist"};
    static const char *const by_answer[] = {"query-instances", "query-series",
                                            "query-studies"};
    const char *parts[MAX_PARTS];
    size_t count = split(path, parts);
    char uri[MAX_URI_BYTES + 32];

    if (count == 3 && strcmp(parts[0], "modalities") == 0 &&
        is_one_of(parts[2], by_modality, sizeof(by_modality) / sizeof(by_modality[0]))) {
        strcpy(modality, parts[1]);
        return true;
    }
    if (count == 5 && strcmp(parts[0], "queries") == 0 &&
        strcmp(parts[2], "answers") == 0 &&
        is_one_of(parts[4], by_answer, sizeof(by_answer) / sizeof(by_answer[0])) &&
        strchr(parts[1], '?') == NULL) {
        (void)snprintf(uri, sizeof(uri), "/queries/%s/modality", parts[1]); /* fits */
        return get_text(node, uri, modality, MAX_URI_BYTES);
    }
    return false;
}

bool
opb_pattern_may_match(const char *pattern, const char *path)
{
    size_t bytes = strcspn(pattern, "\\^$.|?*+()[]{}"); /* are what they look like */

    if (strchr(pattern, '|') != NULL || pattern[0] == '^') {
        return true;
    }
    if (bytes > 0 && pattern[bytes] != '\0' && strchr("?*{", pattern[bytes]) != NULL) {
        bytes--; /* it need not be there */
    }
    return strncmp(pattern, path, bytes) == 0;
}

/* Whether a route that was registered could be what runs, instead of Orthanc's own. */
static bool
may_be_a_route(struct opb_node *node, const char *path)
{
    const char *pattern;

    for (uint32_t i = 0; i < OPB_MAX_ROUTES; i++) {
        pattern = opb_routes_pattern(node->routes, i);
        if (pattern[0] == '\0') {
            break;
        }
        if (opb_pattern_may_match(pattern, path)) {
            return true;
        }
    }
    return false;
}

bool
opb_self_query_is_certain(struct opb_node *node, const char *function, const char *uri,
                          size_t uri_bytes, char *text, size_t capacity)
{
    const bool is_core = strcmp(function, "RestApiPost") == 0;
    char path[MAX_URI_BYTES];
    char modality[MAX_URI_BYTES];
    char host[MAX_HOST_BYTES];

    if ((!is_core && strcmp(function, "RestApiPostAfterPlugins") != 0) ||
        uri_bytes >= sizeof(path) ||
        (!opb_call_is_inside(OPB_CALL_FIND_INDEX) &&
         !opb_call_is_inside(OPB_CALL_FIND2_INDEX) &&
         !opb_call_is_inside(OPB_CALL_WORKLIST_INDEX) &&
         !opb_call_is_inside(OPB_CALL_WORKLIST2_INDEX))) {
        return false;
    }
    memcpy(path, uri, uri_bytes);
    path[uri_bytes] = '\0';
    if ((!is_core && may_be_a_route(node, path)) || !find_modality(node, path, modality) ||
        !is_this_server(node, modality, host, sizeof(host))) {
        return false;
    }
    /* cut if it does not fit */
    (void)snprintf(text, capacity,
                   "%s cannot ask the modality \"%.60s\" inside a C-FIND or worklist "
                   "callback: it is this very server (%.60s:%u), which answers one C-FIND "
                   "at a time, and would wait for itself",
                   function, modality, host, (unsigned)node->config->dicom_port);
    return true;
}
