/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_routes.c - registrations of a host, and of the one that comes after it
 *
 * Elsewhere: several hosts of a generation (test_routes_hosts.c), routes that come while
 * Orthanc serves (test_late_routes.c).
 */
#include "routes_fixture.h"

#include "plugin/rest_entries.h"

#include <stdio.h>
#include <string.h>

static void
each_route_has_an_entry_of_its_own(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/b", 1), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/a", 2), OPB_OK); /* again: one more */
    routes_run_host(node);
    assert_int_equal(routes_registered_count(), 3);
    assert_string_equal(routes_registered(0)->pattern, "/a");
    assert_string_equal(routes_registered(2)->pattern, "/a");
    assert_true(routes_registered(0)->callback != routes_registered(2)->callback);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(routes_registered(i)->callback == opb_rest_entry(i));
        assert_int_equal(routes_number(node, i), i);
    }
    assert_int_equal(routes_number(node, 3), UINT32_MAX);
    assert_string_equal(opb_routes_pattern(node->routes, 1), "/b");
    assert_true(fake_log_has("Registering a Python REST callback on URI: /b"));
    assert_true(opb_routes_has(node->routes, OPB_CALL_REST_INDEX));
}

static void
there_are_as_many_entries_as_promised(void **state)
{
    char pattern[32];

    for (uint32_t i = 0; i < OPB_MAX_ROUTES; i++) {
        (void)snprintf(pattern, sizeof(pattern), "/%u", (unsigned)i);
        assert_int_equal(routes_add(*state, "Rest", pattern, i), OPB_OK);
    }
    assert_int_equal(routes_add(*state, "Rest", "/one/more", OPB_MAX_ROUTES),
                     OPB_TOO_LARGE);
    assert_int_equal(routes_last_fault, OPB_FAULT_RUNTIME);
    assert_string_equal(routes_last_text,
                        "A script can register at most 16384 REST callbacks");
}

static void
routes_of_one_pattern_are_found_in_order_among_many(void **state)
{
    struct opb_node *node = *state;
    char pattern[32];

    for (uint32_t i = 0; i < 10000; i++) { /* the last ones as the first ones */
        (void)snprintf(pattern, sizeof(pattern), "/%u", (unsigned)(i % 9990));
        assert_int_equal(routes_add(node, "Rest", pattern, 2 * i), OPB_OK);
    }
    routes_run_host(node);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(routes_number(node, i), 2 * i);
    }
    assert_string_equal(opb_routes_pattern(node->routes, 9991), "/1");
}

static void
pattern_that_orthanc_refuses_is_a_value_error(void **state)
{
    assert_int_equal(routes_add(*state, "Rest", "/a[", 0), OPB_REFUSED);
    assert_int_equal(routes_last_fault, OPB_FAULT_VALUE);
    assert_string_equal(
        routes_last_text,
        "Orthanc does not accept the REST callback on URI /a[: Unmatched [ or "
        "[^ in character class declaration.");
    assert_int_equal(routes_add(*state, "Rest", "/a", 0), OPB_OK);
}

static void
refused_pattern_is_refused_to_the_next_host_too(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a[", 0), OPB_REFUSED);
    routes_run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(routes_add(node, "Rest", "/a[", 0), OPB_REFUSED);
    assert_int_equal(routes_last_fault, OPB_FAULT_VALUE);
    assert_non_null(strstr(routes_last_text, "Unmatched ["));
    routes_commit(node, NULL);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
kinds_are_known_by_name(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Change", NULL, 0), OPB_OK);
    assert_int_equal(routes_add(node, "HttpFilter", NULL, 0), OPB_OK);
    assert_true(fake_log_has("Registering one Python on-changes callback"));
    assert_int_equal(routes_add(node, "MoveSize", NULL, 0), OPB_REFUSED);
    assert_int_equal(routes_last_fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(routes_last_text, "\"MoveSize\""));
    assert_int_equal(routes_add(node, "Load", NULL, 0), OPB_REFUSED);
    assert_int_equal(routes_add(node, "Rest", NULL, 0), OPB_REFUSED);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX)); /* it still loads */
    routes_run_host(node);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_true(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_STORED_INSTANCE_INDEX));
}

static void
next_host_gets_the_entries_of_its_patterns(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/b", 1), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/a", 2), OPB_OK);
    assert_int_equal(routes_add(node, "Change", NULL, 0), OPB_OK);
    routes_run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(routes_add(node, "Rest", "/a", 10), OPB_OK);
    assert_int_equal(routes_add(node, "Rest", "/a", 11), OPB_OK);
    assert_int_equal(routes_number(node, 0), 0); /* calls go to the old one as yet */
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    routes_commit(node, NULL);
    assert_int_equal(routes_number(node, 0), 10);
    assert_int_equal(routes_number(node, 1), UINT32_MAX);
    assert_int_equal(routes_number(node, 2), 11);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_int_equal(routes_registered_count(), 3);
    assert_int_equal(fake_log_count("has not registered the REST route /b"), 1);
    assert_int_equal(fake_log_count("has not registered the REST route /a"), 0);
    assert_int_equal(fake_log_count("has not registered the Python on-changes callback"),
                     1);
}

static void
host_that_fails_to_load_changes_nothing(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 0), OPB_OK);
    routes_run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(routes_add(node, "Rest", "/a", 5), OPB_OK);
    opb_routes_begin(node->routes, NULL); /* the next attempt */
    assert_int_equal(routes_add(node, "Rest", "/a", 6), OPB_OK);
    assert_int_equal(routes_number(node, 0), 0);
    routes_commit(node, NULL);
    assert_int_equal(routes_number(node, 0), 6);
}

static void
two_hosts_have_a_table_each_until_one_is_forgotten(void **state)
{
    struct opb_node *node = *state;

    opb_routes_begin(node->routes, routes_first_session);
    assert_int_equal(routes_add_in(node, routes_first_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_first_session, "Rest", "/b", 2), OPB_OK);
    routes_commit(node, routes_first_session);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);

    opb_routes_begin(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/b", 7), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(routes_number_in(node, routes_first_session, 0),
                     1); /* meanwhile it goes on */
    assert_int_equal(routes_add_in(node, routes_first_session, "HttpFilter", NULL, 0),
                     OPB_OK);
    assert_true(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_true(
        opb_routes_session_has(node->routes, routes_second_session, OPB_CALL_CHANGE_INDEX));

    routes_commit(node, routes_second_session);
    assert_int_equal(routes_number_in(node, routes_first_session, 0),
                     1); /* it comes to its end */
    assert_int_equal(routes_number_in(node, routes_first_session, 1), 2);
    assert_int_equal(routes_number_in(node, routes_second_session, 0), UINT32_MAX);
    assert_int_equal(routes_number_in(node, routes_second_session, 1), 7);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_true(opb_routes_session_has(node->routes, routes_first_session,
                                       OPB_CALL_HTTP_FILTER_INDEX));
    opb_routes_forget(node->routes, routes_first_session);
    opb_routes_forget(node->routes, routes_first_session);  /* does no harm */
    opb_routes_forget(node->routes, routes_second_session); /* its table stays */
    assert_int_equal(routes_number_in(node, routes_second_session, 1), 7);
}

static void
a_host_that_could_not_load_is_forgotten(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(routes_add(node, "Rest", "/a", 3), OPB_OK);
    routes_run_host(node);
    opb_routes_begin(node->routes, routes_second_session);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/a", 4), OPB_OK);
    assert_int_equal(routes_add_in(node, routes_second_session, "Rest", "/new", 5), OPB_OK);
    opb_routes_forget(node->routes, routes_second_session);
    assert_false(opb_routes_has_waiting(node->routes));
    assert_int_equal(routes_number(node, 0), 3);
    assert_int_equal(routes_registered_count(), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ROUTE_TEST(each_route_has_an_entry_of_its_own),
        ROUTE_TEST(there_are_as_many_entries_as_promised),
        ROUTE_TEST(routes_of_one_pattern_are_found_in_order_among_many),
        ROUTE_TEST(pattern_that_orthanc_refuses_is_a_value_error),
        ROUTE_TEST(refused_pattern_is_refused_to_the_next_host_too),
        ROUTE_TEST(kinds_are_known_by_name),
        ROUTE_TEST(next_host_gets_the_entries_of_its_patterns),
        ROUTE_TEST(host_that_fails_to_load_changes_nothing),
        ROUTE_TEST(two_hosts_have_a_table_each_until_one_is_forgotten),
        ROUTE_TEST(a_host_that_could_not_load_is_forgotten),
    };

    return OPB_RUN(tests);
}
