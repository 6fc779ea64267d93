/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_routes_hosts.c - registrations of the several hosts of a generation
 */
#include "routes_fixture.h"

#include <string.h>

static void
hosts_that_register_the_same_share_the_entries(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    routes_load_first(node);
    opb_routes_begin_follower(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/a", 7), OPB_OK);
    assert_false(opb_routes_differ(node->routes, routes_second_session,
                                   routes_first_session, text, sizeof(text)));
    opb_routes_join(node->routes, routes_second_session);
    assert_int_equal(routes_number_in(node, routes_first_session, 0), 1);
    assert_int_equal(routes_number_in(node, routes_second_session, 0), 7);
    assert_int_equal(routes_registered_count(), 1);
    opb_routes_forget(node->routes, routes_first_session); /* the other one goes on */
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_int_equal(routes_number_in(node, routes_second_session, 0), 7);
}

static void
what_a_host_registers_otherwise_is_named_and_not_registered_with_orthanc(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    routes_load_first(node);
    opb_routes_begin_follower(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/b", 7), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "HttpFilter", NULL, 0),
                     OPB_OK);
    assert_true(opb_routes_differ(node->routes, routes_second_session, routes_first_session,
                                  text, sizeof(text)));
    assert_string_equal(
        text, "it lacks the Python on-changes callback, the REST route /a; only "
              "it has the Python incoming-http-request filter, the REST route /b");
    assert_int_equal(routes_registered_count(), 1);
    assert_false(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_true(opb_routes_differ(node->routes, routes_second_session, routes_first_session,
                                  text, 12));
    assert_string_equal(text, "it lacks th"); /* cut */
}

static void
a_route_that_is_registered_twice_by_one_host_only_is_a_difference(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    routes_load_first(node);
    opb_routes_begin_follower(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/a", 2), OPB_OK);
    assert_true(opb_routes_differ(node->routes, routes_second_session, routes_first_session,
                                  text, sizeof(text)));
    assert_string_equal(text, "only it has the REST route /a");
}

static void
one_of_several_hosts_registers_nothing_after_it_has_loaded(void **state)
{
    struct opb_node *node = *state;

    routes_load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    assert_int_equal(routes_add_in(node, routes_first_session, "Rest", "/late", 2),
                     OPB_REFUSED);
    assert_int_equal(routes_last_fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(routes_last_text, "while the script is imported only"));
    assert_int_equal(routes_add_in(node, routes_first_session, "HttpFilter", NULL, 0),
                     OPB_REFUSED);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
a_switch_that_fails_takes_nothing_away(void **state)
{
    struct opb_node *node = *state;

    routes_load_first(node);
    opb_routes_begin(node->routes, routes_second_session);
    opb_routes_narrow(node->routes, routes_second_session);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    opb_routes_widen(node->routes);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(hosts_that_register_the_same_share_the_entries),
        ROUTE_TEST(
            what_a_host_registers_otherwise_is_named_and_not_registered_with_orthanc),
        ROUTE_TEST(a_route_that_is_registered_twice_by_one_host_only_is_a_difference),
        ROUTE_TEST(one_of_several_hosts_registers_nothing_after_it_has_loaded),
        ROUTE_TEST(a_switch_that_fails_takes_nothing_away),
    };

    return OPB_RUN(tests);
}
