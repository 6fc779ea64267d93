/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/invocation_fixture.c - see invocation_fixture.h */
#include "invocation_fixture.h"

#include "plugin/call.h"

#include <stdlib.h>

static void
serve_lane(void *context)
{
    struct invocation *fixture = context;

    if (atomic_load(&fixture->is_own)) {
        opb_call_mark_own_thread();
    }
    opb_call_serve_service_lane(fixture->session, fixture->far_lane);
    opb_lane_shutdown(fixture->far_lane);
}

void
sdk_serve(struct invocation *fixture)
{
    opb_make_lanes(&fixture->lane, &fixture->far_lane);
    fixture->thread = opb_thread_start(serve_lane, fixture);
}

void
sdk_serve_no_more(struct invocation *fixture)
{
    opb_lane_close(fixture->lane);
    opb_thread_join(fixture->thread);
    opb_lane_close(fixture->far_lane);
}

int
sdk_set_up(void **state)
{
    struct invocation *fixture = calloc(1, sizeof(*fixture));

    if (fixture == NULL) {
        return -1;
    }
    fixture->node = fake_node_new();
    fixture->message = opb_message_new();
    assert_int_equal(opb_session_new(&fixture->session, fixture->node, 1, 4242, 0), OPB_OK);
    atomic_store(&fixture->is_own, true);
    sdk_serve(fixture);
    *state = fixture;
    return 0;
}

int
sdk_tear_down(void **state)
{
    struct invocation *fixture = *state;

    sdk_serve_no_more(fixture);
    opb_message_free(fixture->message);
    opb_session_unref(fixture->session);
    fake_node_free(fixture->node);
    free(fixture);
    return 0;
}

void
sdk_begin(struct invocation *fixture, const char *name, uint32_t count)
{
    opb_message_begin_request(fixture->message, fake_method(name), count);
}

struct opb_frame *
sdk_finish(struct invocation *fixture)
{
    struct opb_frame *response = NULL;

    assert_int_equal(fake_sdk_call(fixture->lane, fixture->message, NULL, &response),
                     OPB_OK);
    return response;
}

struct opb_frame *
sdk_finish_well(struct invocation *fixture, struct opb_reader *result)
{
    struct opb_frame *response = sdk_finish(fixture);

    assert_false(opb_frame_fault(response, NULL, NULL, NULL));
    opb_frame_result(response, result);
    return response;
}

void
sdk_expect_fault(struct invocation *fixture, enum opb_fault fault, int32_t code,
                 const char *text)
{
    struct opb_frame *response = sdk_finish(fixture);
    enum opb_fault got_fault = OPB_FAULT_RAISED;
    const char *got_text = NULL;
    int32_t got_code = -99;

    assert_true(opb_frame_fault(response, &got_fault, &got_code, &got_text));
    assert_int_equal(got_fault, fault);
    assert_int_equal(got_code, code);
    assert_string_equal(got_text, text);
    opb_frame_free(response);
}

void
sdk_expect_nil(struct invocation *fixture)
{
    struct opb_reader reader;
    struct opb_frame *response = sdk_finish_well(fixture, &reader);

    assert_true(opb_read_is_nil(&reader));
    opb_frame_free(response);
}

uint64_t
sdk_expect_uint(struct invocation *fixture)
{
    struct opb_reader reader;
    struct opb_frame *response = sdk_finish_well(fixture, &reader);
    uint64_t value = opb_read_uint(&reader, UINT64_MAX);

    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    return value;
}

void
sdk_expect_bytes(struct invocation *fixture, const void *bytes, size_t size)
{
    struct opb_reader reader;
    struct opb_frame *response = sdk_finish_well(fixture, &reader);
    size_t got = 0;
    const void *data = opb_read_bytes(&reader, &got);

    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    assert_int_equal(got, size);
    assert_memory_equal(data, bytes, size);
    opb_frame_free(response);
}

OrthancPluginErrorCode
sdk_nothing(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_Success;
}
