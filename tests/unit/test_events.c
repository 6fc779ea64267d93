/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_events.c - the queue of change events */
#include "plugin_support.h"

#include "plugin/events.h"
#include "plugin/routes.h"

#include "protocol/sockets.h"

#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEEN 256u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define IS_SANITIZED true
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define IS_SANITIZED true
#    endif
#endif
#ifndef IS_SANITIZED
#    define IS_SANITIZED false
#endif

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static char seen[MAX_SEEN][40]; /* "4 new-patient", in order of delivery */
static unsigned seen_count;
static atomic_uint deaths_left;

static int
make_node(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    seen_count = 0;
    atomic_store(&deaths_left, 0);
    assert_int_equal(
        opb_routes_add(node->routes, NULL, "Change", NULL, 0, &fault, text, sizeof(text)),
        OPB_OK);
    assert_int_equal(opb_events_new(&node->events, node), OPB_OK);
    assert_int_equal(opb_events_start(node->events), OPB_OK);
    *state = node;
    return 0;
}

static int
free_node(void **state)
{
    struct opb_node *node = *state;

    opb_node_set_phase(node, OPB_PHASE_FINALIZING);
    opb_events_stop(node->events);
    opb_events_free(node->events);
    fake_node_free(node);
    return 0;
}

static void
note(struct opb_frame *frame)
{
    struct opb_reader reader;
    int change;
    const char *id;

    assert_int_equal(opb_frame_method(frame), OPB_CALL_CHANGE_INDEX);
    opb_frame_params(frame, &reader);
    change = (int)opb_read_int(&reader, 0, 1000);
    (void)opb_read_int(&reader, 0, 1000);
    id = opb_read_cstr(&reader, false);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    pthread_mutex_lock(&seen_lock);
    (void)snprintf(seen[seen_count++ % MAX_SEEN], sizeof(seen[0]), "%d %s", change, id);
    pthread_mutex_unlock(&seen_lock);
}

static void
take_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    note(frame);
    fake_answer_nil(lane, frame, message);
}

static void
take_event_slowly(struct opb_lane *lane, struct opb_frame *frame,
                  struct opb_message *message)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    take_event(lane, frame, message);
}

static void
raise_at_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    note(frame);
    fake_answer_fault(lane, frame, message, OPB_FAULT_RAISED, "ValueError");
}

static void
die_at_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    if (atomic_load(&deaths_left) == 0) {
        take_event(lane, frame, message);
        return;
    }
    note(frame);
    atomic_fetch_sub(&deaths_left, 1);
    fake_host_kill("was killed by signal 11 (Segmentation fault)");
    (void)fake_host_activate(opb_node_current());
}

static void
change(OrthancPluginChangeType type, const char *id)
{
    assert_int_equal(opb_callback_change(type, OrthancPluginResourceType_Study, id),
                     OrthancPluginErrorCode_Success);
}

static void
stop(void)
{
    assert_int_equal(opb_callback_change(OrthancPluginChangeType_OrthancStopped,
                                         OrthancPluginResourceType_None, NULL),
                     OrthancPluginErrorCode_Success);
}

static void
expect_seen(const char *const *expected, unsigned count)
{
    pthread_mutex_lock(&seen_lock);
    assert_int_equal(seen_count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(seen[i], expected[i]);
    }
    pthread_mutex_unlock(&seen_lock);
}

static void
events_come_in_order_and_stop_waits_for_them(void **state)
{
    static const char *const expected[] = {"10 ", "3 a", "5 b", "6 c", "11 "};
    struct opb_node *node = *state;

    fake_host_start(node, take_event_slowly);
    change(OrthancPluginChangeType_OrthancStarted, NULL);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    change(OrthancPluginChangeType_NewStudy, "c");
    assert_int_equal(opb_node_phase(node), OPB_PHASE_RUNNING);
    stop();
    expect_seen(expected, 5);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
    change(OrthancPluginChangeType_StableStudy, "late"); /* counted, not delivered */
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    expect_seen(expected, 5);
}

static void
event_whose_callback_raises_is_done(void **state)
{
    static const char *const expected[] = {"3 a", "5 b", "11 "};

    fake_host_start(*state, raise_at_event);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    stop();
    expect_seen(expected, 3);
}

static void
event_that_ends_a_host_goes_to_the_next_one(void **state)
{
    static const char *const expected[] = {"3 a", "3 a", "5 b", "11 "};

    atomic_store(&deaths_left, 1);
    fake_host_start(*state, die_at_event);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    stop();
    expect_seen(expected, 4);
    assert_true(fake_log_has("The event NEW_INSTANCE a is delivered once more"));
}

static void
event_that_ends_two_hosts_is_set_aside(void **state)
{
    static const char *const expected[] = {"3 a", "3 a", "5 b", "11 "};

    atomic_store(&deaths_left, 2);
    fake_host_start(*state, die_at_event);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    stop();
    expect_seen(expected, 4);
    assert_true(
        fake_log_has("The event NEW_INSTANCE a (resource type 1) has ended two hosts"));
}

static bool
has_complained(void *context)
{
    (void)context;
    return fake_log_has("no host was ready within Python.QueueTimeout");
}

static void
events_wait_for_a_host_that_comes_back(void **state)
{
    static const char *const expected[] = {"3 a", "11 "};

    change(OrthancPluginChangeType_NewInstance, "a");
    opb_wait_until(has_complained, NULL, 5000); /* nobody for a whole QueueTimeout */
    fake_host_start(*state, take_event);
    stop();
    expect_seen(expected, 2);
}

static void
stop_without_a_host_ends_after_queue_timeout(void **state)
{
    uint64_t before_ms = opb_clock_ms();

    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    stop();
    assert_true(opb_clock_ms() - before_ms < 3000);
    assert_int_equal(opb_node_phase(*state), OPB_PHASE_STOPPED);
    assert_true(fake_log_has("change events are dropped"));
}

static void
die_for_good(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    (void)lane;
    (void)message;
    note(frame);
    fake_host_kill("was killed by signal 9 (Killed)");
}

static void
stop_ends_when_the_host_dies_for_good(void **state)
{
    static const char *const expected[] = {"11 "};

    fake_host_start(*state, die_for_good);
    stop();
    expect_seen(expected, 1);
}

static void
without_a_handler_nothing_waits(void **state)
{
    struct opb_node *node = *state;
    uint64_t before_ms = opb_clock_ms();

    opb_routes_begin(node->routes, NULL);
    opb_routes_commit(node->routes, NULL);
    change(OrthancPluginChangeType_NewInstance, "a");
    stop();
    assert_true(opb_clock_ms() - before_ms < 200);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
}

static sem_t hanging_go;

/* The first event does not return until the test says so. */
static void
hang_at_event(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    note(frame);
    while (sem_wait(&hanging_go) != 0) {
    }
    fake_answer_nil(lane, frame, message);
}

/* Waits until so many events are in the queue. */
static void
await_queued(struct opb_node *node, uint32_t queued)
{
    uint64_t until_ms = opb_deadline_ms(10000);
    struct opb_event_counts counts;

    for (;;) {
        opb_events_count(node->events, &counts);
        if (counts.queued == queued || opb_clock_ms() >= until_ms) {
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(counts.queued, queued);
}

static void
change_often(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        change(OrthancPluginChangeType_NewInstance, "a");
    }
}

static void
a_full_queue_loses_events_and_says_so_once(void **state)
{
    struct opb_node *node = *state;
    struct opb_event_counts counts;

    node->config->max_events = 100;
    assert_int_equal(sem_init(&hanging_go, 0, 0), 0);
    fake_host_start(node, hang_at_event);
    change_often(1);
    await_queued(node, 0); /* it is with the host */
    change_often(100);
    assert_false(fake_log_has("A change event is lost"));
    change_often(50);
    opb_events_count(node->events, &counts);
    assert_int_equal(counts.queued, 100);
    assert_int_equal(counts.lost, 50);
    assert_int_equal(fake_log_count("A change event is lost, 1 since the start: 100 wait"),
                     1);
    assert_int_equal(fake_log_count("A change event is lost"), 1);
    for (unsigned i = 0; i < 49; i++) { /* one place, one event: that is no end of it */
        assert_int_equal(sem_post(&hanging_go), 0);
        await_queued(node, 99 - i);
    }
    change_often(60);
    assert_int_equal(fake_log_count("A change event is lost"), 1);
    assert_false(fake_log_has("There is room for change events again"));
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(sem_post(&hanging_go), 0);
    }
    await_queued(node, 50);
    change_often(51); /* 61 were lost until now */
    assert_true(fake_log_has("There is room for change events again; 61 were lost"));
    assert_int_equal(fake_log_count("A change event is lost"), 2);
    assert_true(fake_log_has("A change event is lost, 62 since the start"));
    fake_host_serve(take_event);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(sem_post(&hanging_go), 0);
    }
    await_queued(node, 0);
    stop();
    change(OrthancPluginChangeType_StableStudy, "late");
    opb_events_count(node->events, &counts);
    assert_int_equal(counts.late, 1);
    assert_int_equal(counts.lost, 62);
    assert_int_equal(sem_destroy(&hanging_go), 0);
}

/* Memory that this process has. */
static size_t
resident_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %zu", &pages), 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void
memory_of_a_long_queue_is_given_back(void **state)
{
    const unsigned many = 30000;
    struct opb_node *node = *state;
    size_t before;
    size_t full;

    node->config->max_events = 2 * many;
    assert_int_equal(sem_init(&hanging_go, 0, 0), 0);
    fake_host_start(node, hang_at_event);
    change_often(1);
    await_queued(node, 0); /* it is with the host */
    (void)malloc_trim(0);  /* what earlier tests have freed would serve again */
    before = resident_bytes();
    change_often(many);
    full = resident_bytes();
    for (unsigned i = 0; i < many; i++) {
        assert_int_equal(sem_post(&hanging_go), 0);
    }
    await_queued(node, 0);
    assert_int_equal(sem_post(&hanging_go), 0); /* for the last, and for the stop */
    assert_int_equal(sem_post(&hanging_go), 0);
    stop();
    if (!IS_SANITIZED) { /* whose allocator keeps what was freed */
        assert_true(full - before > many * 32u);
        assert_true(resident_bytes() < before + (full - before) / 4);
    }
    assert_int_equal(sem_destroy(&hanging_go), 0);
}

static void
of_many_lost_events_each_ten_thousandth_is_said(void **state)
{
    struct opb_node *node = *state;

    node->config->max_events = 10;
    assert_int_equal(sem_init(&hanging_go, 0, 0), 0);
    fake_host_start(node, hang_at_event);
    change_often(1);
    await_queued(node, 0);
    change_often(10 + 20001);
    assert_int_equal(fake_log_count("A change event is lost"), 3);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(sem_post(&hanging_go), 0);
    }
    stop();
    assert_int_equal(sem_destroy(&hanging_go), 0);
}

static void
stop_leaves_behind_a_callback_that_does_not_return(void **state)
{
    static const char *const expected[] = {"3 a"};
    struct opb_node *node = *state;
    uint64_t before_ms = opb_clock_ms();

    assert_int_equal(sem_init(&hanging_go, 0, 0), 0);
    node->config->stopped_timeout_ms = 300;
    fake_host_start(node, hang_at_event);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    stop();
    assert_in_range(opb_clock_ms() - before_ms, 300, 3000);
    assert_int_equal(opb_node_phase(node), OPB_PHASE_STOPPED);
    expect_seen(expected, 1);
    assert_true(fake_log_has("waited any longer for the on-change callback for "
                             "NEW_INSTANCE a"));
    assert_true(fake_log_has("Python.StoppedTimeout"));
    assert_int_equal(sem_post(&hanging_go), 0);
    opb_events_stop(node->events);
    expect_seen(expected, 1);
    assert_true(fake_log_has("2 change events are dropped: there was no time left"));
    assert_int_equal(sem_destroy(&hanging_go), 0);
}

#define NEXT_HOST 7000u

/* As take_event_slowly(), with "next" before what the second host sees. */
static void
take_in_two_hosts(struct opb_lane *lane, struct opb_frame *frame,
                  struct opb_message *message)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (fake_lane_host() == NEXT_HOST) {
        pthread_mutex_lock(&seen_lock);
        (void)snprintf(seen[seen_count++ % MAX_SEEN], sizeof(seen[0]), "next");
        pthread_mutex_unlock(&seen_lock);
    }
    take_event(lane, frame, message);
}

/* Begins the next generation; its session has a reference. */
static struct opb_session *
begin_next(struct opb_node *node, struct opb_session *old, uint64_t *number)
{
    struct opb_session *next = NULL;
    struct opb_switch change = {.old = old,
                                .next = &next,
                                .next_count = 1,
                                .old_listens = true,
                                .next_listens = true};

    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_true(opb_events_switch(node->events, &change, number));
    assert_ptr_equal(node->sessions[0], next);
    return next;
}

static void
end_next(struct opb_session *next)
{
    opb_session_end(next, "is no longer needed");
    opb_session_unref(next);
}

static void
the_old_generation_sees_its_end_before_the_next_one_begins(void **state)
{
    static const char *const expected[] = {"10 ", "3 a",  "5 b", "11 ",  "next",
                                           "10 ", "next", "6 c", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    change(OrthancPluginChangeType_OrthancStarted, NULL);
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    next = begin_next(node, node->sessions[0], &number);
    change(OrthancPluginChangeType_NewStudy, "c");
    assert_false(opb_events_wait_switch(node->events, number, opb_deadline_ms(1)));
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    stop();
    expect_seen(expected, 10);
    end_next(next);
}

static bool
has_seen(void *context)
{
    bool result;

    (void)context;
    pthread_mutex_lock(&seen_lock);
    result = seen_count > 0;
    pthread_mutex_unlock(&seen_lock);
    return result;
}

static void
events_of_a_generation_that_has_died_go_to_the_next_one(void **state)
{
    static const char *const expected[] = {"10 ", "next", "10 ", "next",
                                           "3 a", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    change(OrthancPluginChangeType_OrthancStarted, NULL);
    opb_wait_until(has_seen, NULL, 5000);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    old = opb_session_primary(node);
    fake_host_kill("was killed by signal 9 (Killed)");
    next = begin_next(node, old, &number);
    opb_session_unref(old);
    change(OrthancPluginChangeType_NewInstance, "a");
    stop();
    expect_seen(expected, 7);
    assert_true(fake_log_has("has ended before it was told ORTHANC_STOPPED"));
    end_next(next);
}

static void
before_orthanc_has_started_and_after_it_has_stopped_nobody_is_told(void **state)
{
    static const char *const expected[] = {"next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *late_next = NULL;
    struct opb_switch late = {.next = &late_next, .next_count = 1, .next_listens = true};
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    next = begin_next(node, node->sessions[0], &number);
    stop();
    expect_seen(expected, 2);
    assert_int_equal(opb_session_new(&late_next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_false(opb_events_switch(node->events, &late, &number));
    assert_ptr_equal(node->sessions[0], next);
    opb_session_unref(late_next);
    end_next(next);
}

static void
a_generation_that_has_died_does_not_take_over(void **state)
{
    struct opb_node *node = *state;
    struct opb_session *next = NULL;
    struct opb_switch change = {.next = &next, .next_count = 1, .next_listens = true};
    struct opb_session *current;
    uint64_t number = 0;

    fake_host_start(node, take_in_two_hosts);
    current = node->sessions[0];
    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    opb_session_end(next, "was killed");
    assert_false(opb_events_switch(node->events, &change, &number));
    assert_ptr_equal(node->sessions[0], current);
    opb_session_unref(next);
}

/* The old generation ends; there is no next one yet. */
static struct opb_session *
end_old(struct opb_node *node, uint64_t *number)
{
    struct opb_session *old = opb_session_primary(node);

    assert_true(opb_events_end_old(node->events, old, true, number));
    opb_sessions_withdraw(node, 1);
    return old;
}

static struct opb_session *
activate_next(struct opb_node *node)
{
    struct opb_session *next = NULL;

    assert_int_equal(opb_session_new(&next, node, NEXT_HOST, 4243, 0), OPB_OK);
    assert_true(opb_session_activate(next));
    return next;
}

static void
events_that_wait_when_the_old_generation_ends_are_for_the_next_one(void **state)
{
    static const char *const expected[] = {"10 ",  "11 ", "next", "10 ", "next", "3 a",
                                           "next", "5 b", "next", "6 c", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number;

    fake_host_start(node, take_in_two_hosts);
    change(OrthancPluginChangeType_OrthancStarted, NULL);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* that one is being taken */
    change(OrthancPluginChangeType_NewInstance, "a");
    change(OrthancPluginChangeType_NewSeries, "b");
    old = end_old(node, &number);
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    change(OrthancPluginChangeType_NewStudy, "c");
    next = activate_next(node);
    stop();
    expect_seen(expected, 12);
    opb_session_unref(old);
    end_next(next);
}

static void
a_start_is_told_once_however_many_generations_could_not_begin(void **state)
{
    static const char *const expected[] = {"10 ", "11 ", "next", "10 ", "next", "11 "};
    struct opb_node *node = *state;
    struct opb_session *next;
    struct opb_session *old;
    uint64_t number;
    uint64_t none = 7;

    fake_host_start(node, take_in_two_hosts);
    change(OrthancPluginChangeType_OrthancStarted, NULL);
    opb_wait_until(has_seen, NULL, 5000);
    old = end_old(node, &number);
    assert_true(opb_events_wait_switch(node->events, number, opb_deadline_ms(5000)));
    assert_true(opb_events_end_old(node->events, NULL, false, &none));
    assert_int_equal(none, 0); /* nobody to be waited for */
    next = activate_next(node);
    stop();
    expect_seen(expected, 6);
    opb_session_unref(old);
    end_next(next);
}

static void
an_old_generation_ends_no_more_when_orthanc_has_stopped(void **state)
{
    struct opb_node *node = *state;
    uint64_t number;

    fake_host_start(node, take_in_two_hosts);
    stop();
    assert_false(opb_events_end_old(node->events, node->sessions[0], true, &number));
    assert_int_equal(number, 0);
}

#define EVENT_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(events_come_in_order_and_stop_waits_for_them),
        EVENT_TEST(event_whose_callback_raises_is_done),
        EVENT_TEST(event_that_ends_a_host_goes_to_the_next_one),
        EVENT_TEST(event_that_ends_two_hosts_is_set_aside),
        EVENT_TEST(events_wait_for_a_host_that_comes_back),
        EVENT_TEST(stop_without_a_host_ends_after_queue_timeout),
        EVENT_TEST(stop_ends_when_the_host_dies_for_good),
        EVENT_TEST(without_a_handler_nothing_waits),
        EVENT_TEST(a_full_queue_loses_events_and_says_so_once),
        EVENT_TEST(memory_of_a_long_queue_is_given_back),
        EVENT_TEST(of_many_lost_events_each_ten_thousandth_is_said),
        EVENT_TEST(stop_leaves_behind_a_callback_that_does_not_return),
        EVENT_TEST(the_old_generation_sees_its_end_before_the_next_one_begins),
        EVENT_TEST(events_of_a_generation_that_has_died_go_to_the_next_one),
        EVENT_TEST(before_orthanc_has_started_and_after_it_has_stopped_nobody_is_told),
        EVENT_TEST(a_generation_that_has_died_does_not_take_over),
        EVENT_TEST(events_that_wait_when_the_old_generation_ends_are_for_the_next_one),
        EVENT_TEST(a_start_is_told_once_however_many_generations_could_not_begin),
        EVENT_TEST(an_old_generation_ends_no_more_when_orthanc_has_stopped),
    };

    return OPB_RUN(tests);
}
