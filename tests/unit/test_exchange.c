/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_exchange.c - nested calls: same threads, right answers, or no lane */
#include "tests/unit/support.h"

#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METHOD_COUNT_DOWN                                                                  \
    1u                 /* [n] -> how many calls were below; each end asks the other        \
                        */
#define METHOD_ADD  2u /* notification [n] */
#define METHOD_SUM  3u /* [] -> what the notifications brought */
#define METHOD_STOP 4u /* [] -> nil; the server's loop ends */

/* One end of a lane, with the kind of lock that the server and scripts hold. */
struct end {
    struct opb_lane *lane;
    pthread_mutex_t lock; /* recursive */
    pthread_t thread;     /* that all serving must happen on */
    uint64_t sum;
    uint32_t deepest;
    bool is_over;
};

static void
init_end(struct end *end, struct opb_lane *lane)
{
    pthread_mutexattr_t attributes;

    memset(end, 0, sizeof(*end));
    end->lane = lane;
    (void)pthread_mutexattr_init(&attributes); /* cannot fail on Linux, nor the next two */
    (void)pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&end->lock, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
}

static void
fini_end(struct end *end)
{
    (void)pthread_mutex_destroy(&end->lock);
}

static enum opb_status serve_end(void *context, struct opb_lane *lane,
                                 struct opb_frame *frame);

/* Asks the other end to count down from n. A fault gives OPB_REFUSED. */
static enum opb_status
ask_count_down(struct end *end, uint64_t n, uint64_t *result)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *response;
    struct opb_reader reader;
    enum opb_status status;

    *result = 0;
    opb_message_begin_request(message, METHOD_COUNT_DOWN, 1);
    opb_pack_uint(message, n);
    status =
        opb_exchange(end->lane, message, serve_end, end, opb_deadline_ms(30000), &response);
    opb_message_free(message);
    if (status != OPB_OK) {
        assert_null(response);
        return status;
    }
    if (opb_frame_fault(response, NULL, NULL, NULL)) {
        status = OPB_REFUSED;
    }
    else {
        opb_frame_result(response, &reader);
        *result = opb_read_uint(&reader, UINT32_MAX);
        status = opb_reader_finish(&reader);
    }
    opb_frame_free(response);
    return status;
}

static enum opb_status
answer_count_down(struct end *end, struct opb_frame *frame, uint64_t n)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status = OPB_OK;
    uint64_t below = 0;

    if (n > 0) {
        status = ask_count_down(end, n - 1, &below);
    }
    if (status == OPB_OK) {
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_uint(message, below + 1);
    }
    else {
        opb_message_error(message, opb_frame_msgid(frame), OPB_FAULT_RUNTIME, 0,
                          opb_status_text(status));
    }
    status = opb_lane_send(end->lane, message, OPB_FOREVER);
    opb_message_free(message);
    return status;
}

static enum opb_status
answer_number(struct end *end, struct opb_frame *frame, uint64_t number)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_uint(message, number);
    status = opb_lane_send(end->lane, message, OPB_FOREVER);
    opb_message_free(message);
    return status;
}

static enum opb_status
serve_end(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct end *end = context;
    struct opb_reader reader;
    enum opb_status status = OPB_OK;

    assert_ptr_equal(lane, end->lane);
    assert_true(pthread_equal(end->thread, pthread_self()));
    /* Held by this very thread further up the stack: another thread would hang here. */
    (void)pthread_mutex_lock(&end->lock);
    if (opb_lane_depth(lane) > end->deepest) {
        end->deepest = opb_lane_depth(lane);
    }
    opb_frame_params(frame, &reader);
    switch (opb_frame_method(frame)) {
    case METHOD_COUNT_DOWN:
        status = answer_count_down(end, frame, opb_read_uint(&reader, 1000));
        break;
    case METHOD_ADD:
        end->sum += opb_read_uint(&reader, UINT32_MAX);
        break;
    case METHOD_SUM:
        status = answer_number(end, frame, end->sum);
        break;
    case METHOD_STOP:
        end->is_over = true;
        status = answer_number(end, frame, 0);
        break;
    default:
        break;
    }
    (void)pthread_mutex_unlock(&end->lock);
    return status;
}

/* What a host's thread does: serve until told to stop, or until the lane fails. */
static void
run_server(void *context)
{
    struct end *end = context;

    end->thread = pthread_self();
    while (!end->is_over) {
        struct opb_frame *frame;

        if (opb_lane_receive(end->lane, &frame, OPB_FOREVER) != OPB_OK) {
            return;
        }
        if (serve_end(end, end->lane, frame) != OPB_OK) {
            end->is_over = true;
        }
        opb_frame_free(frame);
    }
}

/* A client on this thread, a server on another. */
struct pair {
    struct end client;
    struct end server;
    struct opb_thread *thread;
};

static int
start_pair(void **state)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    struct opb_lane *a;
    struct opb_lane *b;

    opb_make_lanes(&a, &b);
    init_end(&pair->client, a);
    init_end(&pair->server, b);
    pair->client.thread = pthread_self();
    pair->thread = opb_thread_start(run_server, &pair->server);
    *state = pair;
    return 0;
}

static int
stop_pair(void **state)
{
    struct pair *pair = *state;

    opb_lane_shutdown(pair->client.lane);
    opb_thread_join(pair->thread);
    opb_lane_close(pair->client.lane);
    opb_lane_close(pair->server.lane);
    fini_end(&pair->client);
    fini_end(&pair->server);
    free(pair);
    return 0;
}

static void
a_request_gets_its_response(void **state)
{
    struct pair *pair = *state;
    uint64_t result;

    for (int i = 0; i < 1000; i++) {
        assert_int_equal(ask_count_down(&pair->client, 0, &result), OPB_OK);
        assert_int_equal(result, 1);
    }
    assert_int_equal(opb_lane_depth(pair->client.lane), 0);
}

static void
nested_calls_run_on_the_waiting_threads_while_both_hold_recursive_locks(void **state)
{
    struct pair *pair = *state;
    uint64_t result;

    (void)pthread_mutex_lock(&pair->client.lock);
    assert_int_equal(ask_count_down(&pair->client, 21, &result), OPB_OK);
    (void)pthread_mutex_unlock(&pair->client.lock);
    assert_int_equal(result, 22);
    assert_int_equal(pair->client.deepest, 11);
    assert_int_equal(opb_lane_depth(pair->client.lane), 0);
}

static void
as_many_levels_as_the_limit_are_served_and_one_more_is_refused(void **state)
{
    struct pair *pair = *state;
    uint64_t result;

    /* The client asks first and every second time: its last request is the 127th. */
    assert_int_equal(ask_count_down(&pair->client, 2 * OPB_MAX_CALL_DEPTH - 1, &result),
                     OPB_OK);
    assert_int_equal(result, 2 * OPB_MAX_CALL_DEPTH);
    assert_int_equal(pair->client.deepest, OPB_MAX_CALL_DEPTH);
    assert_int_equal(ask_count_down(&pair->client, 2 * OPB_MAX_CALL_DEPTH, &result),
                     OPB_REFUSED);
    assert_int_equal(pair->client.deepest, OPB_MAX_CALL_DEPTH);
    /* Only that call failed. */
    assert_int_equal(opb_lane_status(pair->client.lane), OPB_OK);
    assert_int_equal(ask_count_down(&pair->client, 3, &result), OPB_OK);
    assert_int_equal(result, 4);
}

static void
notifications_are_served_in_order_before_the_request_behind_them(void **state)
{
    struct pair *pair = *state;
    struct opb_message *message = opb_message_new();
    struct opb_frame *response;
    struct opb_reader reader;

    for (uint32_t i = 1; i <= 100; i++) {
        opb_message_begin_notify(message, METHOD_ADD, 1);
        opb_pack_uint(message, i);
        assert_int_equal(opb_lane_post(pair->client.lane, message), OPB_OK);
    }
    opb_message_begin_request(message, METHOD_SUM, 0);
    assert_int_equal(opb_exchange(pair->client.lane, message, NULL, NULL,
                                  opb_deadline_ms(5000), &response),
                     OPB_OK);
    opb_frame_result(response, &reader);
    assert_int_equal(opb_read_uint(&reader, UINT32_MAX), 5050);
    opb_frame_free(response);
    opb_message_free(message);
}

static void
a_peer_that_dies_during_a_call_is_gone(void **state)
{
    struct pair *pair = *state;
    struct opb_message *message = opb_message_new();
    struct opb_frame *response;
    uint64_t result;

    opb_message_begin_request(message, METHOD_STOP, 0);
    assert_int_equal(
        opb_exchange(pair->client.lane, message, NULL, NULL, OPB_FOREVER, &response),
        OPB_OK);
    opb_frame_free(response);
    opb_message_free(message);
    opb_lane_shutdown(pair->server.lane);
    assert_int_equal(ask_count_down(&pair->client, 0, &result), OPB_GONE);
    assert_int_equal(ask_count_down(&pair->client, 0, &result), OPB_GONE);
    assert_int_equal(opb_lane_depth(pair->client.lane), 0);
}

/* A lane whose peer is the test itself, writing whatever bytes it likes. */
struct scripted {
    struct opb_lane *lane;
    struct opb_lane *peer;
    struct opb_message *message;
    struct opb_frame *response;
};

static int
make_scripted(void **state)
{
    struct scripted *scripted = calloc(1, sizeof(*scripted));

    opb_make_lanes(&scripted->lane, &scripted->peer);
    scripted->message = opb_message_new();
    *state = scripted;
    return 0;
}

static int
free_scripted(void **state)
{
    struct scripted *scripted = *state;

    opb_lane_close(scripted->lane);
    opb_lane_close(scripted->peer);
    opb_message_free(scripted->message);
    free(scripted);
    return 0;
}

/* The peer says this before we ask: the lane cannot tell, and the test needs no thread. */
static void
let_peer_respond(struct scripted *scripted, uint32_t msgid)
{
    opb_message_begin_response(scripted->message, msgid);
    opb_pack_uint(scripted->message, msgid);
    assert_int_equal(opb_lane_send(scripted->peer, scripted->message, OPB_FOREVER), OPB_OK);
}

static void
let_peer_request(struct scripted *scripted, uint32_t msgid, uint32_t method)
{
    opb_message_begin_request(scripted->message, method, 0);
    opb_message_set_msgid(scripted->message, msgid);
    assert_int_equal(opb_lane_send(scripted->peer, scripted->message, OPB_FOREVER), OPB_OK);
}

static enum opb_status
exchange(struct scripted *scripted, opb_serve_fn serve, void *context)
{
    opb_message_begin_request(scripted->message, 9, 0);
    return opb_exchange(scripted->lane, scripted->message, serve, context,
                        opb_deadline_ms(200), &scripted->response);
}

static void
a_response_to_another_request_fails_the_lane(void **state)
{
    struct scripted *scripted = *state;

    let_peer_respond(scripted, 1);
    assert_int_equal(exchange(scripted, NULL, NULL), OPB_OK); /* the first msgid is 1 */
    opb_frame_free(scripted->response);
    let_peer_respond(scripted, 1);
    assert_int_equal(exchange(scripted, NULL, NULL), OPB_BAD_FRAME);
    assert_null(scripted->response);
    assert_int_equal(opb_lane_status(scripted->lane), OPB_BAD_FRAME);
    assert_string_equal(opb_lane_failure(scripted->lane),
                        "the peer answered request 1 where the answer to 2 was due");
}

static void
a_request_where_none_may_come_fails_the_lane(void **state)
{
    struct scripted *scripted = *state;

    let_peer_request(scripted, 1, 33);
    assert_int_equal(exchange(scripted, NULL, NULL), OPB_BAD_FRAME);
    assert_string_equal(opb_lane_failure(scripted->lane),
                        "the peer sent method 33 where only a response may come");
}

static void
no_answer_by_the_deadline_is_late_and_the_lane_is_given_up(void **state)
{
    struct scripted *scripted = *state;
    uint64_t began_ms = opb_clock_ms();

    assert_int_equal(exchange(scripted, NULL, NULL), OPB_LATE);
    assert_in_range(opb_clock_ms() - began_ms, 199, 3000);
    assert_int_equal(opb_lane_status(scripted->lane), OPB_LATE);
}

static enum opb_status
serve_nothing(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    (void)context;
    (void)lane;
    (void)frame;
    return OPB_OK;
}

static void
let_peer_post(struct scripted *scripted)
{
    opb_message_begin_notify(scripted->message, METHOD_ADD, 0);
    assert_int_equal(opb_lane_send(scripted->peer, scripted->message, OPB_FOREVER), OPB_OK);
}

struct chatter {
    struct scripted *scripted;
    uint64_t until_ms;
};

/* The next post is there before this one has been served. */
static enum opb_status
serve_with_another_post(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct chatter *chatter = context;

    (void)lane;
    (void)frame;
    if (opb_clock_ms() < chatter->until_ms) {
        let_peer_post(chatter->scripted);
    }
    return OPB_OK;
}

static void
a_peer_that_posts_past_the_deadline_is_late_all_the_same(void **state)
{
    struct scripted *scripted = *state;
    struct chatter chatter = {.scripted = scripted, .until_ms = opb_deadline_ms(5000)};

    let_peer_post(scripted);
    assert_int_equal(exchange(scripted, serve_with_another_post, &chatter), OPB_LATE);
    assert_true(opb_clock_ms() < chatter.until_ms);
}

static void
a_request_that_is_not_answered_fails_the_lane(void **state)
{
    struct scripted *scripted = *state;

    let_peer_request(scripted, 5, 33);
    let_peer_respond(scripted, 1);
    assert_int_equal(exchange(scripted, serve_nothing, NULL), OPB_BAD_FRAME);
    assert_string_equal(opb_lane_failure(scripted->lane),
                        "this side gave no answer to method 33");
}

/* Sends the answers of a list one after the other; records what became of each. */
struct answers {
    uint32_t msgids[3];
    enum opb_status statuses[3];
    uint32_t count;
};

static enum opb_status
serve_answers(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct answers *answers = context;
    struct opb_message *message = opb_message_new();

    (void)frame;
    for (uint32_t i = 0; i < answers->count; i++) {
        opb_message_begin_response(message, answers->msgids[i]);
        opb_pack_nil(message);
        answers->statuses[i] = opb_lane_send(lane, message, OPB_FOREVER);
    }
    opb_message_free(message);
    return OPB_OK;
}

static void
a_request_is_answered_once_and_under_its_own_number(void **state)
{
    struct scripted *scripted = *state;
    struct answers answers = {.msgids = {6, 5, 5}, .count = 3};
    struct opb_frame *frame;

    let_peer_request(scripted, 5, 33);
    let_peer_respond(scripted, 1);
    assert_int_equal(exchange(scripted, serve_answers, &answers), OPB_OK);
    opb_frame_free(scripted->response);
    assert_int_equal(answers.statuses[0], OPB_BAD_FRAME);
    assert_int_equal(answers.statuses[1], OPB_OK);
    assert_int_equal(answers.statuses[2], OPB_BAD_FRAME);
    assert_int_equal(opb_lane_receive(scripted->peer, &frame, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_frame_type(frame), OPB_REQUEST);
    opb_frame_free(frame);
    assert_int_equal(opb_lane_receive(scripted->peer, &frame, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_frame_msgid(frame), 5);
    opb_frame_free(frame);
    assert_false(opb_lane_is_stale(scripted->peer));
}

static void
a_notification_is_not_answered(void **state)
{
    struct scripted *scripted = *state;
    struct answers answers = {.msgids = {0}, .count = 1};

    opb_message_begin_notify(scripted->message, 3, 0);
    assert_int_equal(opb_lane_send(scripted->peer, scripted->message, OPB_FOREVER), OPB_OK);
    let_peer_respond(scripted, 1);
    assert_int_equal(exchange(scripted, serve_answers, &answers), OPB_OK);
    opb_frame_free(scripted->response);
    assert_int_equal(answers.statuses[0], OPB_BAD_FRAME);
}

static enum opb_status
serve_stop(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    (void)context;
    (void)lane;
    (void)frame;
    return OPB_STOPPING;
}

static void
a_serve_function_ends_the_exchange_and_with_it_the_lane(void **state)
{
    struct scripted *scripted = *state;

    let_peer_request(scripted, 5, 33);
    assert_int_equal(exchange(scripted, serve_stop, NULL), OPB_STOPPING);
    assert_int_equal(opb_lane_status(scripted->lane), OPB_STOPPING);
    assert_int_equal(opb_lane_depth(scripted->lane), 0);
}

static void
a_message_that_is_no_good_request_leaves_the_lane_alone(void **state)
{
    struct scripted *scripted = *state;

    opb_message_begin_notify(scripted->message, 1, 0);
    assert_int_equal(opb_exchange(scripted->lane, scripted->message, NULL, NULL,
                                  OPB_FOREVER, &scripted->response),
                     OPB_BAD_FRAME);
    opb_message_begin_request(scripted->message, 1, 1);
    assert_int_equal(opb_exchange(scripted->lane, scripted->message, NULL, NULL,
                                  OPB_FOREVER, &scripted->response),
                     OPB_BAD_FRAME);
    assert_int_equal(opb_lane_status(scripted->lane), OPB_OK);
    assert_false(opb_lane_is_stale(scripted->peer));
}

static void
a_peer_that_leaves_without_answering_is_gone(void **state)
{
    struct scripted *scripted = *state;

    if (!opb_lane_has_memory(scripted->lane)) {
        let_peer_request(scripted, 5, 33); /* in memory it would still be read */
    }
    opb_lane_shutdown(scripted->peer);
    assert_int_equal(exchange(scripted, serve_nothing, NULL), OPB_GONE);
}

#define WITH_PAIR(function) cmocka_unit_test_setup_teardown(function, start_pair, stop_pair)
#define WITH_SCRIPTED(function)                                                            \
    cmocka_unit_test_setup_teardown(function, make_scripted, free_scripted)

int
main(void)
{
    const struct CMUnitTest exchange_tests[] = {
        WITH_PAIR(a_request_gets_its_response),
        WITH_PAIR(nested_calls_run_on_the_waiting_threads_while_both_hold_recursive_locks),
        WITH_PAIR(as_many_levels_as_the_limit_are_served_and_one_more_is_refused),
        WITH_PAIR(notifications_are_served_in_order_before_the_request_behind_them),
        WITH_PAIR(a_peer_that_dies_during_a_call_is_gone),
        WITH_SCRIPTED(a_response_to_another_request_fails_the_lane),
        WITH_SCRIPTED(a_request_where_none_may_come_fails_the_lane),
        WITH_SCRIPTED(no_answer_by_the_deadline_is_late_and_the_lane_is_given_up),
        WITH_SCRIPTED(a_peer_that_posts_past_the_deadline_is_late_all_the_same),
        WITH_SCRIPTED(a_request_that_is_not_answered_fails_the_lane),
        WITH_SCRIPTED(a_request_is_answered_once_and_under_its_own_number),
        WITH_SCRIPTED(a_notification_is_not_answered),
        WITH_SCRIPTED(a_serve_function_ends_the_exchange_and_with_it_the_lane),
        WITH_SCRIPTED(a_message_that_is_no_good_request_leaves_the_lane_alone),
        WITH_SCRIPTED(a_peer_that_leaves_without_answering_is_gone),
    };

    return OPB_RUN(exchange_tests);
}
