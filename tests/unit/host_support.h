/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/host_support.h - a real orthanc-python-host, and supervisor and node for it
 *
 * Here:      starting the program with a control socket, giving it lanes, Load, calls, and
 *            a handful of SDK functions that its script may use.
 * Everything here fails the running test when it cannot do its work.
 */
#ifndef OPB_HOST_SUPPORT_H
#define OPB_HOST_SUPPORT_H

#include "tests/unit/support.h"

#include "protocol/handshake.h"
#include "protocol/lane.h"
#include "protocol/message.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <pthread.h>

#define HOST_WAIT_MS         30000u /* longer than any wait on a slow machine; never slept */
#define HOST_NO_FAULT        (-1)
#define HOST_OUTPUT_HANDLE   77u
#define HOST_INSTANCE_HANDLE 88u
#define HOST_QUERY_SIZE      8u /* numbers of FindQuery.GetFindQuerySize, GetFindQueryValue */
#define HOST_QUERY_VALUE     9u

struct test_host {
    pid_t pid; /* 0: reaped */
    int wait_status;
    int control_fd;
    char directory[64];   /* holds the script and what the host writes */
    char output_path[96]; /* its stdout and stderr */
    struct opb_lane *main_lane;
    char fault_text[8192]; /* of the last call that failed */
    bool verbose;
    bool memory_usage;
    const char *version;
    char more[2][96]; /* scripts after the one of Load, two.py and three.py */
    uint32_t more_count;
    pthread_mutex_t lock;
    char log[65536];    /* what the script logged: "LogError: text\n" */
    char answer[65536]; /* the last AnswerBuffer */
    uint32_t route_count;
};

/* environment: "NAME=value" strings ending with NULL, or NULL. */
void test_host_start(struct test_host *host, const char *const *environment);
/* Ends what is left of it and removes its files. */
void test_host_end(struct test_host *host);
void test_host_write(struct test_host *host, const char *name, const char *text);
/* Runs Load on the main lane. Gives the fault, or HOST_NO_FAULT. */
int test_host_load(struct test_host *host, const char *name);
/* Writes another script, which Load names after the first: with the next of these names. */
void test_host_add(struct test_host *host, const char *text);
/* Writes the script and loads it; it must succeed. */
void test_host_run(struct test_host *host, const char *text);
int test_host_finalize(struct test_host *host);
/* Waits for the end of the process. Gives its wait status. */
int test_host_wait(struct test_host *host);
bool test_host_is_running(struct test_host *host);

/* Passes a descriptor with a kind, as the supervisor does. */
void test_host_pass(struct test_host *host, uint8_t kind, int fd);
struct opb_lane *test_host_lane(struct test_host *host);

/* Calls. They give the fault, or HOST_NO_FAULT. */
int test_host_rest(struct test_host *host, struct opb_lane *lane, uint32_t route,
                   const char *uri, const char *method, const void *body,
                   size_t body_bytes);
int test_host_change(struct test_host *host, struct opb_lane *lane, const char *resource);
int test_host_stored(struct test_host *host, struct opb_lane *lane);
int test_host_filter(struct test_host *host, struct opb_lane *lane, int method,
                     bool *allowed);
/* A request that the caller has packed. Gives *response, NULL if none came; free it. */
int test_host_ask(struct test_host *host, struct opb_lane *lane,
                  struct opb_message *request, struct opb_frame **response);
/* The same for a result that is a boolean, or (NULL) anything. */
int test_host_exchange(struct test_host *host, struct opb_lane *lane,
                       struct opb_message *request, bool *result);

bool test_host_logged(struct test_host *host, const char *text);
void test_host_await_output(struct test_host *host, const char *text);

/* Numbers of the calls in Load. */
enum {
    CALL_LOAD,
    CALL_FINALIZE,
    CALL_REST,
    CALL_CHANGE,
    CALL_STORED,
    CALL_FILTER,
    CALL_NEW /* one that the host does not know; then all of words.h */
};
#define HOST_CALL(upper) (CALL_NEW + 1u + OPB_CALL_##upper##_INDEX)

#endif
