/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/routes_fixture.h - a node that loads, and a server that takes its REST routes
 *
 * Here:      what the tests of registrations share (test_routes*.c, test_late_routes.c).
 * Elsewhere: the node and its server (plugin_support.h).
 */
#ifndef OPB_ROUTES_FIXTURE_H
#define OPB_ROUTES_FIXTURE_H

#include "plugin_support.h"

#include "plugin/routes.h"

/* A node in OPB_PHASE_LOADING, whose host has begun to register. Its server refuses
 * patterns with a bracket, as Boost does. */
int routes_set_up(void **state);
int routes_tear_down(void **state);

/* What the server has got. */
struct registered_route {
    char pattern[64];
    OrthancPluginRestCallback callback;
};
unsigned routes_registered_count(void);
const struct registered_route *routes_registered(unsigned n);
/* What it says to GET /plugins: by default, only what this plugin brings. */
void routes_other_plugins(const char *json);

/* Names of sessions: never looked into. NULL is one more. */
extern const struct opb_session *const routes_first_session;
extern const struct opb_session *const routes_second_session;
extern const struct opb_session *const routes_third_session;

/* A registration by a session, or by NULL. What it was refused with is in the last two. */
enum opb_status routes_add_in(struct opb_node *node, const struct opb_session *session,
                              const char *kind, const char *pattern, uint32_t index);
enum opb_status routes_add(struct opb_node *node, const char *kind, const char *pattern,
                           uint32_t index);
extern enum opb_fault routes_last_fault;
extern char routes_last_text[512];

/* As a host that has loaded; then also as a node that runs. */
void routes_commit(struct opb_node *node, const struct opb_session *session);
void routes_run_host(struct opb_node *node);
/* A generation of two: the first session has /a and OnChange. */
void routes_load_first(struct opb_node *node);

/* The number that a session, or the current host, has for an entry; UINT32_MAX: none. */
uint32_t routes_number_in(struct opb_node *node, const struct opb_session *session,
                          uint32_t entry);
uint32_t routes_number(struct opb_node *node, uint32_t entry);

#define ROUTE_TEST(function)                                                               \
    cmocka_unit_test_setup_teardown(function, routes_set_up, routes_tear_down)

#endif
