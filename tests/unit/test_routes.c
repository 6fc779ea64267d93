/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_routes.c - registrations, new hosts, routes that come late */
#include "plugin_support.h"
#include "throwing.h"

#include "plugin/late_routes.h"
#include "plugin/rest_entries.h"
#include "plugin/routes.h"

#include "protocol/sockets.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_REGISTERED 20000u

static struct {
    char pattern[64];
    OrthancPluginRestCallback callback;
} registered[MAX_REGISTERED];
static atomic_uint registered_count;

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

static const char *plugins_json;

static OrthancPluginErrorCode
get_plugins(const void *params)
{
    const _OrthancPluginRestApiGet *get = params;

    assert_string_equal(get->uri, "/plugins");
    get->target->data = strdup(plugins_json);
    get->target->size = (uint32_t)strlen(plugins_json);
    return OrthancPluginErrorCode_Success;
}

static int
make_node(void **state)
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

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

static enum opb_fault last_fault;
static char last_text[512];

static enum opb_status
add(struct opb_node *node, const char *kind, const char *pattern, uint32_t index)
{
    last_text[0] = '\0';
    return opb_routes_add(node->routes, NULL, kind, pattern, index, &last_fault, last_text,
                          sizeof(last_text));
}

/* As a host that has loaded. */
static void
commit(struct opb_node *node, const struct opb_session *session)
{
    opb_routes_log_losses(node->routes, session);
    opb_routes_commit(node->routes, session);
    opb_routes_look_for_late(node->routes);
}

static void
run_host(struct opb_node *node)
{
    commit(node, NULL);
    fake_host_start(node, fake_answer_nil);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
}

/* The number that the current host has for an entry; UINT32_MAX: none. */
static uint32_t
number_of(struct opb_node *node, uint32_t entry)
{
    uint32_t index = 0;

    return opb_routes_lookup(node->routes, node->sessions[0], entry, &index) ? index
                                                                             : UINT32_MAX;
}

static void
each_route_has_an_entry_of_its_own(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    assert_int_equal(add(node, "Rest", "/b", 1), OPB_OK);
    assert_int_equal(add(node, "Rest", "/a", 2), OPB_OK); /* again: one more */
    run_host(node);
    assert_int_equal(atomic_load(&registered_count), 3);
    assert_string_equal(registered[0].pattern, "/a");
    assert_string_equal(registered[2].pattern, "/a");
    assert_true(registered[0].callback != registered[2].callback);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(registered[i].callback == opb_rest_entry(i));
        assert_int_equal(number_of(node, i), i);
    }
    assert_int_equal(number_of(node, 3), UINT32_MAX);
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
        assert_int_equal(add(*state, "Rest", pattern, i), OPB_OK);
    }
    assert_int_equal(add(*state, "Rest", "/one/more", OPB_MAX_ROUTES), OPB_TOO_LARGE);
    assert_int_equal(last_fault, OPB_FAULT_RUNTIME);
    assert_string_equal(last_text, "A script can register at most 16384 REST callbacks");
}

static void
routes_of_one_pattern_are_found_in_order_among_many(void **state)
{
    struct opb_node *node = *state;
    char pattern[32];

    for (uint32_t i = 0; i < 10000; i++) { /* the last ones as the first ones */
        (void)snprintf(pattern, sizeof(pattern), "/%u", (unsigned)(i % 9990));
        assert_int_equal(add(node, "Rest", pattern, 2 * i), OPB_OK);
    }
    run_host(node);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(number_of(node, i), 2 * i);
    }
    assert_string_equal(opb_routes_pattern(node->routes, 9991), "/1");
}

static void
pattern_that_orthanc_refuses_is_a_value_error(void **state)
{
    assert_int_equal(add(*state, "Rest", "/a[", 0), OPB_REFUSED);
    assert_int_equal(last_fault, OPB_FAULT_VALUE);
    assert_string_equal(
        last_text, "Orthanc does not accept the REST callback on URI /a[: Unmatched [ or "
                   "[^ in character class declaration.");
    assert_int_equal(add(*state, "Rest", "/a", 0), OPB_OK);
}

static void
refused_pattern_is_refused_to_the_next_host_too(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a[", 0), OPB_REFUSED);
    run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(add(node, "Rest", "/a[", 0), OPB_REFUSED);
    assert_int_equal(last_fault, OPB_FAULT_VALUE);
    assert_non_null(strstr(last_text, "Unmatched ["));
    commit(node, NULL);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
kinds_are_known_by_name(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Change", NULL, 0), OPB_OK);
    assert_int_equal(add(node, "HttpFilter", NULL, 0), OPB_OK);
    assert_true(fake_log_has("Registering one Python on-changes callback"));
    assert_int_equal(add(node, "MoveSize", NULL, 0), OPB_REFUSED);
    assert_int_equal(last_fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(last_text, "\"MoveSize\""));
    assert_int_equal(add(node, "Load", NULL, 0), OPB_REFUSED);
    assert_int_equal(add(node, "Rest", NULL, 0), OPB_REFUSED);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX)); /* it still loads */
    run_host(node);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_true(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_STORED_INSTANCE_INDEX));
}

static void
next_host_gets_the_entries_of_its_patterns(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    assert_int_equal(add(node, "Rest", "/b", 1), OPB_OK);
    assert_int_equal(add(node, "Rest", "/a", 2), OPB_OK);
    assert_int_equal(add(node, "Change", NULL, 0), OPB_OK);
    run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(add(node, "Rest", "/a", 10), OPB_OK);
    assert_int_equal(add(node, "Rest", "/a", 11), OPB_OK);
    assert_int_equal(number_of(node, 0), 0); /* calls go to the old one as yet */
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    commit(node, NULL);
    assert_int_equal(number_of(node, 0), 10);
    assert_int_equal(number_of(node, 1), UINT32_MAX);
    assert_int_equal(number_of(node, 2), 11);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_int_equal(atomic_load(&registered_count), 3);
    assert_int_equal(fake_log_count("has not registered the REST route /b"), 1);
    assert_int_equal(fake_log_count("has not registered the REST route /a"), 0);
    assert_int_equal(fake_log_count("has not registered the Python on-changes callback"),
                     1);
}

static void
host_that_fails_to_load_changes_nothing(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(add(node, "Rest", "/a", 5), OPB_OK);
    opb_routes_begin(node->routes, NULL); /* the next attempt */
    assert_int_equal(add(node, "Rest", "/a", 6), OPB_OK);
    assert_int_equal(number_of(node, 0), 0);
    commit(node, NULL);
    assert_int_equal(number_of(node, 0), 6);
}

/* Names of sessions: never looked into. */
static const struct opb_session *const first_session = (const void *)"first";
static const struct opb_session *const second_session = (const void *)"second";
static const struct opb_session *const third_session = (const void *)"third";

static enum opb_status
add_in(struct opb_node *node, const struct opb_session *session, const char *kind,
       const char *pattern, uint32_t index)
{
    return opb_routes_add(node->routes, session, kind, pattern, index, &last_fault,
                          last_text, sizeof(last_text));
}

static uint32_t
number_in(struct opb_node *node, const struct opb_session *session, uint32_t entry)
{
    uint32_t index = 0;

    return opb_routes_lookup(node->routes, session, entry, &index) ? index : UINT32_MAX;
}

static void
two_hosts_have_a_table_each_until_one_is_forgotten(void **state)
{
    struct opb_node *node = *state;

    opb_routes_begin(node->routes, first_session);
    assert_int_equal(add_in(node, first_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(add_in(node, first_session, "Rest", "/b", 2), OPB_OK);
    commit(node, first_session);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);

    opb_routes_begin(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Rest", "/b", 7), OPB_OK);
    assert_int_equal(add_in(node, second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(number_in(node, first_session, 0), 1); /* meanwhile it goes on */
    assert_int_equal(add_in(node, first_session, "HttpFilter", NULL, 0), OPB_OK);
    assert_true(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_true(
        opb_routes_session_has(node->routes, second_session, OPB_CALL_CHANGE_INDEX));

    commit(node, second_session);
    assert_int_equal(number_in(node, first_session, 0), 1); /* it comes to its end */
    assert_int_equal(number_in(node, first_session, 1), 2);
    assert_int_equal(number_in(node, second_session, 0), UINT32_MAX);
    assert_int_equal(number_in(node, second_session, 1), 7);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_false(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_true(
        opb_routes_session_has(node->routes, first_session, OPB_CALL_HTTP_FILTER_INDEX));
    opb_routes_forget(node->routes, first_session);
    opb_routes_forget(node->routes, first_session);  /* does no harm */
    opb_routes_forget(node->routes, second_session); /* its table stays */
    assert_int_equal(number_in(node, second_session, 1), 7);
}

static void
a_host_that_could_not_load_is_forgotten(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 3), OPB_OK);
    run_host(node);
    opb_routes_begin(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Rest", "/a", 4), OPB_OK);
    assert_int_equal(add_in(node, second_session, "Rest", "/new", 5), OPB_OK);
    opb_routes_forget(node->routes, second_session);
    assert_false(opb_routes_has_waiting(node->routes));
    assert_int_equal(number_of(node, 0), 3);
    assert_int_equal(atomic_load(&registered_count), 1);
}

static bool
is_registered(void *context)
{
    return number_of(context, 1) != UINT32_MAX;
}

static bool
has_new_route(void *context)
{
    return number_in(context, second_session, 1) != UINT32_MAX;
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

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    assert_int_equal(add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(number_of(node, 1), 1);
    assert_int_equal(atomic_load(&registered_count), 2);
}

static void
late_route_beside_other_plugins_needs_a_restart(void **state)
{
    struct opb_node *node = *state;

    plugins_json = "[\"explorer.js\", \"dicom-web\", \"python\"]";
    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    assert_int_equal(add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_refused, node, 5000);
    assert_int_equal(atomic_load(&registered_count), 1);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
late_route_beside_other_plugins_works_if_the_configuration_says_so(void **state)
{
    struct opb_node *node = *state;

    plugins_json = "[\"dicom-web\", \"python\"]";
    node->config->late_routes = true;
    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    assert_int_equal(add(node, "Rest", "/late", 1), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
}

static void
late_route_with_a_bad_pattern_is_logged(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    assert_int_equal(add(node, "Rest", "/bad[", 1), OPB_OK);
    assert_int_equal(add(node, "Rest", "/good", 2), OPB_OK);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(number_of(node, 1), 2);
    assert_true(fake_log_has("The REST route /bad[, registered after the start of Orthanc, "
                             "does not work"));
}

static atomic_bool has_passed;

static void
pass_gate(void *context)
{
    opb_late_gate(context);
    atomic_store(&has_passed, true);
}

static void
late_route_waits_for_running_callbacks_and_holds_new_requests_back(void **state)
{
    struct opb_node *node = *state;
    struct opb_late *late = opb_routes_late(node->routes);
    struct opb_thread *thread;

    atomic_store(&has_passed, false);
    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    assert_true(opb_late_enter(late)); /* a REST callback that registers a route */
    assert_int_equal(add(node, "Rest", "/late", 1), OPB_OK);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    assert_int_equal(number_of(node, 1), UINT32_MAX);
    thread = opb_thread_start(pass_gate, late);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    assert_false(atomic_load(&has_passed));
    assert_true(opb_late_enter(late)); /* nested calls pass */
    opb_late_leave(late);
    opb_late_leave(late);
    opb_wait_until(is_registered, node, 5000);
    opb_thread_join(thread);
    assert_true(atomic_load(&has_passed));
}

static void
late_route_of_a_new_host_is_registered_after_it_has_loaded(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    opb_routes_begin(node->routes, NULL);
    assert_int_equal(add(node, "Rest", "/a", 3), OPB_OK);
    assert_int_equal(add(node, "Rest", "/new", 4), OPB_OK);
    commit(node, NULL);
    opb_wait_until(is_registered, node, 5000);
    assert_int_equal(number_of(node, 0), 3);
    assert_int_equal(number_of(node, 1), 4);
}

static void
late_routes_are_left_alone_once_orthanc_stops(void **state)
{
    struct opb_node *node = *state;

    assert_int_equal(add(node, "Rest", "/a", 0), OPB_OK);
    run_host(node);
    opb_node_set_phase(node, OPB_PHASE_STOPPED);
    assert_int_equal(add(node, "Rest", "/late", 1), OPB_OK);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    assert_int_equal(atomic_load(&registered_count), 1);
}

/* A generation of two: the first host has /a and OnChange. */
static void
load_first(struct opb_node *node)
{
    node->worker_count = 2;
    opb_routes_begin(node->routes, first_session);
    assert_int_equal(add_in(node, first_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(add_in(node, first_session, "Change", NULL, 0), OPB_OK);
    opb_routes_commit(node->routes, first_session);
}

static void
hosts_that_register_the_same_share_the_entries(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    load_first(node);
    opb_routes_begin_follower(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(add_in(node, second_session, "Rest", "/a", 7), OPB_OK);
    assert_false(
        opb_routes_differ(node->routes, second_session, first_session, text, sizeof(text)));
    opb_routes_join(node->routes, second_session);
    assert_int_equal(number_in(node, first_session, 0), 1);
    assert_int_equal(number_in(node, second_session, 0), 7);
    assert_int_equal(atomic_load(&registered_count), 1);
    opb_routes_forget(node->routes, first_session); /* the other one goes on */
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    assert_int_equal(number_in(node, second_session, 0), 7);
}

static void
what_a_host_registers_otherwise_is_named_and_not_registered_with_orthanc(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    load_first(node);
    opb_routes_begin_follower(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Rest", "/b", 7), OPB_OK);
    assert_int_equal(add_in(node, second_session, "HttpFilter", NULL, 0), OPB_OK);
    assert_true(
        opb_routes_differ(node->routes, second_session, first_session, text, sizeof(text)));
    assert_string_equal(
        text, "it lacks the Python on-changes callback, the REST route /a; only "
              "it has the Python incoming-http-request filter, the REST route /b");
    assert_int_equal(atomic_load(&registered_count), 1);
    assert_false(opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX));
    assert_true(opb_routes_differ(node->routes, second_session, first_session, text, 12));
    assert_string_equal(text, "it lacks th"); /* cut */
}

static void
a_route_that_is_registered_twice_by_one_host_only_is_a_difference(void **state)
{
    struct opb_node *node = *state;
    char text[256];

    load_first(node);
    opb_routes_begin_follower(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Change", NULL, 0), OPB_OK);
    assert_int_equal(add_in(node, second_session, "Rest", "/a", 1), OPB_OK);
    assert_int_equal(add_in(node, second_session, "Rest", "/a", 2), OPB_OK);
    assert_true(
        opb_routes_differ(node->routes, second_session, first_session, text, sizeof(text)));
    assert_string_equal(text, "only it has the REST route /a");
}

static void
one_of_several_hosts_registers_nothing_after_it_has_loaded(void **state)
{
    struct opb_node *node = *state;

    load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    assert_int_equal(add_in(node, first_session, "Rest", "/late", 2), OPB_REFUSED);
    assert_int_equal(last_fault, OPB_FAULT_RUNTIME);
    assert_non_null(strstr(last_text, "while the script is imported only"));
    assert_int_equal(add_in(node, first_session, "HttpFilter", NULL, 0), OPB_REFUSED);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
late_route_of_a_new_generation_is_registered_once_for_all_its_hosts(void **state)
{
    struct opb_node *node = *state;

    load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    opb_routes_begin(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Rest", "/new", 5), OPB_OK);
    opb_routes_begin_follower(node->routes, third_session);
    assert_int_equal(add_in(node, third_session, "Rest", "/new", 6), OPB_OK);
    opb_routes_commit(node->routes, second_session);
    opb_routes_join(node->routes, third_session);
    opb_routes_look_for_late(node->routes);
    opb_wait_until(has_new_route, node, 5000);
    assert_int_equal(number_in(node, second_session, 1), 5);
    assert_int_equal(number_in(node, third_session, 1), 6);
    assert_int_equal(number_in(node, first_session, 1), UINT32_MAX);
    assert_int_equal(atomic_load(&registered_count), 2);
    assert_false(opb_routes_has_waiting(node->routes));
}

static void
late_route_that_is_refused_is_said_once_for_all_hosts(void **state)
{
    struct opb_node *node = *state;

    plugins_json = "[\"dicom-web\", \"python\"]";
    load_first(node);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    opb_routes_begin(node->routes, second_session);
    assert_int_equal(add_in(node, second_session, "Rest", "/new", 5), OPB_OK);
    opb_routes_begin_follower(node->routes, third_session);
    assert_int_equal(add_in(node, third_session, "Rest", "/new", 6), OPB_OK);
    opb_routes_commit(node->routes, second_session);
    opb_routes_join(node->routes, third_session);
    opb_routes_look_for_late(node->routes);
    opb_wait_until(is_refused, node, 5000);
    opb_routes_forget(node->routes, second_session);
    assert_false(opb_routes_has_waiting(node->routes));
    assert_int_equal(fake_log_count("it needs a restart of Orthanc to become effective"),
                     1);
}

static void
a_switch_that_fails_takes_nothing_away(void **state)
{
    struct opb_node *node = *state;

    load_first(node);
    opb_routes_begin(node->routes, second_session);
    opb_routes_narrow(node->routes, second_session);
    assert_false(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
    opb_routes_widen(node->routes);
    assert_true(opb_routes_has(node->routes, OPB_CALL_CHANGE_INDEX));
}

#define ROUTE_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

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
        ROUTE_TEST(late_route_works_if_no_other_plugin_is_loaded),
        ROUTE_TEST(late_route_beside_other_plugins_needs_a_restart),
        ROUTE_TEST(late_route_beside_other_plugins_works_if_the_configuration_says_so),
        ROUTE_TEST(late_route_with_a_bad_pattern_is_logged),
        ROUTE_TEST(late_route_waits_for_running_callbacks_and_holds_new_requests_back),
        ROUTE_TEST(late_route_of_a_new_host_is_registered_after_it_has_loaded),
        ROUTE_TEST(late_routes_are_left_alone_once_orthanc_stops),
        ROUTE_TEST(hosts_that_register_the_same_share_the_entries),
        ROUTE_TEST(
            what_a_host_registers_otherwise_is_named_and_not_registered_with_orthanc),
        ROUTE_TEST(a_route_that_is_registered_twice_by_one_host_only_is_a_difference),
        ROUTE_TEST(one_of_several_hosts_registers_nothing_after_it_has_loaded),
        ROUTE_TEST(late_route_of_a_new_generation_is_registered_once_for_all_its_hosts),
        ROUTE_TEST(late_route_that_is_refused_is_said_once_for_all_hosts),
        ROUTE_TEST(a_switch_that_fails_takes_nothing_away),
    };

    return OPB_RUN(tests);
}
