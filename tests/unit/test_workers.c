/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_workers.c - several hosts of one node: which call goes where
 *
 * All sessions lead to the one fake host; what is tested is which is chosen.
 */
#include "plugin_support.h"

#include "plugin/call.h"

#include "protocol/sockets.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define COUNT 3u

static struct opb_session *sessions[COUNT]; /* [0] is lent by the fake host */

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();

    node->worker_count = COUNT;
    fake_host_start(node, fake_answer_nil);
    sessions[0] = node->sessions[0];
    for (uint32_t i = 1; i < COUNT; i++) {
        assert_int_equal(opb_session_new(&sessions[i], node, 10 + i, 4242, i), OPB_OK);
        assert_true(opb_session_activate(sessions[i]));
    }
    *state = node;
    return 0;
}

static int
free_node(void **state)
{
    for (uint32_t i = 1; i < COUNT; i++) {
        opb_session_end(sessions[i], "is no longer needed");
        opb_session_unref(sessions[i]);
    }
    fake_node_free(*state);
    return 0;
}

struct held {
    struct opb_session *session;
    struct opb_lane *lane;
};

/* A call in progress. Returns the number of its worker. */
static uint32_t
hold(struct opb_node *node, struct held *held)
{
    assert_int_equal(opb_lane_acquire(node, OPB_ANY_WORKER, &held->session, &held->lane,
                                      opb_deadline_ms(5000)),
                     OPB_OK);
    return opb_session_worker(held->session);
}

static void
let_go(struct held *held)
{
    opb_lane_release(&held->session, &held->lane);
}

static void
calls_go_to_the_host_with_the_fewest_calls(void **state)
{
    struct held held[9];
    uint32_t count[COUNT] = {0};
    uint32_t free_one;

    for (uint32_t i = 0; i < 9; i++) {
        count[hold(*state, &held[i])]++;
        for (uint32_t j = 0; j < COUNT; j++) {
            assert_in_range(count[j], i / COUNT, i / COUNT + 1); /* never two ahead */
        }
    }
    free_one = opb_session_worker(held[4].session);
    let_go(&held[4]);
    assert_int_equal(hold(*state, &held[4]), free_one);
    for (uint32_t i = 0; i < 9; i++) {
        let_go(&held[i]);
    }
}

static void
of_hosts_that_are_equally_busy_the_one_used_last_is_taken(void **state)
{
    struct held first;
    struct held second;
    uint32_t worker = hold(*state, &first);
    uint32_t other = hold(*state, &second);

    assert_int_not_equal(worker, other);
    let_go(&first);
    let_go(&second); /* all are idle now */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(hold(*state, &first), other);
        let_go(&first);
    }
}

static void
a_host_that_has_ended_or_hangs_gets_no_calls(void **state)
{
    struct held held;

    opb_session_end(sessions[1], "was killed");
    assert_true(opb_session_condemn(sessions[2]));
    for (int i = 0; i < 5; i++) {
        struct held other;

        assert_int_equal(hold(*state, &held), 0);
        assert_int_equal(hold(*state, &other), 0);
        let_go(&held);
        let_go(&other);
    }
}

static void
pack(struct opb_message *message, struct opb_session *session, void *context)
{
    *(uint32_t *)context = opb_session_worker(session);
    opb_message_begin_request(message, OPB_CALL_CHANGE_INDEX, 0);
}

static void
what_is_for_the_primary_waits_for_it_and_goes_nowhere_else(void **state)
{
    struct opb_config *config = ((struct opb_node *)*state)->config;
    uint32_t worker = 99;
    struct opb_call_io io = {.pack = pack, .context = &worker, .is_for_primary = true};
    struct held held;

    config->queue_timeout_ms = 20000;         /* for a slow machine */
    assert_int_equal(hold(*state, &held), 0); /* it is the busiest */
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_DONE);
    assert_int_equal(worker, 0);
    let_go(&held);
    worker = 99;
    opb_session_end(sessions[0], "was killed");
    config->queue_timeout_ms = 100;
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_NO_HOST);
    assert_int_equal(worker, 99);
    io.is_for_primary = false;
    config->queue_timeout_ms = 20000;
    assert_int_equal(
        opb_call_run(*state, OPB_CALL_CHANGE_INDEX, &io, "test call", OPB_FOREVER),
        OPB_CALL_DONE);
    assert_int_not_equal(worker, 0);
}

static void
make_next(struct opb_node *node, struct opb_session *next[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(opb_session_new(&next[i], node, 20 + i, 4243, i), OPB_OK);
    }
}

static void
end_next(struct opb_session *next[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        opb_session_end(next[i], "is no longer needed");
        opb_session_unref(next[i]);
    }
}

static void
a_generation_takes_over_as_a_whole(void **state)
{
    struct opb_node *node = *state;
    struct opb_session *next[2];
    struct held held;

    make_next(node, next);
    assert_true(opb_session_activate_all(next, 2));
    assert_ptr_equal(node->sessions[0], next[0]);
    assert_ptr_equal(node->sessions[1], next[1]);
    assert_null(node->sessions[2]); /* the next one has fewer */
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_false(opb_session_is_dead(sessions[i])); /* they may finish */
    }
    assert_in_range(hold(node, &held), 0, 1);
    assert_true(held.session == next[0] || held.session == next[1]);
    let_go(&held);
    end_next(next);
}

static void
a_generation_of_which_one_has_died_takes_over_nothing(void **state)
{
    struct opb_node *node = *state;
    struct opb_session *next[2];

    make_next(node, next);
    opb_session_end(next[1], "was killed");
    assert_false(opb_session_activate_all(next, 2));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(node->sessions[i], sessions[i]);
    }
    end_next(next);
}

struct caller {
    struct opb_node *node;
    struct held held;
    enum opb_status status;
    atomic_bool is_done;
    pthread_t thread;
};

static void *
run_caller(void *argument)
{
    struct caller *caller = argument;

    caller->status = opb_lane_acquire(caller->node, OPB_ANY_WORKER, &caller->held.session,
                                      &caller->held.lane, opb_deadline_ms(20000));
    atomic_store(&caller->is_done, true);
    return NULL;
}

static bool
waits(void *count)
{
    return atomic_load(&opb_node_current()->waiting_count) == *(unsigned *)count;
}

/* A call on a thread of its own, which waits by then; there are that many. */
static void
begin_caller(struct opb_node *node, struct caller *caller, unsigned count)
{
    *caller = (struct caller){.node = node};
    assert_int_equal(pthread_create(&caller->thread, NULL, run_caller, caller), 0);
    opb_wait_until(waits, &count, 5000);
    assert_false(atomic_load(&caller->is_done));
}

static void
end_caller(struct caller *caller)
{
    assert_int_equal(pthread_join(caller->thread, NULL), 0);
    assert_int_equal(caller->status, OPB_OK);
    let_go(&caller->held);
}

static void
calls_wait_while_they_are_held_and_are_let_in_by_turns(void **state)
{
    struct opb_node *node = *state;
    struct caller callers[2];
    struct held running;
    struct held nested;

    (void)hold(node, &running);
    opb_calls_hold(node);
    begin_caller(node, &callers[0], 1);
    assert_int_equal(
        opb_lane_acquire_in(running.session, &nested.lane, opb_deadline_ms(5000)),
        OPB_OK); /* what belongs to a host is not held */
    nested.session = running.session;
    let_go(&nested);
    opb_calls_let_in(node);
    end_caller(&callers[0]);
    begin_caller(node, &callers[1], 1); /* it has come too late for that */
    opb_calls_go_on(node);
    end_caller(&callers[1]);
    let_go(&running);
}

static void
held_calls_go_to_the_hosts_that_come_after(void **state)
{
    struct opb_node *node = *state;
    struct opb_session *next[2];
    struct caller caller;

    opb_calls_hold(node);
    begin_caller(node, &caller, 1);
    assert_true(opb_calls_drain(node, opb_deadline_ms(5000)));
    for (uint32_t i = 0; i < COUNT; i++) {
        (void)opb_session_ref(sessions[i]); /* as who withdraws them has */
    }
    opb_sessions_withdraw(node, 2);
    opb_calls_go_on(node);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_null(node->sessions[i]);
        assert_false(opb_session_is_dead(sessions[i]));
    }
    assert_false(atomic_load(&caller.is_done));
    make_next(node, next);
    assert_true(opb_session_activate_all(next, 2));
    assert_int_equal(pthread_join(caller.thread, NULL), 0);
    assert_true(caller.held.session == next[0] || caller.held.session == next[1]);
    let_go(&caller.held);
    end_next(next);
    for (uint32_t i = 0; i < COUNT; i++) {
        opb_session_unref(sessions[i]);
    }
}

static void
a_drain_ends_in_time_and_says_that_calls_run(void **state)
{
    struct opb_node *node = *state;
    struct held running;

    (void)hold(node, &running);
    assert_false(opb_calls_drain(node, opb_deadline_ms(50)));
    let_go(&running);
    assert_true(opb_calls_drain(node, opb_deadline_ms(5000)));
    (void)hold(node, &running);
    opb_session_end(running.session, "was killed");
    assert_true(opb_calls_drain(node, opb_deadline_ms(50))); /* nothing runs in the dead */
    let_go(&running);
}

#define WORKER_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WORKER_TEST(calls_go_to_the_host_with_the_fewest_calls),
        WORKER_TEST(of_hosts_that_are_equally_busy_the_one_used_last_is_taken),
        WORKER_TEST(a_host_that_has_ended_or_hangs_gets_no_calls),
        WORKER_TEST(what_is_for_the_primary_waits_for_it_and_goes_nowhere_else),
        WORKER_TEST(a_generation_takes_over_as_a_whole),
        WORKER_TEST(a_generation_of_which_one_has_died_takes_over_nothing),
        WORKER_TEST(calls_wait_while_they_are_held_and_are_let_in_by_turns),
        WORKER_TEST(held_calls_go_to_the_hosts_that_come_after),
        WORKER_TEST(a_drain_ends_in_time_and_says_that_calls_run),
    };

    return OPB_RUN(tests);
}
