/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/events_fixture.c - see events_fixture.h */
#include "events_fixture.h"

#include "plugin/routes.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

#define MAX_SEEN 256u

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static char seen[MAX_SEEN][40]; /* "4 new-patient", in order of delivery */
static unsigned seen_count;

static sem_t hanging_go;
static atomic_bool is_over; /* the test: nobody hangs any more */

int
events_set_up(void **state)
{
    struct opb_node *node = fake_node_new();
    enum opb_fault fault;
    char text[256];

    seen_count = 0;
    assert_int_equal(sem_init(&hanging_go, 0, 0), 0);
    atomic_store(&is_over, false);
    assert_int_equal(
        opb_routes_add(node->routes, NULL, "Change", NULL, 0, &fault, text, sizeof(text)),
        OPB_OK);
    assert_int_equal(opb_events_new(&node->events, node), OPB_OK);
    assert_int_equal(opb_events_start(node->events), OPB_OK);
    *state = node;
    return 0;
}

int
events_tear_down(void **state)
{
    struct opb_node *node = *state;

    atomic_store(&is_over, true);
    events_let_return(1); /* after a test that has failed */
    opb_node_set_phase(node, OPB_PHASE_FINALIZING);
    opb_events_stop(node->events);
    opb_events_free(node->events);
    fake_node_free(node);
    assert_int_equal(sem_destroy(&hanging_go), 0);
    return 0;
}

void
events_note_text(const char *text)
{
    pthread_mutex_lock(&seen_lock);
    (void)snprintf(seen[seen_count++ % MAX_SEEN], sizeof(seen[0]), "%s", text);
    pthread_mutex_unlock(&seen_lock);
}

void
events_note(struct opb_frame *frame)
{
    struct opb_reader reader;
    int change;
    const char *id;
    char text[40];

    assert_int_equal(opb_frame_method(frame), OPB_CALL_CHANGE_INDEX);
    opb_frame_params(frame, &reader);
    change = (int)opb_read_int(&reader, 0, 1000);
    (void)opb_read_int(&reader, 0, 1000);
    id = opb_read_cstr(&reader, false);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    (void)snprintf(text, sizeof(text), "%d %s", change, id);
    events_note_text(text);
}

void
events_take(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    events_note(frame);
    fake_answer_nil(lane, frame, message);
}

void
events_hang(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    events_note(frame);
    while (sem_wait(&hanging_go) != 0) {
    }
    if (atomic_load(&is_over)) {
        events_let_return(1);
    }
    fake_answer_nil(lane, frame, message);
}

void
events_let_return(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(sem_post(&hanging_go), 0);
    }
}

void
events_push(OrthancPluginChangeType type, const char *id)
{
    assert_int_equal(opb_callback_change(type, OrthancPluginResourceType_Study, id),
                     OrthancPluginErrorCode_Success);
}

void
events_push_stop(void)
{
    assert_int_equal(opb_callback_change(OrthancPluginChangeType_OrthancStopped,
                                         OrthancPluginResourceType_None, NULL),
                     OrthancPluginErrorCode_Success);
}

void
events_expect(const char *const *expected, unsigned count)
{
    pthread_mutex_lock(&seen_lock);
    assert_int_equal(seen_count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_string_equal(seen[i], expected[i]);
    }
    pthread_mutex_unlock(&seen_lock);
}

struct awaited {
    struct opb_node *node;
    uint32_t queued;
};

static bool
are_queued(void *context)
{
    const struct awaited *awaited = context;
    struct opb_event_counts counts;

    opb_events_count(awaited->node->events, &counts);
    return counts.queued == awaited->queued;
}

void
events_await_queued(struct opb_node *node, uint32_t queued)
{
    struct awaited awaited = {.node = node, .queued = queued};

    opb_wait_until(are_queued, &awaited, 10000);
}
