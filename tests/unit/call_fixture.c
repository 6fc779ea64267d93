/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/call_fixture.c - see call_fixture.h */
#include "call_fixture.h"

#include "plugin/stack.h"

int
call_make_node(void **state)
{
    *state = fake_node_new();
    return 0;
}

int
call_free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

void
call_count_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct counted *counted = context;

    assert_non_null(session);
    assert_true(opb_stack_is_private());
    counted->packs++;
    opb_message_begin_request(message, OPB_CALL_CHANGE_INDEX, 1);
    opb_pack_uint(message, counted->packs);
}

void
call_count_finish(struct opb_session *session, void *context)
{
    struct counted *counted = context;

    assert_non_null(session);
    counted->finishes++;
}

enum opb_outcome
call_run(struct opb_node *node, struct counted *counted, uint64_t deadline_ms)
{
    const struct opb_call_io io = {
        .pack = call_count_pack, .finish = call_count_finish, .context = counted};

    return opb_call_run(node, OPB_CALL_CHANGE_INDEX, &io, "test call", deadline_ms);
}

void
call_answer_raised(struct opb_lane *lane, struct opb_frame *request,
                   struct opb_message *message)
{
    fake_answer_fault(lane, request, message, OPB_FAULT_RAISED, "ValueError");
}
