/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool_state.h - what the files about the pool and its generations share
 *
 * Threads: the starting thread (Orthanc's, in Initialize and Finalize), the supervisor
 * thread, a loader thread for each place. A field belongs to one of them, or is guarded by
 * the lock.
 */
#ifndef OPB_POOL_STATE_H
#define OPB_POOL_STATE_H

#include "control.h"
#include "pool.h"
#include "recycle.h"
#include "runtime_dir.h"
#include "scripts.h"
#include "session.h"
#include "spawn.h"
#include "watch.h"

#include <time.h>

#define OPB_POOL_TEXT_BYTES 1024u
#define OPB_POOL_RETIRED    4u /* generations that come to their end at a time */
/* Hosts at a time: current, next, unneeded, retired. */
#define OPB_POOL_GROUPS ((OPB_POOL_RETIRED + 4u) * OPB_MAX_WORKERS)

/* What the pool repeats when a host has ended since we asked for it. */
#define OPB_COULD_NOT_LOAD "could not load the script"
#define OPB_NOT_NEEDED     "was ended: another host has taken its place"
#define OPB_NOT_IN_TIME    "was killed, since a callback had not returned in time"
#define OPB_NOT_FINISHED   "has not finished in time and was killed"

enum opb_reload_step {
    OPB_STEP_NONE,
    OPB_STEP_ASKED,    /* by somebody; the supervisor thread has not begun */
    OPB_STEP_STARTING, /* the pool has been asked for hosts; not all are here */
    OPB_STEP_LOADING   /* the loader threads have them, or will have */
};

/* A host of the next generation. */
enum opb_next_state {
    OPB_NEXT_NONE,
    OPB_NEXT_HERE,    /* it waits for its Load */
    OPB_NEXT_LOADING, /* its loader thread has it */
    OPB_NEXT_LOADED,
    OPB_NEXT_FAILED
};

/* A host to be ended by the pool, without a successor if it has lost its place. */
struct opb_doomed {
    uint32_t host;
    const char *reason; /* static */
};

/* A host of another generation than the current one, of which the pool says that it has
 * died. */
struct opb_dead {
    uint32_t host;
    pid_t pid;
    const char *reason;
    struct opb_session *session; /* a reference; NULL: there never was one */
    bool is_next;
    bool is_early;  /* of the next generation, which is not complete yet */
    bool is_unborn; /* a process that could not be started */
};

/* A host whose generation comes to its end (retire.c). */
struct opb_retired {
    struct opb_retired *next;
    struct opb_pool *pool;
    struct opb_session *session; /* a reference */
    struct opb_lane *main_lane;  /* the thread's */
    uint64_t switch_number;
    uint64_t drain_end_ms; /* 0: DrainTimeout begins with the thread */
    pthread_t thread;
    bool has_thread;
    bool is_done;    /* join it */
    bool is_joining; /* somebody does */
};

/* One of the hosts that a generation has, the one that takes over from it, and the thread
 * that loads the script in both. */
struct opb_place {
    struct opb_pool *pool;
    uint32_t worker; /* which one; 0 is the primary's */
    pthread_t loader;
    bool has_loader;

    /* The supervisor thread's. */
    uint64_t hung_end_ms; /* when a host that hangs must be dead; OPB_FOREVER: none does */
    uint32_t hung_sent;   /* which one that is */

    /* Guarded by the pool's lock. */
    struct opb_session *host;         /* the newest that lives; a reference */
    struct opb_session *arrived;      /* waits for its Load; a reference */
    struct opb_session *main_session; /* whose main lane that is; a reference */
    struct opb_lane *main_lane;
    bool is_loaded;           /* the main session has loaded the script */
    bool is_unwanted;         /* the host that loads is about to end: it shall not serve */
    struct opb_session *next; /* of the next generation; a reference */
    struct opb_lane *next_lane;
    enum opb_next_state next_state;
    uint32_t hung_host; /* a host that hangs, to be told to the pool; 0: none */
    char hung_reason[256];
};

struct opb_pool {
    struct opb_node *node;
    char *orthanc_path; /* never changes */
    int wake_fd;        /* an eventfd: wakes the supervisor thread */

    /* The supervisor thread's while it runs, else the starting thread's. */
    struct opb_runtime_dir *dir;
    struct opb_daemon *daemon; /* NULL: the pool is shared, or not running now */
    struct opb_control *control;
    struct opb_control_news news;
    struct opb_recycler *recycler;
    struct opb_watch *watch;       /* NULL: nothing is watched */
    pid_t groups[OPB_POOL_GROUPS]; /* of the hosts that run now; 0: none */
    uint64_t launched_ms;          /* when the daemon that runs now was ready */
    uint64_t relaunch_ms;          /* when to try again; OPB_FOREVER: it runs */
    uint64_t resume_ms;            /* when to accept service lanes again; 0: now */
    uint32_t relaunch_count;       /* in a row */

    pthread_t supervisor;
    bool has_supervisor;
    bool is_released; /* nothing runs any more: the starting thread's */

    uint32_t place_count; /* never changes; node->worker_count of them are in use */
    struct opb_place *places;

    /* Guards what follows, and the places. The locks of events, routes and node may be
     * taken under it. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t calls_end_ms; /* when calls that run have had their time; OPB_FOREVER: never */
    bool is_starting;      /* in Initialize: the first failure is the last */
    bool is_stopping;      /* no new host, no new daemon */
    bool is_ended;         /* the supervisor thread leaves */
    bool is_leaving;       /* the pool is about to end: no other host comes into service */
    bool is_detach_wanted;
    bool is_detach_sent;
    bool is_detached;                  /* all hosts have ended, or the pool is lost */
    char failure[OPB_POOL_TEXT_BYTES]; /* starting: why there will be no host */
    char node_socket[108];             /* where hosts connect to */
    struct opb_doomed doomed[OPB_POOL_GROUPS];
    uint32_t doomed_count;
    char *files;    /* of the script that has just been loaded, for the watch; or NULL */
    bool is_broken; /* the script on disk did not load */

    /* The change of generation. */
    enum opb_reload_step step;
    uint64_t step_end_ms;      /* of OPB_STEP_STARTING */
    uint64_t reload_count;     /* that have ended, one way or the other */
    struct opb_reload reload;  /* the last of them */
    const char *reload_wanted; /* static: why somebody wants one, later; or NULL */
    const char *reload_why;    /* static: of the one that runs, or was the last */
    bool is_reload_over;       /* Orthanc stops: no more of them */
    uint64_t generation;
    bool is_old_gone; /* replace.c: the one before has ended, and none has loaded since */
    struct opb_scripts *next_scripts; /* what the next runs: a reference, or NULL */
    uint32_t next_count;              /* hosts of the next generation */
    uint32_t failed_host;             /* of the next, which could not be started; 0: none */
    bool is_lead_loaded;  /* the primary of the next has loaded: the others may */
    bool has_next_failed; /* one of the next: none is of use */
    bool is_failure_logged;
    char next_failure[4096];
    uint32_t switch_hosts[OPB_MAX_WORKERS]; /* to be told to the pool */
    uint32_t switch_count;                  /* 0: nothing */
    uint32_t switching_host; /* the first of those told or to be told, and not confirmed */
    struct opb_retired *retired;
    uint32_t retired_count;

    struct opb_look *look; /* look.c: lent by who looks at the hosts now, or NULL */
    uint32_t look_ticket;  /* the last one */
};

/* launch.c. Directory, node socket, daemon, control connection, attach: all or nothing.
 * cancel_fd (-1: none) ends the wait for the daemon. */
OPB_MUST_CHECK enum opb_status opb_pool_launch(struct opb_pool *pool, int cancel_fd,
                                               char *message, size_t capacity);
/* Kills the daemon (how, which may be NULL, says how it had ended) and its host, and
 * removes the directory. */
void opb_pool_abandon(struct opb_pool *pool, char *how, size_t capacity);
/* Ends the daemon, which kills what is left, and removes the directory. */
void opb_pool_dismiss(struct opb_pool *pool);

/* host_news.c */
void opb_pool_host_started(void *context, uint32_t host, pid_t pid, uint32_t worker);
void opb_pool_host_died(void *context, uint32_t host, pid_t pid, const char *reason);
/* Those of the current generation are gone, or have to go. */
void opb_pool_end_hosts(struct opb_pool *pool, const char *reason);
void opb_pool_note_death(struct opb_pool *pool, pid_t pid,
                         const char *reason); /* for the status */

/* tell_pool.c */
/* Has the pool end a host, soon. reason is static. With the lock held; then wake. */
void opb_pool_doom(struct opb_pool *pool, uint32_t host, const char *reason);
/* The same for the host of a session, unless it is dead. No lock is held. */
void opb_pool_doom_session(struct opb_pool *pool, struct opb_session *session,
                           const char *reason);
/* The supervisor thread: tells the pool what there is to tell. */
void opb_pool_send_news(struct opb_pool *pool);
void opb_pool_send_hung(struct opb_pool *pool);
void opb_pool_send_looks(struct opb_pool *pool);
void opb_pool_send_detach(struct opb_pool *pool); /* from now on it starts no host */
void opb_pool_note_detached(struct opb_pool *pool);
/* When a host that hangs must be dead; OPB_FOREVER: none does. */
uint64_t opb_pool_hung_end_ms(const struct opb_pool *pool);

/* relaunch.c: the supervisor thread. */
/* why: "its control connection failed: ...", or NULL if the daemon itself has ended. */
void opb_pool_lose(struct opb_pool *pool, const char *why);
/* True: the connection is to be served again before anything is polled. */
bool opb_pool_relaunch(struct opb_pool *pool);
/* Woken: if the pool was lost at the very end of Orthanc's start, which nobody has seen to
 * by now, plans another one. */
void opb_pool_mend_start(struct opb_pool *pool);

/* last_calls.c: when it is time, OPB_FOREVER: never; and what is to be done then. */
uint64_t opb_pool_calls_end_ms(struct opb_pool *pool);
void opb_pool_end_calls(struct opb_pool *pool);

/* loader.c. How many hosts the pool gives this node. */
uint32_t opb_pool_worker_count(struct opb_pool *pool);
/* loader.c. The session of another host of the generation that serves, or NULL. With the
 * lock held, which lends it. */
struct opb_session *opb_place_other(const struct opb_place *place);
/* loader.c. A main lane that is no longer needed, with its session; both may be NULL. */
struct opb_main_lane {
    struct opb_session *session; /* a reference */
    struct opb_lane *lane;
};
void opb_main_lane_end(struct opb_main_lane *old);
/* Keeps the main lane of a host, which may be NULL; it takes the place of an older one,
 * which is to be ended without the lock. With the lock held. Takes *lane. */
struct opb_main_lane opb_place_keep_main_lane(struct opb_place *place,
                                              struct opb_session *session,
                                              struct opb_lane **lane, bool is_loaded);
/* loader.c. Runs Load in a host of the current generation. is_follower: it has to register
 * what others have. *is_logged: message is in the log already. */
OPB_MUST_CHECK enum opb_status opb_place_load(struct opb_place *place,
                                              struct opb_session *session, bool is_follower,
                                              bool *is_logged, char *message,
                                              size_t capacity);
void *opb_place_run_loader(void *argument); /* the thread of a place */
/* finish.c. Lets the script end in its hosts. The pool is told before, or it would start
 * others the moment that these end. */
void opb_pool_finish(struct opb_pool *pool);
/* pool.c. A script has been loaded from these files. Takes files. */
void opb_pool_set_files(struct opb_pool *pool, char *files);
/* pool.c. Ends the session of a host that is no longer of use, and the reference. */
void opb_pool_drop_session(struct opb_pool *pool, struct opb_session *session,
                           const char *reason);

/* leave.c. The pool is about to end. The supervisor thread. */
void opb_pool_leaving_news(void *context);

/* retire.c: generations that come to their end. */
/* A host that has lost its place, in the list: gives it a thread. Takes it. */
void opb_retired_begin(struct opb_retired *retired);
/* With the lock held: a reference to the session of the host of one of them, or NULL. */
struct opb_session *opb_retired_find(const struct opb_pool *pool, uint32_t host, pid_t pid);
/* Joins the threads that have ended; is_all: that will end. */
void opb_retired_reap(struct opb_pool *pool, bool is_all);

/* generations.c */
/* A new daemon counts hosts from 1 again: processes tell them apart. */
bool opb_pool_is_session_of(const struct opb_session *session, uint32_t host, pid_t pid);
void opb_pool_next_started(void *context, uint32_t host, pid_t pid, uint32_t worker);
void opb_pool_next_count_news(void *context, uint32_t workers);
void opb_pool_switched(void *context, uint32_t host);
void opb_pool_reload_news(void *context);
/* A host has died. With the lock held: true if it was one of the next generation, or of an
 * earlier one; then opb_generation_end_dead(), without the lock, which takes the session.
 */
bool opb_generation_find_dead(struct opb_pool *pool, struct opb_dead *dead);
void opb_generation_end_dead(struct opb_pool *pool, const struct opb_dead *dead);
/* The supervisor thread: does what is to be done now; last of all, begins a reload. */
OPB_MUST_CHECK enum opb_status opb_generation_step(struct opb_pool *pool);
OPB_MUST_CHECK enum opb_status opb_generation_ask(struct opb_pool *pool);
uint64_t opb_generation_next_ms(struct opb_pool *pool); /* when to come again */
/* The pool is lost, with all hosts. */
void opb_generation_lose(struct opb_pool *pool, const char *reason);
/* With the lock held: the reload has ended. */
void opb_reload_end(struct opb_pool *pool, enum opb_reload_outcome outcome,
                    const char *text);
/* Logs one sentence; is_logged: it is in the log already. No lock is held. */
void opb_reload_log_failure(struct opb_pool *pool, const char *text, bool is_logged);
/* For who looks later. failure is "" if there was none. No lock is needed. */
void opb_generation_note(const struct opb_pool *pool, uint64_t generation, pid_t pid,
                         const char *why, const char *failure);
/* Ends the session of a next host, so that its Load ends. No lock is held. */
void opb_next_end_session(struct opb_place *place, const char *reason);
/* Has the pool end all next hosts that live. With the lock held; then wake. */
void opb_next_doom_all(struct opb_pool *pool, const char *reason);
/* Takes all next hosts away. With the lock held; then drop them, without it. */
void opb_next_take_all(struct opb_pool *pool,
                       struct opb_session *sessions[OPB_MAX_WORKERS]);
void opb_next_drop_all(struct opb_pool *pool,
                       struct opb_session *const sessions[OPB_MAX_WORKERS],
                       const char *reason);

/* With the lock held, then wake: the pool keeps successors ready for these hosts from now
 * on, and the generation counts, with what it runs. */
void opb_generation_announce(struct opb_pool *pool, struct opb_session *const *next,
                             uint32_t count);
/* replace.c. Python.Reload is "replace": the loader thread of the primary, when all next
 * hosts are here, ends the generation before. False: the next one is not to be loaded; if
 * is_old_gone is not set, nothing has changed. */
OPB_MUST_CHECK bool opb_generation_replace(struct opb_pool *pool, uint32_t count);
/* When these are here: the supervisor thread, with the lock held. Who loads the script now,
 * in the place of the primary, has no time left, and serves no more; then wake. */
void opb_generation_interrupt(struct opb_pool *pool);

/* takeover.c */
/* A loader thread: whether its next host is to be loaded now, with the lock held; to do so.
 */
bool opb_generation_is_due(const struct opb_place *place);
void opb_generation_load(struct opb_place *place);
/* The end: waits for the threads of retired generations. */
void opb_generation_stop(struct opb_pool *pool);

/* launch.c. Process groups to kill if the daemon cannot do it any more. False: this is no
 * process of the pool's, which has been logged. */
bool opb_pool_admit(struct opb_pool *pool, pid_t pid);
void opb_pool_remove_group(struct opb_pool *pool, pid_t group);
void *opb_pool_supervise(void *argument);
void opb_pool_wake(struct opb_pool *pool);
bool opb_pool_is_stopping(struct opb_pool *pool); /* takes its lock */

#endif
