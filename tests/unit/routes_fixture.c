/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/routes_fixture.c - see routes_fixture.h */
#include "routes_fixture.h"

#include "throwing.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REGISTERED 20000u

static struct registered_route registered[MAX_REGISTERED];
static atomic_uint registered_count;
static const char *plugins_json;

const struct opb_session *const routes_first_session = (const void *)"first";
const struct opb_session *const routes_second_session = (const void *)"second";
const struct opb_session *const routes_third_session = (const void *)"third";

enum opb_fault routes_last_fault;
char routes_last_text[512];

unsigned
routes_registered_count(void)
{
    return atomic_load(&registered_count);
}

const struct registered_route *
routes_registered(unsigned n)
{
    return &registered[n];
}

void
routes_other_plugins(const char *json)
{
    plugins_json = json;
}

static OrthancPluginErrorCode
register_rest(const void *params)
{
    const _OrthancPluginRestCallback *rest = params;
    unsigned n = atomic_load(&registered_count);

    if (strchr(rest->pathRegularExpression, '[') != NULL) {
        throw_runtime_error("Unmatched [ or [^ in character class declaration.");
    }
    (void)snprintf(registered[n].pattern, sizeof(registered[n].pattern), "%s",
                   rest->pathRegularExpression);
    registered[n].callback = rest->callback;
    atomic_store(&registered_count, n + 1);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
get_plugins(const void *params)
{
    const _OrthancPluginRestApiGet *get = params;

    assert_string_equal(get->uri, "/plugins");
    get->target->data = strdup(plugins_json);
    get->target->size = (uint32_t)strlen(plugins_json);
    return OrthancPluginErrorCode_Success;
}

int
routes_set_up(void **state)
{
    struct opb_node *node = fake_node_new();

    atomic_store(&registered_count, 0);
    plugins_json = "[\"explorer.js\", \"python\"]";
    fake_on(_OrthancPluginService_RegisterRestCallbackNoLock, register_rest);
    fake_on(_OrthancPluginService_RestApiGet, get_plugins);
    opb_node_set_phase(node, OPB_PHASE_LOADING);
    opb_routes_begin(node->routes, NULL);
    *state = node;
    return 0;
}

int
routes_tear_down(void **state)
{
    fake_node_free(*state);
    return 0;
}

enum opb_status
routes_add_in(struct opb_node *node, const struct opb_session *session, const char *kind,
              const char *pattern, uint32_t index)
{
    routes_last_text[0] = '\0';
    return opb_routes_add(node->routes, session, kind, pattern, index, &routes_last_fault,
                          routes_last_text, sizeof(routes_last_text));
}

enum opb_status
routes_add(struct opb_node *node, const char *kind, const char *pattern, uint32_t index)
{
    return routes_add_in(node, NULL, kind, pattern, index);
}

void
routes_commit(struct opb_node *node, const struct opb_session *session)
{
    opb_routes_log_losses(node->routes, session);
    opb_routes_commit(node->routes, session);
    opb_routes_look_for_late(node->routes);
}

void
routes_run_host(struct opb_node *node)
{
    routes_commit(node, NULL);
    fake_host_start(node, fake_answer_nil);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
}

uint32_t
routes_number_in(struct opb_node *node, const struct opb_session *session, uint32_t entry)
{
    uint32_t index = 0;

    return opb_routes_lookup(node->routes, session, entry, &index) ? index : UINT32_MAX;
}

uint32_t
routes_number(struct opb_node *node, uint32_t entry)
{
    return routes_number_in(node, node->sessions[0], entry);
}

void
routes_load_first(struct opb_node *node)
{
    node->worker_count = 2;
    opb_routes_begin(node->routes, routes_first_session);
    assert_int_equal(routes_add_in(node, routes_first_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_first_session, "Change", NULL, 0), OPB_OK);
    opb_routes_commit(node->routes, routes_first_session);
}
