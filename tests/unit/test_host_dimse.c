/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_host_dimse.c - C-FIND, worklists and C-MOVE in the host */
#include "tests/unit/host_fixture.h"

#include <stdio.h>
#include <string.h>

static void
run(const char *text)
{
    char script[4096];

    (void)snprintf(script, sizeof(script), "import orthanc, gc, os\n%s", text);
    test_host_run(&host, script);
    lane = test_host_lane(&host);
}

#define ANSWERS_HANDLE 101u
#define QUERY_HANDLE   102u

static int
find(uint32_t call, const char *issuer, size_t issuer_bytes)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, call, 4);
    opb_pack_uint(message, ANSWERS_HANDLE);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_str(message, issuer, issuer_bytes);
    opb_pack_cstr(message, "CALLED");
    return test_host_exchange(&host, lane, message, NULL);
}

static void
find_and_worklist_get_their_objects_and_the_two_aets(void **state)
{
    (void)state;
    run("def f(*args, **kw): orthanc.LogWarning(repr(([type(a).__name__ for a in "
        "args[:2]], "
        "args[2:], kw)))\n"
        "def g(*args): f(*args)\n"
        "orthanc.RegisterFindCallback(f)\n"
        "orthanc.RegisterWorklistCallback(g)\n");
    assert_int_equal(find(HOST_CALL(FIND), "ISSUER", 6), HOST_NO_FAULT);
    assert_true(test_host_logged(
        &host, "(['FindAnswers', 'FindQuery'], ('ISSUER', 'CALLED'), {})"));
    assert_int_equal(find(HOST_CALL(WORKLIST), "ISSUER", 6), HOST_NO_FAULT);
    assert_true(test_host_logged(
        &host, "(['WorklistAnswers', 'WorklistQuery'], ('ISSUER', 'CALLED'), {})"));
}

static void
find_that_raises_is_logged_and_its_objects_are_invalid_then(void **state)
{
    (void)state;
    run("kept = []\n"
        "def f(answers, query, issuer, called):\n"
        "    if kept:\n"
        "        for use in (kept[0].FindMarkIncomplete, kept[1].GetFindQuerySize):\n"
        "            try: use()\n"
        "            except ValueError as e: orthanc.LogWarning('stale: ' + repr(e))\n"
        "    kept[:] = [answers, query]\n"
        "    raise KeyError(issuer)\n"
        "orthanc.RegisterFindCallback(f)\n");
    assert_int_equal(find(HOST_CALL(FIND), "A", 1), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "LogError: Error in the Python C-FIND SCP callback, "
                                 "traceback:\n<class 'KeyError'>\n'A'\n"));
    assert_false(test_host_logged(&host, "stale"));
    assert_int_equal(find(HOST_CALL(FIND), "A", 1), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "stale: ValueError('Invalid object')\nLogWarning: "
                                        "stale: ValueError('Invalid object')"));
    assert_int_equal(find(HOST_CALL(FIND), "\xff", 1), OPB_FAULT_ENCODING);
    assert_int_equal(find(HOST_CALL(WORKLIST), "A", 1), OPB_FAULT_UNAVAILABLE);
}

/* A C-FIND whose query has facts: whatever pack packs. */
static int
find_told(void (*pack)(struct opb_message *message))
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(FIND), 4);
    opb_pack_uint(message, ANSWERS_HANDLE);
    pack(message);
    opb_pack_cstr(message, "ISSUER");
    opb_pack_cstr(message, "CALLED");
    return test_host_exchange(&host, lane, message, NULL);
}

static void
pack_facts(struct opb_message *message)
{
    opb_pack_array(message, 2);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_map(message, 2);
    opb_pack_uint(message, HOST_QUERY_SIZE);
    opb_pack_uint(message, 3);
    opb_pack_uint(message, HOST_QUERY_VALUE);
    opb_pack_array(message, 3);
    opb_pack_cstr(message, "told");
    opb_pack_nil(message);
    opb_pack_str(message, "\xff", 1);
}

static void
find_knows_what_was_told_about_its_query_until_it_has_returned(void **state)
{
    (void)state;
    run("kept = []\n"
        "def f(answers, query, issuer, called):\n"
        "    if kept:\n"
        "        for use in (kept[0].GetFindQuerySize, lambda: "
        "kept[0].GetFindQueryValue(0)):\n"
        "            try: use()\n"
        "            except ValueError as e: orthanc.LogWarning('stale: ' + repr(e))\n"
        "    kept[:] = [query]\n"
        "    orthanc.LogWarning(repr([query.GetFindQuerySize()] +\n"
        "        [query.GetFindQueryValue(i) for i in range(4)]))\n"
        "orthanc.RegisterFindCallback(f)\n");
    assert_int_equal(find_told(pack_facts), HOST_NO_FAULT);
    assert_true(test_host_logged(&host, "[3, 'told', 'asked', 'asked', 'asked']"));
    assert_false(test_host_logged(&host, "stale"));
    assert_int_equal(find(HOST_CALL(FIND), "A", 1), HOST_NO_FAULT); /* nothing was told */
    assert_true(test_host_logged(&host, "stale: ValueError('Invalid object')\nLogWarning: "
                                        "stale: ValueError('Invalid object')"));
    assert_true(test_host_logged(&host, "[42, 'asked', 'asked', 'asked', 'asked']"));
}

static void
pack_handle_alone(struct opb_message *message)
{
    opb_pack_array(message, 1);
    opb_pack_uint(message, QUERY_HANDLE);
}

static void
pack_one_too_many(struct opb_message *message)
{
    opb_pack_array(message, 3);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_map(message, 0);
    opb_pack_nil(message);
}

static void
pack_no_handle(struct opb_message *message)
{
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "handle");
    opb_pack_map(message, 0);
}

static void
pack_no_map(struct opb_message *message)
{
    opb_pack_array(message, 2);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_array(message, 2);
    opb_pack_uint(message, HOST_QUERY_SIZE);
    opb_pack_uint(message, 3);
}

static void
pack_wrong_value(struct opb_message *message)
{
    opb_pack_array(message, 2);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_map(message, 1);
    opb_pack_uint(message, HOST_QUERY_SIZE);
    opb_pack_cstr(message, "three");
}

static void
pack_no_function(struct opb_message *message)
{
    opb_pack_array(message, 2);
    opb_pack_uint(message, QUERY_HANDLE);
    opb_pack_map(message, 1);
    opb_pack_uint(message, 1000);
    opb_pack_uint(message, 3);
}

static void
malformed_facts_refuse_the_call(void **state)
{
    void (*const packs[])(struct opb_message *) = {pack_handle_alone, pack_one_too_many,
                                                   pack_no_handle,    pack_no_map,
                                                   pack_wrong_value,  pack_no_function};

    (void)state;
    run("def f(*args): orthanc.LogWarning('called')\n"
        "orthanc.RegisterFindCallback(f)\n");
    for (size_t i = 0; i < sizeof(packs) / sizeof(packs[0]); i++) {
        assert_int_equal(find_told(packs[i]), OPB_FAULT_PROTOCOL);
    }
    assert_false(test_host_logged(&host, "called"));
    assert_int_equal(find_told(pack_facts), HOST_NO_FAULT);
    assert_true(test_host_logged(&host, "called"));
}

static struct opb_message *
move_request(uint32_t call, const char *patient)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, call, 10);
    opb_pack_cstr(message, "STUDY");
    opb_pack_cstr(message, patient);
    opb_pack_nil(message);
    opb_pack_cstr(message, "1.2");
    opb_pack_nil(message);
    opb_pack_nil(message);
    opb_pack_cstr(message, "ORIGINATOR");
    opb_pack_cstr(message, "SOURCE");
    opb_pack_cstr(message, "TARGET");
    opb_pack_uint(message, 65535);
    return message;
}

static void
move_gets_keywords_in_order_and_empty_texts_for_nil(void **state)
{
    (void)state;
    run("def f(**kw): orthanc.LogWarning(repr(kw)); kw['PatientID'] == 'x' and bad\n"
        "orthanc.RegisterMoveCallback(f)\n");
    assert_int_equal(
        test_host_exchange(&host, lane, move_request(HOST_CALL(MOVE), "P"), NULL),
        HOST_NO_FAULT);
    assert_true(test_host_logged(
        &host, "{'Level': 'STUDY', 'PatientID': 'P', 'AccessionNumber': '', "
               "'StudyInstanceUID': '1.2', 'SeriesInstanceUID': '', 'SOPInstanceUID': '', "
               "'OriginatorAET': 'ORIGINATOR', 'SourceAET': 'SOURCE', 'TargetAET': "
               "'TARGET', 'OriginatorID': 65535}"));
    assert_int_equal(
        test_host_exchange(&host, lane, move_request(HOST_CALL(MOVE), "x"), NULL),
        OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "Error in the Python C-MOVE SCP callback (v1), "
                                        "traceback:\n<class 'NameError'>"));
}

/* Asks for a number. *number is 0 on a fault. */
static int
ask(struct opb_message *message, uint64_t *number)
{
    struct opb_frame *response = NULL;
    int outcome = test_host_ask(&host, lane, message, &response);

    *number = 0;
    if (outcome == HOST_NO_FAULT) {
        struct opb_reader reader;

        opb_frame_result(response, &reader);
        *number = opb_read_uint(&reader, UINT64_MAX);
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    }
    opb_frame_free(response);
    return outcome;
}

static uint64_t
create(const char *patient)
{
    uint64_t number;

    assert_int_equal(ask(move_request(HOST_CALL(MOVE2), patient), &number), HOST_NO_FAULT);
    assert_int_not_equal(number, 0);
    return number;
}

static int
use(uint32_t call, uint64_t number)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, call, 1);
    opb_pack_uint(message, number);
    return test_host_exchange(&host, lane, message, NULL);
}

static int
size_of(const char *value, uint64_t *size)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(MOVE_SIZE), 1);
    opb_pack_uint(message, create(value));
    return ask(message, size);
}

#define DRIVERS                                                                            \
    "class Driver:\n"                                                                      \
    "    def __init__(self, name): self.name = name\n"                                     \
    "    def __del__(self): orthanc.LogWarning('gone: ' + self.name)\n"                    \
    "def create(**kw): return Driver(kw['PatientID'])\n"                                   \
    "def size(driver): return eval(driver.name)\n"                                         \
    "def apply(driver): orthanc.LogWarning('apply: ' + driver.name)\n"                     \
    "def free(driver):\n"                                                                  \
    "    orthanc.LogWarning('free: ' + driver.name)\n"                                     \
    "    if driver.name == 'bad': raise KeyError(driver.name)\n"                           \
    "orthanc.RegisterMoveCallback2(create, size, apply, free)\n"

static void
drivers_live_from_create_to_free(void **state)
{
    uint64_t one;
    uint64_t two;

    (void)state;
    run(DRIVERS);
    one = create("one");
    two = create("two");
    assert_int_not_equal(one, two);
    assert_int_equal(use(HOST_CALL(MOVE_APPLY), two), HOST_NO_FAULT);
    assert_true(test_host_logged(&host, "apply: two"));
    assert_int_equal(use(HOST_CALL(MOVE_FREE), one), HOST_NO_FAULT);
    assert_true(test_host_logged(&host, "free: one\nLogWarning: gone: one"));
    assert_false(test_host_logged(&host, "gone: two"));
    assert_int_equal(use(HOST_CALL(MOVE_APPLY), one), OPB_FAULT_UNAVAILABLE);
    assert_int_equal(use(HOST_CALL(MOVE_FREE), one), OPB_FAULT_UNAVAILABLE);
    assert_int_equal(use(HOST_CALL(MOVE_FREE), two + 1), OPB_FAULT_UNAVAILABLE);
    assert_int_equal(use(HOST_CALL(MOVE_FREE), create("bad")), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "Error in the Python C-MOVE SCP callback (Free), "
                                        "traceback:\n<class 'KeyError'>\n'bad'\n"));
    assert_true(test_host_logged(&host, "gone: bad"));
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_true(test_host_logged(&host, "gone: two"));
}

static void
size_is_an_int_of_32_bits(void **state)
{
    uint64_t size;

    (void)state;
    run(DRIVERS);
    assert_int_equal(size_of("3", &size), HOST_NO_FAULT);
    assert_int_equal(size, 3);
    assert_int_equal(size_of("True", &size), HOST_NO_FAULT);
    assert_int_equal(size, 1);
    assert_int_equal(size_of("-1", &size), HOST_NO_FAULT);
    assert_int_equal(size, UINT32_MAX);
    assert_int_equal(size_of("None", &size), OPB_FAULT_RAISED);
    assert_int_equal(size_of("1.5", &size), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "LogError: The Python C-MOVE SCP callback "
                                        "(GetMoveSize) has not returned an int as "
                                        "expected"));
    assert_int_equal(size_of("2 ** 32", &size), OPB_FAULT_RAISED);
    assert_int_equal(size_of("-2 ** 31 - 1", &size), OPB_FAULT_RAISED);
    assert_int_equal(size_of("10 ** 30", &size), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "a number that does not fit in 32 bits"));
    assert_int_equal(size_of("1 / 0", &size), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "Error in the Python C-MOVE SCP callback (GetMoveSize), "
                                 "traceback:\n<class 'ZeroDivisionError'>"));
}

#define CONNECTION_HANDLE 103u

static void
newer_kinds_get_a_connection_for_the_time_of_the_call(void **state)
{
    struct opb_message *message;
    uint64_t number;

    (void)state;
    host.version = "1.12.10";
    run("def f(answers, query, connection): orthanc.LogWarning(type(connection).__name__)\n"
        "def create(*args, **kw):\n"
        "    orthanc.LogWarning(repr((type(args[0]).__name__, len(args), list(kw))))\n"
        "    return args[0]\n"
        "def size(connection):\n"
        "    try: connection.GetConnectionRemoteAet()\n"
        "    except ValueError as e: orthanc.LogWarning(repr(e))\n"
        "    return 4\n"
        "if hasattr(orthanc, 'RegisterFindCallback2'):\n"
        "    orthanc.RegisterFindCallback2(f)\n"
        "    orthanc.RegisterWorklistCallback2(f)\n"
        "    orthanc.RegisterMoveCallback3(create, size, size, size)\n"
        "else: orthanc.LogWarning('absent')\n");
    if (test_host_logged(&host, "absent")) {
        return; /* the SDK of this build is older */
    }
    for (int i = 0; i < 2; i++) {
        message = opb_message_new();
        opb_message_begin_request(message, i == 0 ? HOST_CALL(FIND2) : HOST_CALL(WORKLIST2),
                                  3);
        opb_pack_uint(message, ANSWERS_HANDLE);
        opb_pack_uint(message, QUERY_HANDLE);
        opb_pack_uint(message, CONNECTION_HANDLE);
        assert_int_equal(test_host_exchange(&host, lane, message, NULL), HOST_NO_FAULT);
    }
    assert_true(test_host_logged(
        &host, "LogWarning: DicomConnection\nLogWarning: DicomConnection"));
    message = opb_message_new();
    opb_message_begin_request(message, HOST_CALL(MOVE3), 9);
    opb_pack_uint(message, CONNECTION_HANDLE);
    for (int i = 0; i < 7; i++) {
        opb_pack_cstr(message, "text");
    }
    opb_pack_uint(message, 1);
    assert_int_equal(ask(message, &number), HOST_NO_FAULT);
    assert_true(test_host_logged(
        &host, "('DicomConnection', 1, ['Level', 'PatientID', 'AccessionNumber', "
               "'StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'TargetAET', "
               "'OriginatorID'])"));
    message = opb_message_new();
    opb_message_begin_request(message, HOST_CALL(MOVE_SIZE), 1);
    opb_pack_uint(message, number);
    assert_int_equal(ask(message, &number), HOST_NO_FAULT);
    assert_int_equal(number, 4);
    assert_true(test_host_logged(&host, "ValueError('Invalid object')"));
}

static void
malformed_calls_are_refused_and_make_no_driver(void **state)
{
    struct opb_message *message;

    (void)state;
    run(DRIVERS);
    message = opb_message_new();
    opb_message_begin_request(message, HOST_CALL(MOVE2), 1);
    opb_pack_cstr(message, "STUDY");
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);
    message = opb_message_new();
    opb_message_begin_request(message, HOST_CALL(MOVE_FREE), 1);
    opb_pack_cstr(message, "1");
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);
    message = opb_message_new();
    opb_message_begin_request(message, HOST_CALL(FIND), 4);
    opb_pack_uint(message, ANSWERS_HANDLE);
    opb_pack_cstr(message, "no handle");
    opb_pack_cstr(message, "A");
    opb_pack_cstr(message, "B");
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);
    assert_int_equal(
        test_host_exchange(&host, lane, move_request(HOST_CALL(MOVE2), "\xff"), NULL),
        OPB_FAULT_ENCODING);
    assert_false(test_host_logged(&host, "gone"));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        HOST_TEST(find_and_worklist_get_their_objects_and_the_two_aets),
        HOST_TEST(find_that_raises_is_logged_and_its_objects_are_invalid_then),
        HOST_TEST(find_knows_what_was_told_about_its_query_until_it_has_returned),
        HOST_TEST(malformed_facts_refuse_the_call),
        HOST_TEST(move_gets_keywords_in_order_and_empty_texts_for_nil),
        HOST_TEST(drivers_live_from_create_to_free),
        HOST_TEST(size_is_an_int_of_32_bits),
        HOST_TEST(newer_kinds_get_a_connection_for_the_time_of_the_call),
        HOST_TEST(malformed_calls_are_refused_and_make_no_driver),
    };

    return OPB_RUN(tests);
}
