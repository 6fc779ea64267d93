/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_facts.c - what is sent along with the handle of an object */
#include "plugin_support.h"

#include "plugin/facts.h"
#include "plugin/handles.h"
#include "plugin/kinds.h"

#include "protocol/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The query and the dictionary of these tests. */
static struct {
    uint32_t size;
    size_t text_bytes; /* of each value; 0: short ones */
    uint32_t bad;      /* index of the value that Orthanc cannot tell; UINT32_MAX: none */
} query;

enum {
    TAG_PATIENT = 0,  /* 0010,0020 LO */
    TAG_PRIVATE = 1,  /* 0009,1001 */
    TAG_SEQUENCE = 2, /* 0008,1110 SQ */
    TAG_UNKNOWN = 3,  /* 0008,ffff */
    TAG_STUDY = 4     /* 0008,1030 LO, and all after it */
};
static const struct {
    uint16_t group, element;
    const char *name;
} known[] = {{0x0010, 0x0020, "PatientID"},
             {0x0009, 0x1001, "Unknown Tag & Data"},
             {0x0008, 0x1110, "ReferencedStudySequence"},
             {0x0008, 0xffff, "Unknown Tag & Data"},
             {0x0008, 0x1030, "StudyDescription"}};

static size_t
place(uint32_t index)
{
    return index < TAG_STUDY ? index : TAG_STUDY;
}

static OrthancPluginErrorCode
query_size(const void *params)
{
    *((const _OrthancPluginFindOperation *)params)->resultUint32 = query.size;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
query_tag(const void *params)
{
    const _OrthancPluginFindOperation *operation = params;

    assert_ptr_equal(operation->query, &query);
    assert_true(operation->index < query.size);
    *operation->resultGroup = known[place(operation->index)].group;
    *operation->resultElement = known[place(operation->index)].element;
    return OrthancPluginErrorCode_Success;
}

static char *
long_text(void)
{
    char *text = malloc(query.text_bytes + 1);

    assert_non_null(text);
    memset(text, 'x', query.text_bytes);
    text[query.text_bytes] = '\0';
    return text;
}

static OrthancPluginErrorCode
query_name(const void *params)
{
    const _OrthancPluginFindOperation *operation = params;

    *operation->resultString = strdup(known[place(operation->index)].name);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
query_value(const void *params)
{
    const _OrthancPluginFindOperation *operation = params;
    char text[32];

    if (operation->index == query.bad) {
        return OrthancPluginErrorCode_BadParameterType;
    }
    (void)snprintf(text, sizeof(text), "value %u", operation->index);
    *operation->resultString = query.text_bytes > 0 ? long_text() : strdup(text);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
look_up(const void *params)
{
    const _OrthancPluginLookupDictionary *lookup = params;

    if (strcmp(lookup->name, "0010,0020") == 0 || strcmp(lookup->name, "0008,1030") == 0) {
        lookup->target->vr = OrthancPluginValueRepresentation_LO;
        return OrthancPluginErrorCode_Success;
    }
    assert_string_equal(lookup->name, "0008,1110"); /* the others would be logged */
    lookup->target->vr = OrthancPluginValueRepresentation_SQ;
    return OrthancPluginErrorCode_Success;
}

static int
make_node(void **state)
{
    *state = fake_node_new();
    fake_on(_OrthancPluginService_GetFindQuerySize, query_size);
    fake_on(_OrthancPluginService_GetFindQueryTag, query_tag);
    fake_on(_OrthancPluginService_GetFindQueryTagName, query_name);
    fake_on(_OrthancPluginService_GetFindQueryValue, query_value);
    fake_on(_OrthancPluginService_LookupDictionary, look_up);
    query.size = 6;
    query.text_bytes = 0;
    query.bad = UINT32_MAX;
    return 0;
}

static int
free_node(void **state)
{
    fake_node_free(*state);
    return 0;
}

/* Not used: the lanes of the session are not opened. */
static void
serve_nothing(struct opb_lane *lane, struct opb_frame *frame, struct opb_message *message)
{
    fake_answer_nil(lane, frame, message);
}

/* What was packed, as the host reads it. */
struct lent {
    uint64_t handle;
    struct opb_frame *frame;
    struct opb_reader facts; /* method, result, ... */
    bool has_facts;
};

static void
read_lent(struct lent *out, struct opb_message *message)
{
    struct opb_reader params;
    uint8_t *wire;
    size_t bytes = opb_flatten(message, &wire);

    assert_int_equal(opb_frame_decode(&out->frame, wire, bytes), OPB_OK);
    free(wire);
    opb_frame_params(out->frame, &params);
    out->has_facts = opb_read_is_array(&params);
    out->handle = fake_read_lent(&params, &out->facts);
    assert_int_equal(opb_reader_finish(&params), OPB_OK);
}

static void
lend(struct lent *out, struct opb_node *node, enum opb_class class_id, const void *object,
     bool is_stored)
{
    struct opb_message *message = opb_message_new();
    struct opb_session *session;
    uint64_t handle;

    fake_host_start(node, serve_nothing);
    session = fake_host_activate(node);
    assert_non_null(message);
    opb_message_begin_request(message, 1, 1);
    handle = is_stored ? opb_facts_lend_stored(message, session, object)
                       : opb_facts_lend(message, session, class_id, object);
    read_lent(out, message);
    assert_int_not_equal(handle, 0);
    assert_int_equal(out->handle, handle);
    opb_handle_end(opb_session_handles(session), handle);
    opb_message_free(message);
}

/* The next fact is that of a function. */
static void
expect_method(struct lent *lent, const char *name)
{
    assert_int_equal(opb_read_uint(&lent->facts, UINT32_MAX), fake_method(name));
}

static void
expect_numbers(struct lent *lent, const char *name, uint32_t count, bool is_group)
{
    struct opb_reader values;

    expect_method(lent, name);
    assert_int_equal(opb_read_array(&lent->facts, &values), count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(opb_read_uint(&values, UINT16_MAX),
                         is_group ? known[place(i)].group : known[place(i)].element);
    }
    assert_int_equal(opb_reader_finish(&values), OPB_OK);
}

static uint32_t
open_texts(struct lent *lent, const char *name, struct opb_reader *values)
{
    expect_method(lent, name);
    return opb_read_array(&lent->facts, values);
}

static void
query_is_told_with_its_tags_and_the_values_that_are_texts(void **state)
{
    static const char *const values[] = {"value 0", NULL, NULL, NULL, "value 4", "value 5"};
    struct opb_reader texts;
    struct lent lent;

    lend(&lent, *state, OPB_CLASS_FindQuery, &query, false);
    assert_true(lent.has_facts);
    expect_method(&lent, "FindQuery.GetFindQuerySize");
    assert_int_equal(opb_read_uint(&lent.facts, 100), 6);
    expect_numbers(&lent, "FindQuery.GetFindQueryTagGroup", 6, true);
    expect_numbers(&lent, "FindQuery.GetFindQueryTagElement", 6, false);
    assert_int_equal(open_texts(&lent, "FindQuery.GetFindQueryTagName", &texts), 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_string_equal(opb_read_cstr(&texts, false), known[place(i)].name);
    }
    assert_int_equal(open_texts(&lent, "FindQuery.GetFindQueryValue", &texts), 6);
    for (uint32_t i = 0; i < 6; i++) {
        const char *text = opb_read_cstr(&texts, true);

        if (values[i] == NULL) {
            assert_null(text);
        }
        else {
            assert_string_equal(text, values[i]);
        }
    }
    assert_int_equal(opb_reader_finish(&lent.facts), OPB_OK);
    assert_int_equal(fake_calls(_OrthancPluginService_GetFindQueryValue), 3);
    opb_frame_free(lent.frame);
}

static void
value_that_is_no_text_after_all_ends_the_values_of_its_query(void **state)
{
    struct opb_reader texts;
    struct lent lent;

    query.size = 20;
    query.bad = 6;
    lend(&lent, *state, OPB_CLASS_FindQuery, &query, false);
    for (int i = 0; i < 8; i++) {
        opb_read_skip(&lent.facts);
    }
    assert_int_equal(open_texts(&lent, "FindQuery.GetFindQueryValue", &texts), 20);
    for (uint32_t i = 0; i < 20; i++) {
        bool is_told = i == TAG_PATIENT || i == 4 || i == 5;

        assert_int_equal(opb_read_cstr(&texts, true) != NULL, is_told);
    }
    assert_int_equal(fake_calls(_OrthancPluginService_GetFindQueryValue), 4);
    opb_frame_free(lent.frame);
}

/* Gives how many tags are told of a query. */
static uint32_t
count_told(struct opb_node *node)
{
    struct opb_reader texts;
    struct lent lent;
    uint32_t count;

    lend(&lent, node, OPB_CLASS_FindQuery, &query, false);
    opb_read_skip(&lent.facts);
    assert_int_equal(opb_read_uint(&lent.facts, UINT32_MAX), query.size);
    for (int i = 0; i < 4; i++) {
        opb_read_skip(&lent.facts);
    }
    count = open_texts(&lent, "FindQuery.GetFindQueryTagName", &texts);
    assert_int_equal(open_texts(&lent, "FindQuery.GetFindQueryValue", &texts), count);
    assert_int_equal(opb_reader_finish(&lent.facts), OPB_OK);
    opb_frame_free(lent.frame);
    return count;
}

static void
no_more_tags_are_told_than_the_bound(void **state)
{
    query.size = 1000000;
    assert_int_equal(count_told(*state), OPB_FACT_TAGS);
    assert_int_equal(fake_calls(_OrthancPluginService_GetFindQueryTag), OPB_FACT_TAGS);
}

static void
no_more_bytes_are_told_than_the_bound(void **state)
{
    query.size = 30;
    query.text_bytes = OPB_FACT_BYTES / 20; /* beside names; three tags have no value */
    assert_int_equal(count_told(*state), 19 + 3);
}

static void
text_that_is_longer_than_all_may_be_is_not_told(void **state)
{
    query.size = 30;
    query.text_bytes = OPB_FACT_BYTES + 1;
    assert_int_equal(count_told(*state), 0);
}

static void
query_that_says_nothing_is_told_as_empty(void **state)
{
    fake_on(_OrthancPluginService_GetFindQueryTag, NULL); /* an error */
    assert_int_equal(count_told(*state), 0);
}

static OrthancPluginErrorCode
origin(const void *params)
{
    const _OrthancPluginAccessDicomInstance *access = params;

    assert_ptr_equal(access->instance, &query);
    *access->resultOrigin = OrthancPluginInstanceOrigin_DicomProtocol;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
remote_aet(const void *params)
{
    *((const _OrthancPluginAccessDicomInstance *)params)->resultString = "PEER";
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
instance_size(const void *params)
{
    *((const _OrthancPluginAccessDicomInstance *)params)->resultInt64 = 5000000000;
    return OrthancPluginErrorCode_Success;
}

static void
expect_instance(struct lent *lent)
{
    expect_method(lent, "DicomInstance.GetInstanceOrigin");
    assert_int_equal(opb_read_int(&lent->facts, 0, 10),
                     OrthancPluginInstanceOrigin_DicomProtocol);
    expect_method(lent, "DicomInstance.GetInstanceRemoteAet");
    assert_string_equal(opb_read_cstr(&lent->facts, false), "PEER");
}

static void
size_of_an_instance_is_told_only_if_it_costs_nothing(void **state)
{
    struct lent lent;

    fake_on(_OrthancPluginService_GetInstanceOrigin, origin);
    fake_on(_OrthancPluginService_GetInstanceRemoteAet, remote_aet);
    fake_on(_OrthancPluginService_GetInstanceSize, instance_size);
    lend(&lent, *state, OPB_CLASS_DicomInstance, &query, true);
    expect_instance(&lent);
    expect_method(&lent, "DicomInstance.GetInstanceSize");
    assert_int_equal(opb_read_int(&lent.facts, 0, INT64_MAX), 5000000000);
    assert_int_equal(opb_reader_finish(&lent.facts), OPB_OK);
    opb_frame_free(lent.frame);
}

static void
instance_that_is_not_stored_yet_is_not_written_for_its_size(void **state)
{
    struct lent lent;

    fake_on(_OrthancPluginService_GetInstanceOrigin, origin);
    fake_on(_OrthancPluginService_GetInstanceRemoteAet, remote_aet);
    fake_on(_OrthancPluginService_GetInstanceSize, instance_size);
    lend(&lent, *state, OPB_CLASS_DicomInstance, &query, false);
    expect_instance(&lent);
    assert_int_equal(opb_reader_finish(&lent.facts), OPB_OK);
    assert_int_equal(fake_calls(_OrthancPluginService_GetInstanceSize), 0);
    opb_frame_free(lent.frame);
}

#if OPB_SDK_HAS_CONNECTION
static OrthancPluginErrorCode
connection_aet(const void *params)
{
    *((const _OrthancPluginAccessDicomConnection *)params)->resultString = "REMOTE";
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
connection_called(const void *params)
{
    *((const _OrthancPluginAccessDicomConnection *)params)->resultString = "CALLED";
    return OrthancPluginErrorCode_Success;
}

static void
connection_is_told_with_both_aets_and_the_address(void **state)
{
    struct lent lent;

    fake_on(_OrthancPluginService_GetConnectionRemoteAet, connection_aet);
    fake_on(_OrthancPluginService_GetConnectionCalledAet, connection_called);
    lend(&lent, *state, OPB_CLASS_DicomConnection, &query, false);
    expect_method(&lent, "DicomConnection.GetConnectionRemoteAet");
    assert_string_equal(opb_read_cstr(&lent.facts, false), "REMOTE");
    expect_method(&lent, "DicomConnection.GetConnectionRemoteIp");
    assert_null(opb_read_cstr(&lent.facts, true)); /* an error is None in Python */
    expect_method(&lent, "DicomConnection.GetConnectionCalledAet");
    assert_string_equal(opb_read_cstr(&lent.facts, false), "CALLED");
    assert_int_equal(opb_reader_finish(&lent.facts), OPB_OK);
    opb_frame_free(lent.frame);
}
#endif

static void
object_without_constants_is_a_handle_alone(void **state)
{
    struct lent lent;

    lend(&lent, *state, OPB_CLASS_FindAnswers, &query, false);
    assert_false(lent.has_facts);
    opb_frame_free(lent.frame);
}

#define FACTS_TEST(function) cmocka_unit_test_setup_teardown(function, make_node, free_node)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FACTS_TEST(query_is_told_with_its_tags_and_the_values_that_are_texts),
        FACTS_TEST(value_that_is_no_text_after_all_ends_the_values_of_its_query),
        FACTS_TEST(no_more_tags_are_told_than_the_bound),
        FACTS_TEST(no_more_bytes_are_told_than_the_bound),
        FACTS_TEST(text_that_is_longer_than_all_may_be_is_not_told),
        FACTS_TEST(query_that_says_nothing_is_told_as_empty),
        FACTS_TEST(size_of_an_instance_is_told_only_if_it_costs_nothing),
        FACTS_TEST(instance_that_is_not_stored_yet_is_not_written_for_its_size),
#if OPB_SDK_HAS_CONNECTION
        FACTS_TEST(connection_is_told_with_both_aets_and_the_address),
#endif
        FACTS_TEST(object_without_constants_is_a_handle_alone),
    };

    return OPB_RUN(tests);
}
