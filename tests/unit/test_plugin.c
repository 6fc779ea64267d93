/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_plugin.c - Initialize and Finalize, with the real daemon and a fake host
 */
#include "plugin_support.h"

#include "plugin/pool.h"
#include "protocol/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 30000u

int32_t OrthancPluginInitialize(OrthancPluginContext *context);
void OrthancPluginFinalize(void);
const char *OrthancPluginGetVersion(void);

static char directory[64];
static char configuration[1024];
static const char *workers; /* more of the configuration: how many hosts */

static void
write_file(const char *name, mode_t mode, const char *format, const char *a, const char *b)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "w");
    assert_non_null(file);
    if (b != NULL) {
        (void)fprintf(file, "#!/bin/sh\nexec %s --host-program %s \"$@\"\n", a, b);
    }
    else {
        (void)fprintf(file, "%s%s\n", format, a);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static OrthancPluginErrorCode
give_configuration(const void *params)
{
    const _OrthancPluginRetrieveDynamicString *out = params;

    *out->result = strdup(configuration);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
give_path(const void *params)
{
    const _OrthancPluginRetrieveDynamicString *out = params;

    *out->result = strdup("/usr/sbin/Orthanc");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
succeed(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_Success;
}

static void
configure(const char *word, const char *more)
{
    write_file("script.py", 0600, "", word, NULL);
    (void)snprintf(configuration, sizeof(configuration),
                   "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"Worker\": "
                   "\"%s/worker\", \"RuntimeDirectory\": \"%s\"%s%s}}",
                   directory, directory, directory, workers, more);
}

static int
make_server(void **state)
{
    (void)state;
    workers = "";
    strcpy(directory, "/tmp/opb-plugin-XXXXXX");
    assert_non_null(mkdtemp(directory));
    write_file("worker", 0700, "", OPB_TEST_WORKER, OPB_TEST_SCRIPT_HOST);
    fake_orthanc_reset();
    fake_on(_OrthancPluginService_GetConfiguration, give_configuration);
    fake_on(_OrthancPluginService_GetOrthancPath, give_path);
    fake_on(_OrthancPluginService_SetPluginProperty, succeed);
    fake_on(_OrthancPluginService_RegisterOnChangeCallback, succeed);
    fake_on(_OrthancPluginService_RegisterRestCallbackNoLock, succeed);
    fake_on(_OrthancPluginService_RegisterOnStoredInstanceCallback, succeed);
    fake_on(_OrthancPluginService_RegisterIncomingHttpRequestFilter2, succeed);
    return 0;
}

static int
make_server_of_three(void **state)
{
    (void)make_server(state); /* 0, or the test has failed */
    workers = ", \"Workers\": 3";
    return 0;
}

/* Nothing of the bridge may be left in the runtime directory. */
static int
end_server(void **state)
{
    static const char *const names[] = {"script.py", "script.py.mark", "worker"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        (void)unlink(path); /* not every test has made it */
    }
    assert_int_equal(rmdir(directory), 0);
    return 0;
}

static bool
log_has(void *text)
{
    return fake_log_has(text);
}

static void
await_log(const char *text)
{
    char copy[128];

    (void)snprintf(copy, sizeof(copy), "%s", text);
    opb_wait_until(log_has, copy, WAIT_MS);
}

static bool
has_host(void *context)
{
    struct opb_node *node = opb_node_current();
    pid_t *pid = context;
    pid_t found = 0;

    pthread_mutex_lock(&node->lock);
    if (node->sessions[0] != NULL) {
        found = opb_session_pid(node->sessions[0]);
    }
    pthread_mutex_unlock(&node->lock);
    if (found == 0 || found == *pid) {
        return false;
    }
    *pid = found;
    return true;
}

/* The host that takes calls, other than the one before. */
static pid_t
await_host(pid_t before)
{
    pid_t pid = before;

    opb_wait_until(has_host, &pid, WAIT_MS);
    return pid;
}

/* A zombie is gone too: where process 1 does not reap, it stays one. */
static bool
is_gone(void *pid)
{
    char path[64];
    char state = 'Z';
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)*(pid_t *)pid);
    file = fopen(path, "r");
    if (file == NULL) {
        return true;
    }
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
        state = 'X'; /* unreadable: it has just ended */
    }
    (void)fclose(file);
    return state == 'Z' || state == 'X';
}

static void
a_plugin_without_a_script_stays_idle(void **state)
{
    (void)state;
    strcpy(configuration, "{}");
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
    configure("ok", "");
    fake_orthanc()->orthancVersion = "1.9.7";
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("Orthanc 1.9.7 is too old for the Python plugin"));
}

static void
a_script_is_loaded_and_finished_twice_in_one_process(void **state)
{
    pid_t pid;

    (void)state;
    configure("ok", "");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
        pid = await_host(0);
        OrthancPluginFinalize();
        opb_wait_until(is_gone, &pid, WAIT_MS);
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
    configure("service", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    OrthancPluginFinalize();
}

static void
a_script_that_raises_ends_the_start_without_another_line(void **state)
{
    (void)state;
    configure("raise", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_null(opb_node_current());
    assert_false(fake_log_has("cannot"));
}

static void
a_script_that_cannot_be_used_ends_the_start_with_the_reason(void **state)
{
    (void)state;
    configure("refuse", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("this script cannot be used"));
}

static void
a_script_that_ends_the_process_ends_the_start_with_its_exit_code(void **state)
{
    (void)state;
    configure("exit", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(fake_log_has("ended the host process while it was being imported: it ended "
                             "with exit code 7"));
}

static void
a_killed_host_is_replaced(void **state)
{
    pid_t first;

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    first = await_host(0);
    assert_int_equal(kill(first, SIGKILL), 0);
    (void)await_host(first);
    assert_true(
        fake_log_has("was killed by signal 9 (Killed); a new one is being started"));
    OrthancPluginFinalize();
}

static void
a_host_that_cannot_load_is_replaced_again_and_again(void **state)
{
    (void)state;
    configure("once", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    assert_int_equal(kill(await_host(0), SIGKILL), 0);
    for (int i = 0; i < 1000 && fake_log_count("no call is served until another can") < 3;
         i++) {
        usleep(20000);
    }
    assert_true(fake_log_count("no call is served until another can") >= 3);
    OrthancPluginFinalize();
}

/* The daemon's process id, from its name in /proc: the parent of the host. */
static pid_t
parent_of(pid_t pid)
{
    char path[64];
    char text[256];
    FILE *file;
    long parent = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    (void)fclose(file);
    assert_int_equal(sscanf(strrchr(text, ')') + 2, "%*c %ld", &parent), 1);
    return (pid_t)parent;
}

static void
a_killed_daemon_is_replaced_with_its_host(void **state)
{
    pid_t first;

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    first = await_host(0);
    assert_int_equal(kill(parent_of(first), SIGKILL), 0);
    (void)await_host(first);
    opb_wait_until(is_gone, &first, WAIT_MS);
    await_log("The worker is running again");
    assert_true(fake_log_has("was killed by signal 9 (Killed); all hosts are ended"));
    OrthancPluginFinalize();
}

static void
a_daemon_that_was_killed_just_before_the_end_does_no_harm(void **state)
{
    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    assert_int_equal(kill(parent_of(await_host(0)), SIGKILL), 0);
    OrthancPluginFinalize();
}

static void
a_script_that_does_not_finish_is_killed_in_time(void **state)
{
    uint64_t before_ms;
    pid_t pid;

    (void)state;
    configure("stay", ", \"StopTimeout\": 0.2");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = await_host(0);
    before_ms = opb_clock_ms();
    OrthancPluginFinalize();
    assert_true(opb_clock_ms() - before_ms < 10000);
    opb_wait_until(is_gone, &pid, WAIT_MS);
    assert_true(fake_log_has("has not finished within 200 ms"));
}

static struct opb_reload last_reload;

static void
reload(void)
{
    opb_pool_reload(opb_node_current()->pool, &last_reload);
}

static void
a_reload_exchanges_the_host(void **state)
{
    pid_t before;

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    before = await_host(0);
    for (uint64_t generation = 2; generation < 6; generation++) {
        pid_t old = before;

        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
        assert_int_equal(last_reload.generation, generation);
        before = await_host(old);
        assert_int_equal(before, last_reload.pid);
        opb_wait_until(is_gone, &old, WAIT_MS);
    }
    assert_false(fake_log_has("is being started"));
    assert_int_equal(kill(before, SIGKILL), 0); /* and the newest has a successor */
    before = await_host(before);
    OrthancPluginFinalize();
    opb_wait_until(is_gone, &before, WAIT_MS);
}

static void
a_reload_that_fails_changes_nothing(void **state)
{
    pid_t pid;

    (void)state;
    configure("once", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = await_host(0);
    for (int i = 0; i < 3; i++) {
        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_FAILED);
        assert_int_equal(last_reload.generation, 1);
        assert_int_equal(last_reload.pid, pid);
    }
    write_file("script.py", 0600, "", "exit", NULL);
    reload();
    assert_int_equal(last_reload.outcome, OPB_RELOAD_FAILED);
    assert_non_null(strstr(last_reload.text, "ended with exit code 7"));
    write_file("script.py", 0600, "", "ok", NULL);
    reload();
    assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
    (void)await_host(pid);
    OrthancPluginFinalize();
}

static void
an_old_generation_that_does_not_finish_is_killed_in_time(void **state)
{
    pid_t pid;

    (void)state;
    configure("stay", ", \"StopTimeout\": 0.2");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = await_host(0);
    for (int i = 0; i < 8; i++) { /* more than come to their end at a time */
        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
    }
    opb_wait_until(is_gone, &pid, WAIT_MS);
    OrthancPluginFinalize();
}

static void
a_host_that_dies_during_a_reload_is_not_missed(void **state)
{
    pid_t pid;

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = await_host(0);
    for (int i = 0; i < 20; i++) {
        (void)kill(pid, SIGKILL); /* at any moment of the reload */
        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
        pid = await_host(pid);
    }
    OrthancPluginFinalize();
}

static void
a_daemon_that_dies_during_a_reload_is_replaced(void **state)
{
    pid_t pid;

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = await_host(0);
    assert_int_equal(kill(parent_of(pid), SIGKILL), 0);
    reload(); /* it may come before or after the news */
    await_log("The worker is running again");
    pid = await_host(pid);
    do {
        reload();
    } while (last_reload.outcome != OPB_RELOAD_DONE);
    OrthancPluginFinalize();
}

static void *
run_reloads(void *unused)
{
    (void)unused;
    do {
        reload();
    } while (last_reload.outcome != OPB_RELOAD_STOPPING);
    return NULL;
}

static void
reloads_end_when_the_server_stops(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        pthread_t thread;

        configure("ok", "");
        assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
        assert_int_equal(pthread_create(&thread, NULL, run_reloads, NULL), 0);
        usleep(i * 3000);
        opb_pool_stop_reloads(opb_node_current()->pool); /* as ORTHANC_STOPPED does */
        assert_int_equal(pthread_join(thread, NULL), 0);
        OrthancPluginFinalize();
    }
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
    configure("odd", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    read_pids(before);
    for (int i = 0; i < 3; i++) { /* the second one cannot load */
        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_FAILED);
        read_pids(after);
        assert_memory_equal(before, after, sizeof(before));
    }
    write_file("script.py", 0600, "", "ok", NULL);
    reload();
    assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
    read_pids(after);
    for (int i = 0; i < 3; i++) {
        assert_int_not_equal(before[i], after[i]);
        opb_wait_until(is_gone, &before[i], WAIT_MS);
    }
    OrthancPluginFinalize();
    for (int i = 0; i < 3; i++) {
        opb_wait_until(is_gone, &after[i], WAIT_MS);
    }
}

static void
any_host_may_die_during_a_reload(void **state)
{
    pid_t pids[3];

    (void)state;
    configure("ok", "");
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    read_pids(pids);
    for (int i = 0; i < 20; i++) {
        (void)kill(pids[i % 3], SIGKILL); /* at any moment of the reload */
        reload();
        assert_int_equal(last_reload.outcome, OPB_RELOAD_DONE);
        read_pids(pids);
    }
    OrthancPluginFinalize();
}

static void
a_missing_worker_is_named(void **state)
{
    (void)state;
    configure("ok", "");
    (void)snprintf(configuration, sizeof(configuration),
                   "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"Worker\": "
                   "\"/nonexistent/worker\"}}",
                   directory);
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
        configuration, sizeof(configuration),
        "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"RuntimeDirectory\": "
        "\"/nonexistent\"}}",
        directory);
    write_file("script.py", 0600, "", "ok", NULL);
    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), -1);
    assert_true(
        fake_log_has("cannot be made below /nonexistent (No such file or directory)"));
}

#define SERVER_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, make_server, end_server)
/* The same test with three hosts. */
#define TEST_OF_THREE(function)                                                            \
    {                                                                                      \
#        function "_of_three", function, make_server_of_three, end_server, NULL            \
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
        SERVER_TEST(a_host_that_cannot_load_is_replaced_again_and_again),
        SERVER_TEST(a_killed_daemon_is_replaced_with_its_host),
        SERVER_TEST(a_daemon_that_was_killed_just_before_the_end_does_no_harm),
        SERVER_TEST(a_script_that_does_not_finish_is_killed_in_time),
        SERVER_TEST(a_reload_exchanges_the_host),
        SERVER_TEST(a_reload_that_fails_changes_nothing),
        SERVER_TEST(an_old_generation_that_does_not_finish_is_killed_in_time),
        SERVER_TEST(a_host_that_dies_during_a_reload_is_not_missed),
        SERVER_TEST(a_daemon_that_dies_during_a_reload_is_replaced),
        SERVER_TEST(reloads_end_when_the_server_stops),
        TEST_OF_THREE(a_script_is_loaded_and_finished_twice_in_one_process),
        TEST_OF_THREE(service_lanes_are_served_while_the_script_loads),
        TEST_OF_THREE(a_script_that_raises_ends_the_start_without_another_line),
        TEST_OF_THREE(a_script_that_ends_the_process_ends_the_start_with_its_exit_code),
        TEST_OF_THREE(a_killed_host_is_replaced),
        TEST_OF_THREE(a_killed_daemon_is_replaced_with_its_host),
        TEST_OF_THREE(a_daemon_that_was_killed_just_before_the_end_does_no_harm),
        TEST_OF_THREE(a_reload_exchanges_the_host),
        TEST_OF_THREE(an_old_generation_that_does_not_finish_is_killed_in_time),
        TEST_OF_THREE(a_host_that_dies_during_a_reload_is_not_missed),
        TEST_OF_THREE(a_daemon_that_dies_during_a_reload_is_replaced),
        TEST_OF_THREE(reloads_end_when_the_server_stops),
        TEST_OF_THREE(calls_move_only_when_all_hosts_are_ready),
        TEST_OF_THREE(any_host_may_die_during_a_reload),
        SERVER_TEST(a_missing_worker_is_named),
        SERVER_TEST(a_directory_that_cannot_be_made_is_named),
    };

    return OPB_RUN(tests);
}
