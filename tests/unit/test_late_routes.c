/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_late_routes.c - REST routes that appear while Orthanc serves
 */
#include "routes_fixture.h"

#include "plugin/late_routes.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static bool
is_registered(void *context)
{
    return routes_number(context, 1) != UINT32_MAX;
}

static bool
has_new_route(void *context)
{
    return routes_number_in(context, routes_second_session, 1) != UINT32_MAX;
}

static bool
is_refused(void *context)
{
    (void)context;
    return fake_log_has("it needs a restart of Orthanc to become effective");
}

static void
late_route_works_if_no_other_plugin_is_loaded(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    assert_int_equal(routes_add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(routes_number(node, 1), 1);
    assert_int_equal(routes_registered_count(), 2);
}

static void
late_route_beside_other_plugins_needs_a_restart(void **state)
{
    struct opb_node *node = *state;

    routes_other_plugins("[\"explorer.js\", \"dicom-web\", \"python\"]");
    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    assert_int_equal(routes_add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_refused, node, 5000);
    assert_int_equal(routes_registered_count(), 1);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
late_route_beside_other_plugins_works_if_the_configuration_says_so(void **state)
{
    struct opb_node *node = *state;

    routes_other_plugins("[\"dicom-web\", \"python\"]");
    node->config->late_routes = true;
    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    assert_int_equal(routes_add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
}

static void
late_route_with_a_bad_pattern_is_logged(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    assert_int_equal(routes_add(node, "Rest", "/bad[", 1), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/good", 2), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(routes_number(node, 1), 2);
    assert_true(fake_log_has("The REST route /bad[, registered after the start of Orthanc, "
                             "does not work"));
}

static atomic_bool is_at_gate, has_passed;
static atomic_uint registered_at_gate; /* when it was passed */

static void
pass_gate(void *context)
{
    atomic_store(&is_at_gate, true);
    opb_late_gate(context);
    atomic_store(&registered_at_gate, routes_registered_count());
    atomic_store(&has_passed, true);
}

static bool
is_waiting_at_gate(void *context)
{
    (void)context;
    return atomic_load(&is_at_gate);
}

/* The thread that registers late routes has begun: this is the first thing that it does. */
static bool
has_asked_for_plugins(void *context)
{
    (void)context;
    return fake_calls(_OrthancPluginService_RestApiGet) > 0;
}

/* Nothing tells that something is not going to happen: it gets the time to. */
static void
let_it_happen(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
}

static void
late_route_waits_for_running_callbacks_and_holds_new_requests_back(void **state)
{
    struct opb_node *node = *state;
    struct opb_late *late = opb_routes_late(node->routes);
    struct opb_thread *thread;

    atomic_store(&is_at_gate, false);
    atomic_store(&has_passed, false);
    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    assert_true(opb_late_enter(late)); /* a REST callback that registers a route */
    assert_int_equal(routes_add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(has_asked_for_plugins, NULL, 5000);
    let_it_happen();
    assert_int_equal(routes_number(node, 1), UINT32_MAX);
    thread = opb_thread_start(pass_gate, late);
    opb_wait_until(is_waiting_at_gate, NULL, 5000);
    let_it_happen();
    assert_false(atomic_load(&has_passed));
    assert_true(opb_late_enter(late)); /* nested calls pass */
    opb_late_leave(late);
    opb_late_leave(late);
    opb_wait_until(is_registered, node, 5000);
    opb_thread_join(thread);
    assert_int_equal(atomic_load(&registered_at_gate), 2); /* not before it was there */
}

static void
late_route_of_a_new_host_is_registered_after_it_has_loaded(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(routes_add(node, "Rest", "/a", 3), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/new", 4), OPB_OK);
    routes_commit(node, NULL);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(routes_number(node, 0), 3);
    assert_int_equal(routes_number(node, 1), 4);
}

static void
late_routes_are_left_alone_once_orthanc_stops(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    opb_node_set_phase(node, OPB_PHASE_STOPPED);
    assert_int_equal(routes_add(node, "Rest", "/late", 1), OPB_OK);
    let_it_happen();
    assert_int_equal(routes_registered_count(), 1);
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiGet), 0);
}

/* A generation of two hosts follows, both with a route that Orthanc does not know. */
static void
begin_with_new_route(struct opb_node *node)
{
    routes_load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    opb_routes_begin(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/new", 5), OPB_OK);
    opb_routes_begin_follower(node->routes, routes_third_session);
    assert_int_equal(routes_add_in(node, routes_third_session, "Rest", "/new", 6), OPB_OK);
    opb_routes_commit(node->routes, routes_second_session);
    opb_routes_join(node->routes, routes_third_session);
    opb_routes_look_for_late(node->routes);
}

static void
late_route_of_a_new_generation_is_registered_once_for_all_its_hosts(void **state)
{
    struct opb_node *node = *state;

    begin_with_new_route(node);
    opb_wait_until(has_new_route, node, 5000);
    assert_int_equal(routes_number_in(node, routes_second_session, 1), 5);
    assert_int_equal(routes_number_in(node, routes_third_session, 1), 6);
    assert_int_equal(routes_number_in(node, routes_first_session, 1), UINT32_MAX);
    assert_int_equal(routes_registered_count(), 2);
    assert_false(opb_routes_has_waiting(node->routes));
}

#define MANY_ROUTES 10000u

/* Each pattern of ten is the one before it, once more. */
static void
many_pattern(char pattern[32], uint32_t i)
{
    (void)snprintf(pattern, 32, "/many/%u", i % 10 == 9 ? i - 1 : i); /* all of them fit */
}

static void
add_many(struct opb_node *node, const struct opb_session *session, uint32_t first_index)
{
    char pattern[32];

    for (uint32_t i = 0; i < MANY_ROUTES; i++) {
        many_pattern(pattern, i);
        assert_int_equal(routes_add_in(node, session, "Rest", pattern, first_index + i),
                         OPB_OK);
    }
}

static bool
waits_no_more(void *context)
{
    return !opb_routes_has_waiting(((struct opb_node *)context)->routes);
}

static void
many_late_routes_are_registered_in_the_order_of_the_script(void **state)
{
    struct opb_node *node = *state;
    char text[256];
    char pattern[32];

    routes_load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    opb_routes_begin(node->routes, routes_second_session);
    add_many(node, routes_second_session, 0);
    opb_routes_begin_follower(node->routes, routes_third_session);
    add_many(node, routes_third_session, 50000);
    assert_false(opb_routes_differ(node->routes, routes_third_session,
                                   routes_second_session, text, sizeof(text)));
    opb_routes_commit(node->routes, routes_second_session);
    opb_routes_join(node->routes, routes_third_session);
    opb_routes_look_for_late(node->routes);
    opb_wait_until(waits_no_more, node, 60000);
    assert_int_equal(routes_registered_count(), 1 + MANY_ROUTES);
    for (uint32_t i = 0; i < MANY_ROUTES; i++) {
        many_pattern(pattern, i);
        assert_string_equal(routes_registered(1 + i)->pattern, pattern);
        assert_int_equal(routes_number_in(node, routes_second_session, 1 + i), i);
        assert_int_equal(routes_number_in(node, routes_third_session, 1 + i), 50000 + i);
    }
}

static void
late_route_that_is_refused_is_said_once_for_all_hosts(void **state)
{
    struct opb_node *node = *state;

    routes_other_plugins("[\"dicom-web\", \"python\"]");
    begin_with_new_route(node);
    opb_wait_until(is_refused, node, 5000);
    opb_routes_forget(node->routes, routes_second_session);
    assert_false(opb_routes_has_waiting(node->routes));
    assert_int_equal(fake_log_count("it needs a restart of Orthanc to become effective"),
                     1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(late_route_works_if_no_other_plugin_is_loaded),
        ROUTE_TEST(late_route_beside_other_plugins_needs_a_restart),
        ROUTE_TEST(late_route_beside_other_plugins_works_if_the_configuration_says_so),
        ROUTE_TEST(late_route_with_a_bad_pattern_is_logged),
        ROUTE_TEST(late_route_waits_for_running_callbacks_and_holds_new_requests_back),
        ROUTE_TEST(late_route_of_a_new_host_is_registered_after_it_has_loaded),
        ROUTE_TEST(late_routes_are_left_alone_once_orthanc_stops),
        ROUTE_TEST(late_route_of_a_new_generation_is_registered_once_for_all_its_hosts),
        ROUTE_TEST(many_late_routes_are_registered_in_the_order_of_the_script),
        ROUTE_TEST(late_route_that_is_refused_is_said_once_for_all_hosts),
    };

    return OPB_RUN(tests);
}
