/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/pool_support.h - a real supervisor with fake hosts, and a node to test it
 *
 * Everything here fails the running test when it cannot do its work.
 */
#ifndef OPB_POOL_SUPPORT_H
#define OPB_POOL_SUPPORT_H

#include "protocol/handshake.h"
#include "protocol/lane.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define POOL_WAIT_MS 20000u /* longer than any wait on a slow machine; never slept */

struct pool {
    char directory[64];
    char socket_path[96];
    char stderr_path[96];
    pid_t pid;
    int lifeline; /* -1: not managed */
    struct opb_message *message;
    uint8_t secret[OPB_SECRET_BYTES];
    char node[OPB_NODE_NAME_BYTES + 1];
    struct opb_lane *control; /* NULL until pool_attach() */
    const char *preload;      /* a module for ATTACH to name, or NULL */
    bool is_starting;         /* that module must be there */
    uint32_t workers;         /* to ask for; 0: 1 */
};

struct host_news {
    uint32_t method; /* enum opb_control_method */
    uint32_t host;   /* the level for OPB_CONTROL_LOG */
    pid_t pid;
    uint32_t worker;
    char text[512];
};

/* Starts a supervisor, without zygotes unless FAKE_ZYGOTE is set; managed: reads READY.
 * Arguments: options, ending with NULL. */
void pool_start(struct pool *pool, bool is_managed, const char *const *options);
/* Starts the process alone: reads nothing. */
void pool_spawn(struct pool *pool, bool is_managed, const char *const *options);
void pool_read_line(struct pool *pool, char *out, size_t capacity);
/* Ends what is left of it and removes its files. */
void pool_end(struct pool *pool);
/* Waits for the supervisor's end. Gives its wait status. */
int pool_wait(struct pool *pool);

/* What the attached node would say when it opens a call lane to the host. */
struct opb_hello pool_hello(const struct pool *pool, uint32_t host);
/* Connects and greets. Gives a lane, or NULL with the refusal in text. */
struct opb_lane *pool_connect(struct pool *pool, struct opb_hello *hello, char *text,
                              size_t capacity);
struct opb_lane *pool_connect_control(struct pool *pool);
/* Sends ATTACH on the lane, no more. */
void pool_send_attach(struct pool *pool, struct opb_lane *control, const char *name,
                      const uint8_t *secret, size_t secret_bytes);
/* Sends ATTACH on the lane. Gives the answer's fault, or -1; text: the name or the fault.
 */
int pool_ask_attach(struct pool *pool, struct opb_lane *control, const char *name,
                    const uint8_t *secret, size_t secret_bytes, char *text,
                    size_t capacity);
/* Attaches as pool->control and waits for its first host. */
struct host_news pool_attach(struct pool *pool);
void pool_ask_detach(struct pool *pool, uint64_t grace_ms); /* sends it, no more */
/* The next notification of that method; others are skipped. */
struct host_news pool_news(struct pool *pool, uint32_t method);
/* Waits for the answer to DETACH; skips notifications. */
void pool_await_detached(struct pool *pool);
void pool_replace_host(struct pool *pool, uint32_t host, const char *reason);
void pool_limit_restarts(struct pool *pool, uint32_t restarts, uint32_t window_ms);
void pool_host_hangs(struct pool *pool, uint32_t host, const char *reason);
/* Asks for the stacks of a host: host is the ticket, text what it says, or a problem in
 * brackets. */
struct host_news pool_look(struct pool *pool, uint32_t host, uint32_t ticket);
void pool_ask_next(struct pool *pool); /* sends START_NEXT, no more */
/* Has a host started beside the one that runs, and waits for it. */
struct host_news pool_start_next(struct pool *pool);
/* Puts it in the place of the other, and waits until that is done. */
void pool_switch(struct pool *pool, uint32_t host);
void pool_switch_all(struct pool *pool, const uint32_t *hosts, uint32_t count);

/* Opens a call lane to the host. NULL: text says why not. */
struct opb_lane *pool_open_lane(struct pool *pool, uint32_t host, char *text,
                                size_t capacity);
struct opb_lane *pool_must_open_lane(struct pool *pool, uint32_t host);
/* The host answers on a new lane. */
void pool_expect_echo(struct pool *pool, uint32_t host);
/* Asks the fake host. False if it gave no answer. */
bool host_ask(struct opb_lane *lane, uint32_t method, const char *text, char *answer,
              size_t capacity);
pid_t host_ask_pid(struct opb_lane *lane, uint32_t method);

bool process_is_alive(pid_t pid); /* a zombie is not */
void process_await_end(pid_t pid);
bool path_exists(const char *path);
/* Waits until the supervisor's stderr has that text. */
void pool_await_stderr(struct pool *pool, const char *text);
/* How often it has it now. */
uint32_t pool_count_stderr(struct pool *pool, const char *text);

#endif
