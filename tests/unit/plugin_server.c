/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/plugin_server.c - see plugin_server.h */
#include "plugin_server.h"

#include "protocol/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char server_directory[64];
char server_configuration[1024];
struct opb_reload server_last_reload;
static const char *workers; /* more of the configuration: how many hosts */

void
server_write(const char *name, mode_t mode, const char *format, const char *a,
             const char *b)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", server_directory, name);
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

    *out->result = strdup(server_configuration);
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

void
server_configure(const char *word, const char *more)
{
    server_write("script.py", 0600, "", word, NULL);
    (void)snprintf(server_configuration, sizeof(server_configuration),
                   "{\"PythonScript\": \"%s/script.py\", \"Python\": {\"Worker\": "
                   "\"%s/worker\", \"RuntimeDirectory\": \"%s\"%s%s}}",
                   server_directory, server_directory, server_directory, workers, more);
}

int
server_make(void **state)
{
    (void)state;
    workers = "";
    strcpy(server_directory, "/tmp/opb-plugin-XXXXXX");
    assert_non_null(mkdtemp(server_directory));
    server_write("worker", 0700, "", OPB_TEST_WORKER, OPB_TEST_SCRIPT_HOST);
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

int
server_make_of_three(void **state)
{
    (void)server_make(state); /* 0, or the test has failed */
    workers = ", \"Workers\": 3";
    return 0;
}

int
server_end(void **state)
{
    static const char *const names[] = {"script.py", "script.py.mark", "worker"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", server_directory, names[i]);
        (void)unlink(path); /* not every test has made it */
    }
    assert_int_equal(rmdir(server_directory), 0);
    return 0;
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

static bool
is_there(void *path)
{
    return access(path, F_OK) == 0;
}

void
server_await_file(const char *name)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", server_directory, name);
    opb_wait_until(is_there, path, WAIT_MS);
}

pid_t
server_await_host(pid_t before)
{
    pid_t pid = before;

    opb_wait_until(has_host, &pid, WAIT_MS);
    return pid;
}

/* A zombie is gone too: where process 1 does not reap, it stays one. */
bool
server_is_gone(void *pid)
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

pid_t
server_daemon_of(pid_t pid)
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

void
server_reload(void)
{
    opb_pool_reload(opb_node_current()->pool, &server_last_reload);
}

void *
server_run_reloads(void *unused)
{
    (void)unused;
    do {
        server_reload();
    } while (server_last_reload.outcome != OPB_RELOAD_STOPPING);
    return NULL;
}

void
server_kill_hosts_during_reloads(int times)
{
    pid_t pid;

    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    for (int i = 0; i < times; i++) {
        (void)kill(pid, SIGKILL); /* at any moment of the reload */
        server_reload();
        assert_int_equal(server_last_reload.outcome, OPB_RELOAD_DONE);
        pid = server_await_host(pid);
    }
    OrthancPluginFinalize();
}

void
server_kill_daemon_before_reload(void)
{
    pid_t pid;

    assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
    pid = server_await_host(0);
    assert_int_equal(kill(server_daemon_of(pid), SIGKILL), 0);
    server_reload(); /* it may come before or after the news */
    fake_await_log("The worker is running again");
    (void)server_await_host(pid);
    do {
        server_reload();
    } while (server_last_reload.outcome != OPB_RELOAD_DONE);
    OrthancPluginFinalize();
}

void
server_stop_during_reloads(const char *word, const char *more)
{
    for (unsigned i = 0; i < 8; i++) {
        pthread_t thread;

        server_configure(word, more);
        assert_int_equal(OrthancPluginInitialize(fake_orthanc()), 0);
        assert_int_equal(pthread_create(&thread, NULL, server_run_reloads, NULL), 0);
        usleep(i * 3000);
        opb_pool_stop_reloads(opb_node_current()->pool); /* as ORTHANC_STOPPED does */
        assert_int_equal(pthread_join(thread, NULL), 0);
        OrthancPluginFinalize();
    }
}
