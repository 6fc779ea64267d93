/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/pool.h - the state of the pool daemon, shared by its files
 *
 * Here:      pool, connection, node, slot and host, and what the files of this
 *            folder may call of each other. Everything runs on the one loop thread.
 * Elsewhere: Python (worker/host), the frames (protocol/).
 * May use:   libuv, protocol/. Not Python.h, not the SDK.
 */
#ifndef OPB_SUPERVISOR_POOL_H
#define OPB_SUPERVISOR_POOL_H

#include "protocol/frame.h"
#include "protocol/handshake.h"
#include "protocol/limits.h"
#include "protocol/message.h"
#include "protocol/status.h"
#include "worker/supervisor/access.h"
#include "worker/supervisor/config.h"
#include "worker/supervisor/service.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#ifdef Py_PYTHON_H
#    error "the supervisor outlives every interpreter: Python belongs in worker/host"
#endif

/* Running ones of a slot, those included that have lost their place and come to their end:
 * more than an honest node keeps. */
#define OPB_MAX_SLOT_HOSTS 8u
/* Connections that have not finished their handshake: one more, and the oldest goes. */
#define OPB_MAX_PENDING                256u
#define OPB_MAX_STRANGERS              16u /* that are told so; more are closed at once */
#define OPB_MAX_CONTROL_ENVELOPE_BYTES 65536u
/* Bytes waiting for a node that does not read: logs are dropped from the first
 * number on, the connection ends at the second. */
#define OPB_MAX_WAITING_LOG_BYTES 262144u
#define OPB_MAX_WAITING_BYTES     1048576u
#define OPB_HANDSHAKE_TIMEOUT_MS  5000u
/* A host that lived this long was healthy: its successor starts at once. */
#define OPB_HEALTHY_MS            10000u
#define OPB_BACKOFF_FIRST_MS      100u
#define OPB_BACKOFF_LAST_MS       5000u
#define OPB_MAX_RESTARTS          100u
#define OPB_SLOW_MS               30000u /* between starts, when too many have died */
#define OPB_TERMINATE_MS          2000u /* between SIGTERM and SIGKILL, and after SIGKILL */
#define OPB_SWEEP_MS              10u   /* between two looks for orphans, and for stacks */
#define OPB_STACKS_MS             2000u /* for a host to tell its Python stacks */
#define OPB_LOOK_GIL_MS           500u  /* the same with the GIL, before it does without */
#define OPB_MAX_GRACE_MS          3600000u
#define OPB_REASON_BYTES          256u
#define OPB_MAX_PRELOADED         64u /* modules of a zygote */
#define OPB_MAX_MODULE_NAME_BYTES 255u
#define OPB_ZYGOTE_START_MS       30000u /* for a zygote to import its modules */
#define OPB_ZYGOTE_FORK_MS        5000u  /* to fork a host */
#define OPB_ZYGOTE_STEADY_MS      1000u  /* one that lived this long is followed at once */

struct opb_pool_options {
    const char *socket_path;
    char activated_path[128]; /* of the socket that systemd has made */
    const char *host_program;
    int managed_fd; /* one end of a socketpair to the node, or -1 */
    int listen_fd;  /* the socket that systemd has made, or -1 */
    uint32_t handshake_timeout_ms;
    bool is_check; /* nothing is to be run */
    struct opb_pool_config config;
    bool without_zygotes; /* every host is a process with a Python of its own */
};

struct opb_pool;
struct opb_node;

enum opb_connection_stage {
    OPB_STAGE_HELLO,   /* the hello is not complete */
    OPB_STAGE_PASSING, /* a lane that its host does not take yet */
    OPB_STAGE_CONTROL, /* a control connection; node is set once it has attached */
    OPB_STAGE_CLOSED   /* waits for libuv to let go of its handles */
};

struct opb_connection {
    struct opb_connection *next;
    struct opb_pool *pool;
    struct opb_node *node; /* lent; NULL before ATTACH and after DETACH */
    struct opb_hello hello;
    uv_poll_t poll;
    uv_timer_t timer;
    uint64_t give_up_ms;
    struct opb_peer peer;
    int fd;
    uint32_t open_handles;
    enum opb_connection_stage stage;
    bool is_pending;                 /* counts in pool->pending_count */
    struct opb_script_list *scripts; /* as the node has told before it attaches, or NULL */
    bool has_fixed_name;
    bool is_stranger; /* counts in pool->stranger_count: its user may not use us */
    uint8_t *in;      /* the frame that is arriving; never a byte of the next */
    size_t in_have;
    size_t in_need;
    uint8_t *out; /* frames that the peer has not taken yet */
    size_t out_have;
    size_t out_sent;
    size_t out_capacity;
    uint32_t dropped_log_count;
};

/* Somebody wants to see the Python stacks of a host, which goes on. */
struct opb_look {
    int fd; /* where it writes them; -1: nobody does */
    uint32_t ticket;
    uint64_t until_ms;
    bool is_without_gil; /* it could not get the GIL, and was asked to do without */
};

/* One process that runs the script. */
struct opb_host {
    struct opb_host *next; /* in pool->hosts, then in pool->dead */
    struct opb_node *node; /* lent; outlives it */
    uint32_t slot;
    uint32_t id;
    pid_t pid;    /* also its session and process group; 0: not known yet */
    bool is_born; /* is in pool->hosts, or was; else a zygote is making it */
    int control_fd;
    int exec_fd; /* the child's errno, if it could not run the program; -1: of a zygote */
    uint64_t started_ms;
    uint64_t sweep_until_ms;
    char reason[OPB_REASON_BYTES]; /* why we killed it; "" if we did not */
    int stacks_fd;                 /* where it writes its Python stacks; -1: not asked */
    uint64_t stacks_until_ms;
    struct opb_look look;
};

/* What the hosts of a node run. */
struct opb_script_list {
    uint32_t count;
    char *paths[]; /* absolute, as the node has told */
};

/* What a node wants its zygote to be. */
struct opb_preload {
    char **arguments; /* of its program; ends with NULL */
    uint32_t count;
    uint32_t module_count;
    char *environment; /* absolute path of its virtual environment, or NULL */
    bool is_strict;    /* without its modules no host may run: the node is starting */
};

struct opb_zygote; /* zygote.c */

enum opb_node_state {
    OPB_NODE_ATTACHED,
    OPB_NODE_DETACHING, /* asked to end; its hosts may finish */
    OPB_NODE_LOST       /* control connection gone; its hosts are being killed */
};

/* A host that is in no slot has lost its place: it may finish, and has no successor. */
struct opb_slot {
    struct opb_node *node;
    uint64_t deaths_ms[OPB_MAX_RESTARTS]; /* the last ones; used as a ring */
    uint32_t death_count;
    bool is_slow;          /* more have died than the node wants to see soon */
    struct opb_host *host; /* lent by pool->hosts or pool->dead; NULL: none */
    struct opb_host *next; /* lent by pool->hosts: beside it, to take its place */
    bool is_next_wanted;   /* another one, once next, which is being killed, has ended */
    uint32_t failure_count;
    uint64_t respawn_delay_ms;
    uv_timer_t timer;
    uint32_t index;
};

struct opb_node {
    struct opb_node *next;
    struct opb_pool *pool;
    struct opb_connection *connection; /* NULL once it is lost */
    enum opb_node_state state;
    char name[OPB_NODE_NAME_BYTES + 1];
    uint8_t secret[OPB_SECRET_BYTES];
    char *environment;                    /* virtual environment of its hosts, or NULL */
    struct opb_script_list *scripts;      /* as the node has told, or NULL */
    struct opb_script_list *next_scripts; /* of the hosts beside those that run, or NULL */
    uint32_t max_restarts;                /* of hosts within the window; 0: any number */
    uint64_t restart_window_ms;
    bool is_answer_due; /* DETACH waits for its response */
    uint32_t detach_msgid;
    int detach_step;
    uv_timer_t detach_timer;
    uint32_t open_handles;
    struct opb_zygote *zygote; /* NULL: its hosts get a Python of their own */
    uint32_t slot_count;       /* hosts at a time: 1 to OPB_MAX_WORKERS */
    uint32_t next_count;       /* the same of the next generation: never less */
    uint32_t made_count;       /* slots that have a timer; the others are zero */
    struct opb_slot slots[OPB_MAX_WORKERS];
};

struct opb_pool {
    uv_loop_t loop;
    const struct opb_pool_options *options;
    struct opb_message *message; /* for whatever is being built right now */
    bool is_managed;
    bool is_draining; /* no more nodes; ends when the last one has been detached */
    bool is_stopping;
    bool is_accept_paused;
    int listen_fd;
    int parent_fd; /* pidfd of the node's process, or -1 */
    uv_poll_t listen_poll;
    uv_poll_t lifeline_poll;
    uv_poll_t parent_poll;
    uv_timer_t accept_timer;
    uv_timer_t sweep_timer;
    uint64_t stop_until_ms;
    uv_signal_t signals[4];
    struct opb_connection *connections;
    uint32_t pending_count;
    uint64_t complained_ms; /* about connections that say nothing */
    uint64_t paused_ms;     /* when it was last said that none can be taken */
    uint64_t refused_ms;    /* since when refused ones are counted */
    uint32_t refused_count;
    struct opb_node *nodes;
    struct opb_host *hosts; /* running */
    struct opb_host *dead;  /* reaped; their orphans are being looked for */
    uint32_t last_host_id;
    struct opb_notify notify;
    struct opb_access access;
    uint32_t stranger_count; /* connections of users that may not use us */
};

/* main.c calls this once. Returns the exit code of the process. */
int opb_pool_run(const struct opb_pool_options *options);

/* pool.c. Begins the end: kills every host, then leaves the loop. Twice is fine. */
void opb_pool_stop(struct opb_pool *pool);
/* Why a user may not use us, and what to do about it. */
void opb_pool_refusal(const struct opb_pool *pool, const struct opb_peer *peer, char *out,
                      size_t capacity);
/* Something ended: leaves the loop if the pool is stopping and nothing is left. */
void opb_pool_check_stopped(struct opb_pool *pool);
/* A connection left the handshake: accepting may go on. */
void opb_pool_accept_more(struct opb_pool *pool);

/* log.c. To the node, or to all if it is NULL; to stderr if none is attached, or the pool
 * is shared. */
void opb_pool_log(struct opb_pool *pool, struct opb_node *node, enum opb_log_level level,
                  const char *format, ...) OPB_PRINTF(4, 5);
/* Logs that one was refused: not each, if there are many, since who is refused may come
 * again and again. */
void opb_pool_log_refused(struct opb_pool *pool, const struct opb_peer *peer,
                          const char *why);
/* To stderr alone, where its level is wanted: about the node, or the pool if it is NULL. */
void opb_pool_say(const struct opb_pool *pool, const struct opb_node *node,
                  enum opb_log_level level, const char *format, ...) OPB_PRINTF(4, 5);
/* The same without a pool. */
void opb_say(enum opb_log_level level, const char *who, const char *text);

/* scripts.c. Reads an array of paths, which are absolute, and neither too many nor too
 * long; NULL: the reader has failed. Gives them; NULL to free is fine. */
struct opb_script_list *opb_scripts_read(struct opb_reader *reader);
void opb_scripts_free(struct opb_script_list *scripts);
/* Whether "Scripts" allows what is behind the path. */
bool opb_scripts_allow(const struct opb_pool_config *config, const char *path);
/* True if hosts may run some scripts only. */
bool opb_scripts_are_bound(const struct opb_pool *pool);
/* On OPB_REFUSED message says which of "Scripts" cannot be read. */
OPB_MUST_CHECK enum opb_status opb_scripts_look(const struct opb_pool_config *config,
                                                char *message, size_t capacity);
/* Whether they may all be run; else message says which one may not, and why. */
OPB_MUST_CHECK enum opb_status opb_scripts_check(const struct opb_pool *pool,
                                                 const struct opb_script_list *scripts,
                                                 char *message, size_t capacity);
/* Tells a host that has just been started, and has no lane yet, what it may run. */
void opb_scripts_bind(struct opb_host *host);

/* capacity.c. How many hosts a node that wants so many gets: at least one, or 0 if none is
 * free. asking: who does, if it has attached; it keeps what it has. */
uint32_t opb_capacity_grant(const struct opb_pool *pool, const struct opb_node *asking,
                            uint32_t wanted);

/* connection.c. Takes *fd and sets it to -1, on success only. A stranger's greeting is
 * read, so that he can be told, and nothing else. */
OPB_MUST_CHECK enum opb_status opb_connection_open(struct opb_pool *pool, int *fd,
                                                   const struct opb_peer *peer,
                                                   bool is_stranger);
/* Ends the oldest connection that has not said what it wants: who means it says so at once.
 * False if there are few. */
bool opb_connection_drop_silent(struct opb_pool *pool);
/* Ends the connection without a word to its node; freed later by the loop. */
void opb_connection_close(struct opb_connection *connection);
/* Sends pool->message, in order, without waiting. A peer that cannot be written to is
 * noticed later, by the loop. */
void opb_connection_send(struct opb_connection *connection);
/* The node has attached: its handshake is over. */
void opb_connection_settle(struct opb_connection *connection, struct opb_node *node);

/* node_requests.c. One frame of a control connection. Anything but OPB_OK: close it. */
OPB_MUST_CHECK enum opb_status opb_control_serve(struct opb_connection *connection,
                                                 struct opb_frame *frame);
void opb_control_answer_fault(struct opb_connection *connection, uint32_t msgid,
                              enum opb_fault fault, const char *text);

/* attach.c. Likewise: what the node is, before it attaches; ATTACH. */
OPB_MUST_CHECK enum opb_status opb_attach_serve_describe(struct opb_connection *connection,
                                                         struct opb_frame *frame);
OPB_MUST_CHECK enum opb_status opb_attach_serve(struct opb_connection *connection,
                                                struct opb_frame *frame);

/* nodes.c. Makes one, which has no hosts yet, and a name that no other has; NULL without
 * memory. */
struct opb_node *opb_node_make(struct opb_pool *pool, const char *name,
                               const uint8_t secret[OPB_SECRET_BYTES], uint32_t slot_count);
/* An attached node has ended without DETACH: closes its connection, kills its hosts,
 * and in a managed pool begins the end. */
void opb_node_lost(struct opb_node *node);
/* Forgets a node that has no hosts; freed later by the loop. */
void opb_node_forget(struct opb_node *node);
/* Lends the node of that name, or NULL; one that is lost has none any more. */
struct opb_node *opb_node_find(struct opb_pool *pool, const char *name);
/* As for DETACH, without an answer: unmanaged pools on SIGTERM. */
void opb_node_detach(struct opb_node *node, uint64_t grace_ms);
/* SIGTERM: the node is to let its hosts finish; what is left after that is killed. */
void opb_node_leave(struct opb_node *node, uint64_t grace_ms);
/* SIGHUP: the node is to make its next generation. */
void opb_node_ask_reload(struct opb_node *node);
/* News of a host for the node. */
void opb_node_host_started(struct opb_node *node, const struct opb_host *host);
void opb_node_next_started(const struct opb_slot *slot, uint32_t host_id, pid_t pid);
void opb_node_host_died(struct opb_node *node, uint32_t host_id, pid_t pid,
                        const char *reason);
/* A slot is empty and nothing of its host is left. */
void opb_node_slot_free(struct opb_node *node, struct opb_slot *slot);
/* Nothing of a host that was in no slot is left. */
void opb_node_host_gone(struct opb_node *node);

/* nodes.c. One handle of the node less; frees it with the last. */
void opb_node_release(struct opb_node *node);

/* slots.c. The first so many are fit for use; their end, for opb_node_forget(). */
void opb_slots_make(struct opb_node *node, uint32_t count);
void opb_slots_close(struct opb_node *node);
/* START_NEXT and SWITCH; node may be NULL. */
OPB_MUST_CHECK enum opb_status opb_slots_serve_start_next(struct opb_node *node,
                                                          struct opb_frame *frame);
OPB_MUST_CHECK enum opb_status opb_slots_serve_switch(struct opb_node *node,
                                                      struct opb_frame *frame);

/* hosts.c. Starts a host in an empty slot; a failure is reported to the node and
 * tried again later. */
void opb_host_start(struct opb_slot *slot);
/* Starts a host beside the one of the slot, unless there is one; a failure is reported to
 * the node, and that is all. */
void opb_host_start_next(struct opb_slot *slot);
/* Puts the next host into the slot; the one that was there has lost its place. */
void opb_host_switch(struct opb_slot *slot, uint32_t id);
void opb_host_kill(struct opb_host *host, int signal_number);
/* The same of a process that leads a group, and has not been reaped: its id is its own. */
void opb_kill_group(pid_t pid, int signal_number);
/* SIGKILL, and the reason that the node is told. */
void opb_host_replace(struct opb_host *host, const char *reason);
/* Passes a lane. Lends fd. OPB_LATE: the host does not take it now. */
OPB_MUST_CHECK enum opb_status opb_host_pass(struct opb_host *host,
                                             enum opb_connection_kind kind, int fd);
/* Lends the running host of that process id, or NULL. */
struct opb_host *opb_host_find_pid(struct opb_pool *pool, pid_t pid);
/* Lends the running host of that node, in a slot or not, or NULL. */
struct opb_host *opb_host_find(const struct opb_node *node, uint32_t id);
/* The process has been reaped: tells the node and begins to look for orphans. */
void opb_host_died(struct opb_host *host, int wait_status);

/* For zygote.c, about a host that opb_zygote_ask() took: it has been born, as child of the
 * supervisor; or it is started without the zygote; or it cannot be (reason says why), and
 * is freed. */
void opb_host_born(struct opb_host *host);
void opb_host_spawn(struct opb_host *host);
void opb_host_unborn(struct opb_host *host, const char *reason);
/* A process that runs a program with a control socket as its descriptor 3. */
struct opb_spawned {
    pid_t pid;
    int control_fd;
    int exec_fd; /* its errno, if it could not run the program */
};
/* False: errno says why. Gives *out. */
bool opb_spawn(const char *program, char *const *arguments, struct opb_spawned *out);

/* preload.c. Reads the last parameter of ATTACH, which older nodes leave out; a failure is
 * the reader's. Gives *out in any case; end it with opb_preload_free(). */
void opb_preload_read(struct opb_preload *out, struct opb_reader *reader);
void opb_preload_free(struct opb_preload *preload);

/* zygote.c. Gives the node a zygote, as far as there is memory. Takes *preload. */
void opb_zygote_new(struct opb_node *node, struct opb_preload *preload);
/* Has the zygote fork a host, which is in no list and has no process yet. Takes it. If it
 * is not OPB_OK, the host is to be started without, and the log says why. */
OPB_MUST_CHECK enum opb_status opb_zygote_ask(struct opb_host *host);
/* The host that is about to be born is no longer wanted. Takes it. */
void opb_zygote_cancel(struct opb_host *host);
/* The node starts no more hosts: ends the zygote, and those that are about to be born. */
void opb_zygote_end(struct opb_node *node);
void opb_zygote_free(struct opb_node *node); /* the same, and forgets it */
/* A child that is none of the hosts has died, and is not reaped yet: takes what zygotes
 * have said of it. */
void opb_zygote_child_died(struct opb_pool *pool, pid_t pid);
/* That process is a zygote, which is no orphan. */
bool opb_zygote_is(const struct opb_pool *pool, pid_t pid);
/* A child may appear that is a host, and not known yet. */
bool opb_zygote_is_busy(const struct opb_pool *pool);

/* stacks.c. As opb_host_replace(), after its Python stacks went to the node's log. */
void opb_stacks_ask(struct opb_host *host, const char *reason);
/* Takes what has been answered; true while there is more to wait for. */
bool opb_stacks_check(struct opb_pool *pool);
/* The host has died: what it had written by then. */
void opb_stacks_end(struct opb_host *host);
/* What a host has written into the file: at most so many bytes, as lines of text. To be
 * freed; NULL if it has written nothing, or without memory. */
char *opb_stacks_read(int fd, size_t most_bytes);
bool opb_stacks_are_complete(int fd);
/* Lends what the kernel says of a process that does not answer. */
const char *opb_stacks_state(pid_t pid);

/* look.c. Asks a host, which goes on, for its Python stacks; the node gets an answer in any
 * case. host may be NULL: it has died. */
void opb_look_begin(struct opb_node *node, struct opb_host *host, uint32_t ticket);
/* Takes what has been answered; true while there is more to wait for. */
bool opb_look_check(struct opb_pool *pool);
/* The host has died, or the pool ends. */
void opb_look_end(struct opb_host *host);

/* reaper.c. Reaps every dead child; for SIGCHLD. */
void opb_reap(struct opb_pool *pool);
/* Kills what dead hosts have left behind, and frees those that left nothing. */
void opb_sweep(struct opb_pool *pool);
/* Reaps and sweeps from the loop, so that no caller's node or host goes away under it. */
void opb_sweep_soon(struct opb_pool *pool, uint64_t delay_ms);
/* Kills all children that are no hosts; true if there was one. */
bool opb_kill_orphans(struct opb_pool *pool);
/* The same to what modules that a zygote had imported have started. It has been reaped, and
 * no host that it has forked needs them any more. */
void opb_kill_left_by_zygote(struct opb_pool *pool, pid_t zygote);

#endif
