/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/host_support.c - see host_support.h */
#include "tests/unit/host_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_FD 3

static const struct {
    const char *name;
    const char *signature;
} functions[] = {
    {"_Register", ""},
    {"_Release", ""},
    {"LogError", "s:v"},
    {"LogWarning", "s:v"},
    {"LogInfo", "s:v"},
    {"RestApiGet", "s:b"},
    {"RestOutput.AnswerBuffer", "ORestOutput;bs:v"},
    {"DicomInstance.GetInstanceSize", "ODicomInstance;:i"},
    {"FindQuery.GetFindQuerySize", "OFindQuery;:i"},
    {"FindQuery.GetFindQueryValue", "OFindQuery;u:s"},
};
enum {
    SDK_REGISTER,
    SDK_RELEASE,
    SDK_LOG_ERROR,
    SDK_LOG_WARNING,
    SDK_LOG_INFO,
    SDK_REST_API_GET,
    SDK_ANSWER_BUFFER,
    SDK_INSTANCE_SIZE,
    SDK_QUERY_SIZE = HOST_QUERY_SIZE,
    SDK_QUERY_VALUE = HOST_QUERY_VALUE,
    SDK_COUNT
};

static uint64_t
soon(void)
{
    return opb_deadline_ms(HOST_WAIT_MS);
}

static void
nap(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    (void)nanosleep(&pause, NULL);
}

/* In the child. */
static void
become_host(const struct test_host *host, int control_fd, const char *const *environment)
{
    int output = open(host->output_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    (void)setsid();
    if (output < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) {
        _exit(120);
    }
    if (control_fd == CONTROL_FD) {
        (void)fcntl(control_fd, F_SETFD, 0);
    }
    else if (dup2(control_fd, CONTROL_FD) < 0) {
        _exit(121);
    }
    for (; environment != NULL && *environment != NULL; environment++) {
        char *copy = strdup(*environment); /* lives until the exec */

        if (copy == NULL || putenv(copy) != 0) {
            _exit(122);
        }
    }
    (void)execl(OPB_TEST_HOST, "orthanc-python-host", "--control-fd", "3", (char *)NULL);
    _exit(123);
}

static struct opb_lane *
pass_new_lane(struct test_host *host, uint8_t kind)
{
    int fds[2];
    struct opb_lane *lane = NULL;
    uint32_t version = 0;

    opb_make_pair(fds);
    test_host_pass(host, kind, fds[1]);
    (void)close(fds[1]);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_welcome_receive(lane, &version, soon()), OPB_OK);
    assert_int_equal(version, OPB_PROTOCOL_VERSION);
    return lane;
}

void
test_host_start(struct test_host *host, const char *const *environment)
{
    int fds[2];

    memset(host, 0, sizeof(*host));
    assert_int_equal(pthread_mutex_init(&host->lock, NULL), 0);
    host->version = "1.12.6";
    (void)snprintf(host->directory, sizeof(host->directory), "/tmp/opb-host-XXXXXX");
    assert_non_null(mkdtemp(host->directory));
    (void)snprintf(host->output_path, sizeof(host->output_path), "%s/output",
                   host->directory);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    host->pid = fork();
    assert_true(host->pid >= 0);
    if (host->pid == 0) {
        become_host(host, fds[1], environment);
    }
    (void)close(fds[1]);
    host->control_fd = fds[0];
    host->main_lane = pass_new_lane(host, OPB_CONNECTION_MAIN);
}

void
test_host_pass(struct test_host *host, uint8_t kind, int fd)
{
    assert_int_equal(opb_socket_pass(host->control_fd, &kind, sizeof(kind), fd), OPB_OK);
}

struct opb_lane *
test_host_lane(struct test_host *host)
{
    return pass_new_lane(host, OPB_CONNECTION_CALL);
}

bool
test_host_is_running(struct test_host *host)
{
    if (host->pid != 0 && waitpid(host->pid, &host->wait_status, WNOHANG) == host->pid) {
        host->pid = 0;
    }
    return host->pid != 0;
}

int
test_host_wait(struct test_host *host)
{
    uint64_t deadline_ms = soon();

    while (test_host_is_running(host)) {
        assert_true(opb_clock_ms() < deadline_ms);
        nap();
    }
    return host->wait_status;
}

void
test_host_end(struct test_host *host)
{
    char command[128];

    opb_lane_close(host->main_lane);
    if (host->control_fd >= 0) {
        (void)close(host->control_fd);
    }
    if (host->pid != 0) {
        (void)kill(-host->pid, SIGKILL);
        (void)waitpid(host->pid, &host->wait_status, 0);
    }
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", host->directory);
    assert_int_equal(system(command), 0);
    (void)pthread_mutex_destroy(&host->lock);
}

void
test_host_write(struct test_host *host, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", host->directory, name);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
keep_text(struct test_host *host, char *where, size_t capacity, bool is_log,
          const char *name, const char *text, size_t bytes)
{
    size_t used;

    (void)pthread_mutex_lock(&host->lock);
    used = is_log ? strlen(where) : 0;
    (void)snprintf(where + used, capacity - used, "%s%.*s%s", name, (int)bytes, text,
                   is_log ? "\n" : "");
    (void)pthread_mutex_unlock(&host->lock);
}

static enum opb_status
run_function(struct test_host *host, struct opb_lane *lane, struct opb_frame *frame,
             struct opb_message *answer)
{
    static const char big[100000] = {'x'};
    struct opb_reader params;
    const char *text;
    size_t bytes = 0;

    opb_frame_params(frame, &params);
    opb_message_begin_response(answer, opb_frame_msgid(frame));
    switch (opb_frame_method(frame)) {
    case SDK_REGISTER:
        host->route_count++;
        opb_pack_nil(answer);
        return OPB_OK;
    case SDK_LOG_ERROR:
    case SDK_LOG_WARNING:
    case SDK_LOG_INFO: {
        char name[32];

        text = opb_read_str(&params, &bytes);
        (void)snprintf(name, sizeof(name), "%s: ", functions[opb_frame_method(frame)].name);
        keep_text(host, host->log, sizeof(host->log), true, name, text, bytes);
        return opb_reader_finish(&params);
    }
    case SDK_REST_API_GET:
        text = opb_read_str(&params, &bytes);
        if (bytes == 7 && memcmp(text, "/nested", bytes) == 0) {
            char nested[16];

            (void)snprintf(nested, sizeof(nested), "fault %d",
                           test_host_rest(host, lane, 0, "/inner", "GET", NULL, 0));
            opb_pack_bytes(answer, nested, strlen(nested));
        }
        else {
            opb_pack_bytes(answer, big, bytes == 4 ? sizeof(big) : 3);
        }
        return OPB_OK;
    case SDK_ANSWER_BUFFER:
        if (opb_read_uint(&params, UINT64_MAX) != HOST_OUTPUT_HANDLE) {
            return OPB_BAD_FRAME;
        }
        text = opb_read_bytes(&params, &bytes);
        keep_text(host, host->answer, sizeof(host->answer), false, "", text, bytes);
        return OPB_OK;
    case SDK_INSTANCE_SIZE:
        opb_pack_int(
            answer, opb_read_uint(&params, UINT64_MAX) == HOST_INSTANCE_HANDLE ? 1234 : -1);
        return opb_reader_finish(&params);
    case SDK_QUERY_SIZE:
        opb_pack_int(answer, 42); /* asked, not told */
        return OPB_OK;
    case SDK_QUERY_VALUE:
        opb_pack_cstr(answer, "asked");
        return OPB_OK;
    default:
        return OPB_OK;
    }
}

static enum opb_status
serve(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct opb_message *answer = opb_message_new();
    enum opb_status status = run_function(context, lane, frame, answer);

    if (status == OPB_OK && opb_frame_type(frame) == OPB_REQUEST) {
        status = opb_lane_send(lane, answer, soon());
    }
    opb_message_free(answer);
    return status;
}

int
test_host_ask(struct test_host *host, struct opb_lane *lane, struct opb_message *request,
              struct opb_frame **response)
{
    enum opb_status status = opb_exchange(lane, request, serve, host, soon(), response);
    enum opb_fault fault = OPB_FAULT_ORTHANC;
    const char *text = "";

    opb_message_free(request);
    if (status != OPB_OK) {
        (void)snprintf(host->fault_text, sizeof(host->fault_text), "lane: %s",
                       opb_lane_failure(lane));
        return 1000 + (int)status;
    }
    if (opb_frame_fault(*response, &fault, NULL, &text)) {
        (void)snprintf(host->fault_text, sizeof(host->fault_text), "%s", text);
        return (int)fault;
    }
    return HOST_NO_FAULT;
}

int
test_host_exchange(struct test_host *host, struct opb_lane *lane,
                   struct opb_message *request, bool *result)
{
    struct opb_frame *response = NULL;
    int outcome = test_host_ask(host, lane, request, &response);

    if (outcome == HOST_NO_FAULT && result != NULL) {
        struct opb_reader reader;

        opb_frame_result(response, &reader);
        *result = opb_read_bool(&reader);
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    }
    opb_frame_free(response);
    return outcome;
}

static void
pack_text(struct opb_message *message, const char *key, const char *value)
{
    opb_pack_cstr(message, key);
    opb_pack_cstr(message, value);
}

static void
pack_lists(struct opb_message *message)
{
#define NAME_CALL(upper, name) name,
    static const char *const calls[] = {
        "Load",           "Finalize",   "Rest",     "Change",
        "StoredInstance", "HttpFilter", "Invented", OPB_CALL_NAMES(NAME_CALL)};
#undef NAME_CALL

    opb_pack_cstr(message, "functions");
    opb_pack_array(message, SDK_COUNT);
    for (size_t i = 0; i < SDK_COUNT; i++) {
        opb_pack_array(message, 2);
        opb_pack_cstr(message, functions[i].name);
        opb_pack_cstr(message, functions[i].signature);
    }
    opb_pack_cstr(message, "calls");
    opb_pack_array(message, sizeof(calls) / sizeof(calls[0]));
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        opb_pack_cstr(message, calls[i]);
    }
}

int
test_host_load(struct test_host *host, const char *name)
{
    static const uint8_t secret[OPB_SECRET_BYTES] = {1};
    struct opb_message *message = opb_message_new();
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", host->directory, name);
    opb_message_begin_request(message, CALL_LOAD, 1);
    opb_pack_map(message, 15);
    pack_text(message, "version", host->version);
    pack_lists(message);
    opb_pack_cstr(message, "scripts");
    opb_pack_array(message, 1 + host->more_count);
    opb_pack_cstr(message, path);
    for (uint32_t i = 0; i < host->more_count; i++) {
        opb_pack_cstr(message, host->more[i]);
    }
    opb_pack_cstr(message, "verbose");
    opb_pack_bool(message, host->verbose);
    opb_pack_cstr(message, "memory_usage");
    opb_pack_bool(message, host->memory_usage);
    pack_text(message, "node_socket", "/nonexistent/node.sock");
    pack_text(message, "node", "test");
    pack_text(message, "orthanc", "/usr/sbin/Orthanc");
    opb_pack_cstr(message, "host");
    opb_pack_uint(message, 1);
    opb_pack_cstr(message, "secret");
    opb_pack_bytes(message, secret, sizeof(secret));
    opb_pack_cstr(message, "worker_index");
    opb_pack_uint(message, 0);
    opb_pack_cstr(message, "workers_count");
    opb_pack_uint(message, 1);
    opb_pack_cstr(message, "slow_call_ms");
    opb_pack_uint(message, 0);
    pack_text(message, "a key of the future", "");
    return test_host_exchange(host, host->main_lane, message, NULL);
}

void
test_host_add(struct test_host *host, const char *text)
{
    static const char *const names[] = {"two.py", "three.py"};
    const char *name = names[host->more_count];

    test_host_write(host, name, text);
    (void)snprintf(host->more[host->more_count], sizeof(host->more[0]), "%s/%s",
                   host->directory, name);
    host->more_count++;
}

void
test_host_run(struct test_host *host, const char *text)
{
    int fault;

    test_host_write(host, "script.py", text);
    fault = test_host_load(host, "script.py");
    if (fault != HOST_NO_FAULT) {
        fail_msg("Load: fault %d, %s\n%s", fault, host->fault_text, host->log);
    }
}

int
test_host_finalize(struct test_host *host)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, CALL_FINALIZE, 0);
    return test_host_exchange(host, host->main_lane, message, NULL);
}

int
test_host_rest(struct test_host *host, struct opb_lane *lane, uint32_t route,
               const char *uri, const char *method, const void *body, size_t body_bytes)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, CALL_REST, 8);
    opb_pack_uint(message, route);
    opb_pack_uint(message, HOST_OUTPUT_HANDLE);
    opb_pack_cstr(message, uri);
    opb_pack_cstr(message, method);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "one");
    opb_pack_cstr(message, "");
    if (strcmp(method, "GET") == 0) {
        opb_pack_map(message, 1);
        pack_text(message, "a", "1");
    }
    else {
        opb_pack_nil(message);
    }
    opb_pack_map(message, 1);
    pack_text(message, "host", "x");
    if (body != NULL) {
        opb_pack_bytes(message, body, body_bytes);
    }
    else {
        opb_pack_nil(message);
    }
    return test_host_exchange(host, lane, message, NULL);
}

int
test_host_change(struct test_host *host, struct opb_lane *lane, const char *resource)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, CALL_CHANGE, 3);
    opb_pack_int(message, 10);
    opb_pack_int(message, 4);
    opb_pack_cstr(message, resource);
    return test_host_exchange(host, lane, message, NULL);
}

int
test_host_stored(struct test_host *host, struct opb_lane *lane)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, CALL_STORED, 2);
    opb_pack_uint(message, HOST_INSTANCE_HANDLE);
    opb_pack_cstr(message, "abc");
    return test_host_exchange(host, lane, message, NULL);
}

int
test_host_filter(struct test_host *host, struct opb_lane *lane, int method, bool *allowed)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, CALL_FILTER, 5);
    opb_pack_cstr(message, "/system");
    opb_pack_int(message, method);
    opb_pack_cstr(message, "127.0.0.1");
    opb_pack_map(message, 0);
    opb_pack_map(message, 0);
    return test_host_exchange(host, lane, message, allowed);
}

bool
test_host_logged(struct test_host *host, const char *text)
{
    bool found;

    (void)pthread_mutex_lock(&host->lock);
    found = strstr(host->log, text) != NULL;
    (void)pthread_mutex_unlock(&host->lock);
    return found;
}

static bool
has_output(const struct test_host *host, const char *text)
{
    static char content[1024 * 1024];
    FILE *file = fopen(host->output_path, "re");
    size_t bytes;

    if (file == NULL) {
        return false;
    }
    bytes = fread(content, 1, sizeof(content) - 1, file);
    (void)fclose(file); /* was only read */
    content[bytes] = '\0';
    return strstr(content, text) != NULL;
}

void
test_host_await_output(struct test_host *host, const char *text)
{
    uint64_t deadline_ms = soon();

    while (!has_output(host, text)) {
        if (opb_clock_ms() >= deadline_ms) {
            fail_msg("the host has not written: %s", text);
        }
        nap();
    }
}
