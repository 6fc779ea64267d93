/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_plugin.c - Initialize and Finalize, with the real daemon and a fake host
 *
 * Elsewhere: the next generation (test_plugin_reload.c).
 */
#include "plugin_server.h"

#include "plugin/pool_state.h"

#include "protocol/sockets.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *OrthancPluginGetVersion(void);

static void
a_plugin_without_a_script_stays_idle(void **state)
{
    (void)state;
    strcpy(server_configuration, "{}");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    assert_true(
        fake_log_has("Options \"PythonScript\" and \"Python.Path\" are not provided: "
                     "Python scripting is disabled"));
    OrthancPluginFinalize();
    assert_true(fake_log_has("Python plugin is finalizing"));
    assert_null(opb_node_current());
}

static void
a_server_that_is_too_old_is_refused(void **state)
{
    (void)state;
    server_configure("ok", "");
    fake_orthanc()->orthancVersion = "1.9.7";
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("Orthanc 1.9.7 is too old for the Python plugin"));
}

static void
a_script_is_loaded_and_finished_twice_in_one_process(void **state)
{
    pid_t pid;

    (void)state;
    server_configure("ok", "");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
        pid = server_await_host(0);
        OrthancPluginFinalize();
        opb_wait_until(server_is_gone, &pid, WAIT_MS);
    }
    assert_int_equal(fake_log_count("Using Python script \"script.py\" from directory: "),
                     2);
    assert_int_equal(fake_log_count("Program name: /usr/sbin/Orthanc"), 2);
    assert_false(fake_log_has("SIGTERM"));
    assert_string_equal(OrthancPluginGetName(), "python");
    assert_string_equal(OrthancPluginGetVersion(), OPB_BUILD_VERSION);
}

static void
service_lanes_are_served_while_the_script_loads(void **state)
{
    (void)state;
    server_configure("service", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    OrthancPluginFinalize();
}

static void
a_script_that_raises_ends_the_start_without_another_line(void **state)
{
    (void)state;
    server_configure("raise", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_null(opb_node_current());
    assert_false(fake_log_has("cannot"));
}

static void
a_script_that_cannot_be_used_ends_the_start_with_the_reason(void **state)
{
    (void)state;
    server_configure("refuse", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("this script cannot be used"));
}

static void
a_script_that_ends_the_process_ends_the_start_with_its_exit_code(void **state)
{
    (void)state;
    server_configure("exit", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("ended the host process while it was being imported: it ended "
                             "with exit code 7"));
}

static void
a_killed_host_is_replaced(void **state)
{
    pid_t first;

    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    first = server_await_host(0);
    assert_int_equal(kill(first, SIGKILL), 0);
    (void)server_await_host(first);
    assert_true(
        fake_log_has("was killed by signal 9 (Killed); a new one is being started"));
    OrthancPluginFinalize();
}

/* Or the pool would be asked to kill it, which it cannot, and be lost for that. */
static void
a_host_that_is_found_to_hang_when_it_has_died_is_not_awaited(void **state)
{
    struct opb_session *session;
    const struct opb_pool *pool;
    pid_t first;

    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pool = opb_node_current()->pool;
    first = server_await_host(0);
    session = opb_session_at(opb_node_current(), 0);
    assert_int_equal(kill(first, SIGKILL), 0);
    (void)server_await_host(first); /* the news are through */
    opb_pool_host_hangs(session, "was killed, since it is a test");
    assert_int_equal(pool->places[0].hung_host, 0);
    assert_true(opb_pool_hung_end_ms(pool) == OPB_FOREVER);
    opb_session_unref(session);
    OrthancPluginFinalize();
}

static void
a_host_that_cannot_load_is_replaced_again_and_again(void **state)
{
    (void)state;
    server_configure("once", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    assert_int_equal(kill(server_await_host(0), SIGKILL), 0);
    for (int i = 0; i < 1000 && fake_log_count("no call is served until another can") < 3;
         i++) {
        usleep(20000);
    }
    assert_true(fake_log_count("no call is served until another can") >= 3);
    OrthancPluginFinalize();
}

static void
a_killed_daemon_is_replaced_with_its_host(void **state)
{
    pid_t first;

    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    first = server_await_host(0);
    assert_int_equal(kill(server_daemon_of(first), SIGKILL), 0);
    (void)server_await_host(first);
    opb_wait_until(server_is_gone, &first, WAIT_MS);
    fake_await_log("The worker is running again");
    assert_true(fake_log_has("was killed by signal 9 (Killed); all hosts are ended"));
    OrthancPluginFinalize();
}

static void
a_daemon_that_was_killed_just_before_the_end_does_no_harm(void **state)
{
    (void)state;
    server_configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    assert_int_equal(kill(server_daemon_of(server_await_host(0)), SIGKILL), 0);
    OrthancPluginFinalize();
}

static void
a_script_that_does_not_finish_is_killed_in_time(void **state)
{
    uint64_t before_ms;
    pid_t pid;

    (void)state;
    server_configure("stay", ", \"StopTimeout\": 0.2");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    before_ms = opb_clock_ms();
    OrthancPluginFinalize();
    assert_true(opb_clock_ms() - before_ms < 10000);
    opb_wait_until(server_is_gone, &pid, WAIT_MS);
    assert_true(fake_log_has("has not finished within 200 ms"));
}

static void
a_missing_worker_is_named(void **state)
{
    (void)state;
    server_configure("ok", "");
    (void)snprintf(server_configuration, sizeof(server_configuration),
                   "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"Worker\": "
                   "\"/nonexistent/worker\"}}",
                   server_directory);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(
        fake_log_has("The worker /nonexistent/worker, named by the configuration option "
                     "\"Python.Worker\", cannot be run: No such file or directory"));
}

static void
a_directory_that_cannot_be_made_is_named(void **state)
{
    (void)state;
    (void)snprintf(
        server_configuration, sizeof(server_configuration),
        "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"RuntimeDirectory\": "
        "\"/nonexistent\"}}",
        server_directory);
    server_write("script.py", 0600, "", "ok", NULL);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(
        fake_log_has("cannot be made below /nonexistent (No such file or directory)"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(a_plugin_without_a_script_stays_idle),
        SERVER_TEST(a_server_that_is_too_old_is_refused),
        SERVER_TEST(a_script_is_loaded_and_finished_twice_in_one_process),
        SERVER_TEST(service_lanes_are_served_while_the_script_loads),
        SERVER_TEST(a_script_that_raises_ends_the_start_without_another_line),
        SERVER_TEST(a_script_that_cannot_be_used_ends_the_start_with_the_reason),
        SERVER_TEST(a_script_that_ends_the_process_ends_the_start_with_its_exit_code),
        SERVER_TEST(a_killed_host_is_replaced),
        SERVER_TEST(a_host_that_is_found_to_hang_when_it_has_died_is_not_awaited),
        SERVER_TEST(a_host_that_cannot_load_is_replaced_again_and_again),
        SERVER_TEST(a_killed_daemon_is_replaced_with_its_host),
        SERVER_TEST(a_daemon_that_was_killed_just_before_the_end_does_no_harm),
        SERVER_TEST(a_script_that_does_not_finish_is_killed_in_time),
        TEST_OF_THREE(a_script_is_loaded_and_finished_twice_in_one_process),
        TEST_OF_THREE(service_lanes_are_served_while_the_script_loads),
        TEST_OF_THREE(a_script_that_raises_ends_the_start_without_another_line),
        TEST_OF_THREE(a_script_that_ends_the_process_ends_the_start_with_its_exit_code),
        TEST_OF_THREE(a_killed_host_is_replaced),
        TEST_OF_THREE(a_killed_daemon_is_replaced_with_its_host),
        TEST_OF_THREE(a_daemon_that_was_killed_just_before_the_end_does_no_harm),
        SERVER_TEST(a_missing_worker_is_named),
        SERVER_TEST(a_directory_that_cannot_be_made_is_named),
    };

    return OPB_RUN(tests);
}
