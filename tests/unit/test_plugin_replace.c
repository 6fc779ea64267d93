/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_plugin_replace.c - the next generation in the place of the old one, with
 * the real daemon and a fake host
 */
#include "plugin_server.h"

#include <signal.h>

#define REPLACE ", \"Reload\": \"replace\""

static void
beside_the_old_generation_nothing_loads_that_must_be_alone(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("alone", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_FAILED);
    assert_false(server_last_reload.is_old_gone);
    assert_int_equal(server_last_reload.pid, pid);
    OrthancPluginFinalize();
}

static void
in_its_place_it_does(void **state)
{
    pid_t before;

    (void)state;
    server_configure("alone", REPLACE);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    before = server_await_host(0);
    for (uint64_t generation = 2; generation < 6; generation++) {
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
        assert_int_equal(server_last_reload.generation, generation);
        assert_true(server_is_gone(&before));
        before = server_await_host(before);
        assert_int_equal(before, server_last_reload.pid);
    }
    assert_false(fake_log_has("is being started"));
    assert_int_equal(kill(before, SIGKILL), 0); /* and the newest has a successor */
    before = server_await_host(before);
    OrthancPluginFinalize();
    opb_wait_until(server_is_gone, &before, WAIT_MS);
}

/* Each attempt after the reload is a host of its own, until one loads. */
static void
a_generation_that_replaces_and_does_not_load_is_tried_again(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("once", REPLACE);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    for (uint64_t generation = 2; generation < 5; generation++) {
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_FAILED);
        assert_true(server_last_reload.is_old_gone);
        assert_int_equal(server_last_reload.generation, generation);
        assert_true(server_is_gone(&pid));
        assert_null(opb_session_at(opb_node_current(), 0));
    }
    assert_true(fake_log_has("the one before has ended"));
    assert_false(fake_log_has("the one before goes on"));
    server_write("script.py", 0600, "", "alone", NULL);
    pid = server_await_host(0); /* nobody has asked for a reload */
    fake_await_log(") is running ");
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
    assert_false(server_last_reload.is_old_gone);
    (void)server_await_host(pid);
    OrthancPluginFinalize();
}

static void
a_host_that_dies_while_it_is_replaced_is_not_missed(void **state)
{
    (void)state;
    server_configure("alone", REPLACE);
    server_kill_hosts_during_reloads(12);
}

static void
a_host_that_still_loads_makes_room_for_the_next_without_an_error(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("ok", REPLACE);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    server_write("script.py", 0600, "", "wait", NULL);
    assert_int_equal(kill(pid, SIGKILL), 0);
    server_await_file("script.py.mark"); /* its successor is loading */
    server_write("script.py", 0600, "", "ok", NULL);
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
    assert_true(fake_log_has("another host has taken its place"));
    assert_false(fake_log_has("no call is served until another can"));
    assert_false(fake_log_has("ended the host process"));
    (void)server_await_host(pid);
    OrthancPluginFinalize();
}

static void
a_generation_that_does_not_finish_is_killed_before_the_next_one_loads(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("stay", REPLACE ", \"StopTimeout\": 0.2");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    for (int i = 0; i < 3; i++) {
        pid = server_await_host(0);
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
        assert_true(server_is_gone(&pid));
    }
    OrthancPluginFinalize();
}

static void
a_daemon_that_dies_while_hosts_are_replaced_is_replaced_too(void **state)
{
    (void)state;
    server_configure("alone", REPLACE);
    server_kill_daemon_before_reload();
}

static void
replacing_ends_when_the_server_stops(void **state)
{
    (void)state;
    server_stop_during_reloads("alone", REPLACE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(beside_the_old_generation_nothing_loads_that_must_be_alone),
        SERVER_TEST(in_its_place_it_does),
        SERVER_TEST(a_generation_that_replaces_and_does_not_load_is_tried_again),
        SERVER_TEST(a_host_that_dies_while_it_is_replaced_is_not_missed),
        SERVER_TEST(a_host_that_still_loads_makes_room_for_the_next_without_an_error),
        SERVER_TEST(a_generation_that_does_not_finish_is_killed_before_the_next_one_loads),
        SERVER_TEST(a_daemon_that_dies_while_hosts_are_replaced_is_replaced_too),
        SERVER_TEST(replacing_ends_when_the_server_stops),
        TEST_OF_THREE(beside_the_old_generation_nothing_loads_that_must_be_alone),
        TEST_OF_THREE(in_its_place_it_does),
        TEST_OF_THREE(a_host_that_dies_while_it_is_replaced_is_not_missed),
        TEST_OF_THREE(a_daemon_that_dies_while_hosts_are_replaced_is_replaced_too),
        TEST_OF_THREE(replacing_ends_when_the_server_stops),
    };

    return OPB_RUN(tests);
}
