/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_plugin_reload.c - the next generation, with the real daemon and a fake
 * host
 *
 * Elsewhere: the one that replaces the old one (test_plugin_replace.c); Initialize and
 * Finalize, deaths without a reload (test_plugin.c).
 */
#include "plugin_server.h"

#include "plugin/pool.h"
#include "protocol/sockets.h"

#include <signal.h>
#include <string.h>

static void
a_reload_exchanges_the_host(void **state)
{
    pid_t before;

    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    before = server_await_host(0);
    for (uint64_t generation = 2; generation < 6; generation++) {
        pid_t old = before;

        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
        assert_int_equal(server_last_reload.generation, generation);
        before = server_await_host(old);
        assert_int_equal(before, server_last_reload.pid);
        opb_wait_until(server_is_gone, &old, WAIT_MS);
    }
    assert_false(fake_log_has("is being started"));
    assert_int_equal(kill(before, SIGKILL), 0); /* and the newest has a successor */
    before = server_await_host(before);
    OrthancPluginFinalize();
    opb_wait_until(server_is_gone, &before, WAIT_MS);
}

static void
a_reload_that_fails_changes_nothing(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("once", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    for (int i = 0; i < 3; i++) {
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_FAILED);
        assert_int_equal(server_last_reload.generation, 1);
        assert_int_equal(server_last_reload.pid, pid);
    }
    server_write("script.py", 0600, "", "exit", NULL);
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_FAILED);
    assert_non_null(strstr(server_last_reload.text, "ended with exit code 7"));
    server_write("script.py", 0600, "", "ok", NULL);
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
    (void)server_await_host(pid);
    OrthancPluginFinalize();
}

static void
an_old_generation_that_does_not_finish_is_killed_in_time(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("stay", ", \"StopTimeout\": 0.2");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    for (int i = 0; i < 8; i++) { /* more than come to their end at a time */
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
    }
    opb_wait_until(server_is_gone, &pid, WAIT_MS);
    OrthancPluginFinalize();
}

static void
a_host_that_dies_during_a_reload_is_not_missed(void **state)
{
    (void)state;
    server_configure("ok", "");
    server_kill_hosts_during_reloads(20);
}

static void
a_daemon_that_dies_during_a_reload_is_replaced(void **state)
{
    (void)state;
    server_configure("ok", "");
    server_kill_daemon_before_reload();
}

static void
reloads_end_when_the_server_stops(void **state)
{
    (void)state;
    server_stop_during_reloads("ok", "");
}

/* The hosts that take calls. */
static void
read_pids(pid_t pids[3])
{
    struct opb_node *node = opb_node_current();

    for (uint32_t i = 0; i < 3; i++) {
        struct opb_session *session = opb_session_at(node, i);

        assert_non_null(session);
        assert_int_equal(opb_session_worker(session), i);
        assert_int_equal(opb_session_worker_count(session), 3);
        pids[i] = opb_session_pid(session);
        opb_session_unref(session);
    }
}

static void
calls_move_only_when_all_hosts_are_ready(void **state)
{
    pid_t before[3];
    pid_t after[3];

    (void)state;
    server_configure("odd", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    read_pids(before);
    for (int i = 0; i < 3; i++) { /* the second one cannot load */
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_FAILED);
        read_pids(after);
        assert_memory_equal(before, after, sizeof(before));
    }
    server_write("script.py", 0600, "", "ok", NULL);
    server_reload();
    assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
    read_pids(after);
    for (int i = 0; i < 3; i++) {
        assert_int_not_equal(before[i], after[i]);
        opb_wait_until(server_is_gone, &before[i], WAIT_MS);
    }
    OrthancPluginFinalize();
    for (int i = 0; i < 3; i++) {
        opb_wait_until(server_is_gone, &after[i], WAIT_MS);
    }
}

static void
any_host_may_die_during_a_reload(void **state)
{
    pid_t pids[3];

    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    read_pids(pids);
    for (int i = 0; i < 20; i++) {
        (void)kill(pids[i % 3], SIGKILL); /* at any moment of the reload */
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
        read_pids(pids);
    }
    OrthancPluginFinalize();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(a_reload_exchanges_the_host),
        SERVER_TEST(a_reload_that_fails_changes_nothing),
        SERVER_TEST(an_old_generation_that_does_not_finish_is_killed_in_time),
        SERVER_TEST(a_host_that_dies_during_a_reload_is_not_missed),
        SERVER_TEST(a_daemon_that_dies_during_a_reload_is_replaced),
        SERVER_TEST(reloads_end_when_the_server_stops),
        TEST_OF_THREE(a_reload_exchanges_the_host),
        TEST_OF_THREE(an_old_generation_that_does_not_finish_is_killed_in_time),
        TEST_OF_THREE(a_host_that_dies_during_a_reload_is_not_missed),
        TEST_OF_THREE(a_daemon_that_dies_during_a_reload_is_replaced),
        TEST_OF_THREE(reloads_end_when_the_server_stops),
        TEST_OF_THREE(calls_move_only_when_all_hosts_are_ready),
        TEST_OF_THREE(any_host_may_die_during_a_reload),
    };

    return OPB_RUN(tests);
}
