/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_host_ingest.c - received instances, C-STORE, storage area and storage
 * commitment in the host */
#include "tests/unit/host_fixture.h"

#include <orthanc/OrthancCPlugin.h>

#include <stdio.h>
#include <string.h>

/* The last result. */
static struct {
    bool is_nil;
    bool is_pair;
    bool has_bytes;
    int64_t number;
    char bytes[64];
    size_t size;
} result;

static void
run(const char *text)
{
    char script[4096];

    (void)snprintf(script, sizeof(script), "import orthanc, os\n%s", text);
    test_host_run(&host, script);
    lane = test_host_lane(&host);
}

static void
keep_bytes(struct opb_reader *reader)
{
    const void *bytes = opb_read_bytes(reader, &result.size);

    result.has_bytes = true;
    memcpy(result.bytes, bytes,
           result.size < sizeof(result.bytes) ? result.size : sizeof(result.bytes));
}

enum shape { NUMBER, BYTES, PAIR, NONE };

static int
ask(struct opb_message *request, enum shape shape)
{
    struct opb_frame *response = NULL;
    struct opb_reader reader;
    struct opb_reader pair;
    int fault;

    memset(&result, 0, sizeof(result));
    fault = test_host_ask(&host, lane, request, &response);
    if (fault == HOST_NO_FAULT) {
        opb_frame_result(response, &reader);
        result.is_nil = opb_read_is_nil(&reader);
        if (result.is_nil) {
            opb_read_skip(&reader);
        }
        else if (shape == NUMBER) {
            result.number = opb_read_int(&reader, INT64_MIN, INT64_MAX);
        }
        else if (shape == BYTES) {
            keep_bytes(&reader);
        }
        else if (shape == PAIR) {
            assert_int_equal(opb_read_array(&reader, &pair), 2);
            result.number = opb_read_int(&pair, INT64_MIN, INT64_MAX);
            if (opb_read_is_nil(&pair)) {
                opb_read_skip(&pair);
            }
            else {
                keep_bytes(&pair);
            }
            assert_int_equal(opb_reader_finish(&pair), OPB_OK);
        }
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    }
    opb_frame_free(response);
    return fault;
}

static int
received(const void *dicom, size_t size)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(RECEIVED_INSTANCE), 2);
    opb_pack_bytes(message, dicom, size);
    opb_pack_int(message, 3);
    return ask(message, PAIR);
}

static void
received_instance_keeps_what_means_nothing(void **state)
{
    static const struct {
        const char *dicom; /* what the function returns, as text */
        int64_t action;
        const char *bytes; /* NULL: nil */
    } cases[] = {{"(1, b'x')", 1, NULL},      {"(True, None)", 1, NULL},
                 {"(3, b'x')", 3, NULL},      {"(2, b'x')", 2, "x"},
                 {"(2, b'')", 2, ""},         {"(77, b'x')", 77, "x"},
                 {"(2 ** 80, b'x')", 0, "x"}, {"(2, None)", 2, NULL},
                 {"(2, 'x')", 2, NULL},       {"(2, bytearray(b'x'))", 2, NULL},
                 {"[3, None]", 1, NULL},      {"3", 1, NULL},
                 {"None", 1, NULL},           {"(3,)", 1, NULL},
                 {"('3', None)", 1, NULL},    {"(3.0, None)", 1, NULL}};

    (void)state;
    run("def f(dicom, origin):\n"
        "    assert type(dicom) is bytes and type(origin) is int and origin == 3\n"
        "    return eval(dicom)\n"
        "orthanc.RegisterReceivedInstanceCallback(f)\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(received(cases[i].dicom, strlen(cases[i].dicom)), HOST_NO_FAULT);
        assert_int_equal(result.number, cases[i].action);
        assert_int_equal(result.has_bytes, cases[i].bytes != NULL);
        if (cases[i].bytes != NULL) {
            assert_int_equal(result.size, strlen(cases[i].bytes));
        }
    }
    assert_true(test_host_logged(&host, "LogError: The Python received instance callback "
                                        "has not returned a tuple as expected\n"));
    assert_true(test_host_logged(&host,
                                 "LogError: The Python received instance callback has not "
                                 "returned an int as the first element of the return "
                                 "tuple\n"));
    assert_true(test_host_logged(&host, "LogError: Cannot access the byte buffer returned "
                                        "by the Python received instance callback\n"));
    assert_int_equal(received("1 / 0", 5), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "LogError: Error in the Python received instance "
                                        "callback, traceback:\n"
                                        "<class 'ZeroDivisionError'>\ndivision by zero\n"));
}

static void
large_instance_is_given_back_whole(void **state)
{
    static char dicom[500000];

    (void)state;
    memset(dicom, 'd', sizeof(dicom));
    run("orthanc.RegisterReceivedInstanceCallback(lambda dicom, origin: (2, dicom))\n");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(received(dicom, sizeof(dicom)), HOST_NO_FAULT);
        assert_int_equal(result.size, sizeof(dicom));
        assert_memory_equal(result.bytes, "ddd", 3);
    }
}

static int
cstore(void)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(CSTORE_FILTER), 1);
    opb_pack_uint(message, HOST_INSTANCE_HANDLE);
    return ask(message, NUMBER);
}

static void
cstore_filter_returns_a_status_or_is_refused(void **state)
{
    static const int statuses[] = {0, 0, 1, 65535, 0xa800};

    (void)state;
    run("class Index:\n"
        "    def __index__(self): return 0xa800\n"
        "results = [0, False, True, 65535, Index(), 65536, -1, 2 ** 70, 0.5, 0j, None, "
        "'0', "
        "[0]]\n"
        "kept = []\n"
        "def f(instance):\n"
        "    assert type(instance) is orthanc.DicomInstance\n"
        "    kept.append(instance)\n"
        "    return results.pop(0)\n"
        "orthanc.RegisterIncomingCStoreInstanceFilter(f)\n");
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        assert_int_equal(cstore(), HOST_NO_FAULT);
        assert_int_equal(result.number, statuses[i]);
    }
    assert_string_equal(host.log, "");
    for (int i = 0; i < 9; i++) { /* the last one finds no result: IndexError */
        assert_int_equal(cstore(), OPB_FAULT_RAISED);
    }
    assert_true(test_host_logged(
        &host, "LogError: The Python incoming-cstore-instance filter has returned an "
               "out-of-range DIMSE status: 65536\n"
               "LogError: The Python incoming-cstore-instance filter has returned a "
               "negative value\n"));
    assert_true(test_host_logged(
        &host, "LogError: The Python incoming-cstore-instance filter has not returned an "
               "integer\nLogError: Error in the Python incoming-cstore-instance callback, "
               "traceback:\n<class 'IndexError'>\n"));
}

static struct opb_message *
file_request(uint32_t call, uint32_t count, const char *uuid)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, call, count);
    opb_pack_cstr(message, uuid);
    opb_pack_int(message, 1);
    return message;
}

static int
create(const char *uuid)
{
    struct opb_message *message = file_request(HOST_CALL(STORAGE_CREATE), 3, uuid);

    opb_pack_bytes(message, "content", 7);
    return ask(message, NONE);
}

static void
storage_area_creates_reads_and_removes(void **state)
{
    (void)state;
    run("files = {}\n"
        "def create(uuid, kind, data):\n"
        "    assert type(data) is bytes\n"
        "    files[uuid, kind] = data\n"
        "    return 'ignored'\n"
        "def remove(uuid, kind):\n"
        "    del files[uuid, kind]\n"
        "orthanc.RegisterStorageArea(create, lambda uuid, kind: files[uuid, kind], "
        "remove)\n");
    assert_int_equal(create("a"), HOST_NO_FAULT);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 2, "a"), BYTES),
                     HOST_NO_FAULT);
    assert_int_equal(result.size, 7);
    assert_memory_equal(result.bytes, "content", 7);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_REMOVE), 2, "a"), NONE),
                     HOST_NO_FAULT);
    assert_true(result.is_nil);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_REMOVE), 2, "a"), NONE),
                     OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageRemove callback, traceback:\n"));
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 2, "a"), BYTES),
                     OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageRead callback, traceback:\n"
               "<class 'KeyError'>\n('a', 1)\n"));
    assert_int_equal(create("\xff"), OPB_FAULT_ENCODING);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 3, "a"), BYTES),
                     1000 + OPB_BAD_FRAME); /* one parameter is missing */
}

static void
storage_read_gives_bytes_and_nothing_else(void **state)
{
    (void)state;
    run("orthanc.RegisterStorageArea(1, lambda uuid, kind: eval(uuid), 3)\n");
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 2, "b''"), BYTES),
                     HOST_NO_FAULT);
    assert_int_equal(result.size, 0);
    assert_true(result.has_bytes);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 2, "'text'"), BYTES),
                     OPB_FAULT_RAISED);
    assert_int_equal(ask(file_request(HOST_CALL(STORAGE_READ), 2, "None"), BYTES),
                     OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "LogError: The Python StorageRead callback has not "
                                        "returned a byte array as expected\n"));
    assert_int_equal(create("a"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageCreate callback, traceback:\n"
               "<class 'TypeError'>\n'int' object is not callable\n"));
}

#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 8)

/* The uuid is the text of what the function returns. */
static int
create3(const char *uuid, uint64_t instance)
{
    struct opb_message *message = file_request(HOST_CALL(STORAGE_CREATE3), 5, uuid);

    opb_pack_int(message, 4);
    opb_pack_bytes(message, "content", 7);
    opb_pack_uint(message, instance);
    return ask(message, PAIR);
}

static int
read3(const char *uuid)
{
    struct opb_message *message = file_request(HOST_CALL(STORAGE_READ3), 5, uuid);

    opb_pack_uint(message, 5000000000u);
    opb_pack_uint(message, 3);
    opb_pack_bytes(message, "", 0);
    return ask(message, PAIR);
}

static int
remove3(const char *uuid)
{
    struct opb_message *message = file_request(HOST_CALL(STORAGE_REMOVE3), 3, uuid);

    opb_pack_bytes(message, "custom", 6);
    return ask(message, NUMBER);
}

static void
run_area3(void)
{
    host.version = "1.12.10";
    run("kept = []\n"
        "def stale(instance):\n"
        "    try: return instance.GetInstanceSize()\n"
        "    except ValueError as e: return str(e)\n"
        "def create(uuid, kind, compression, content, instance):\n"
        "    assert (kind, compression, content) == (1, 4, b'content')\n"
        "    assert type(instance) is orthanc.DicomInstance\n"
        "    kept.append(instance)\n"
        "    return eval(uuid, globals(), locals())\n"
        "def read(uuid, kind, start, size, custom):\n"
        "    assert (start, size, custom) == (5000000000, 3, b'')\n"
        "    return eval(uuid)\n"
        "def remove(uuid, kind, custom):\n"
        "    assert custom == b'custom'\n"
        "    return eval(uuid)\n"
        "orthanc.RegisterStorageArea3(create, read, remove)\n");
}

static void
storage_create3_returns_a_code_and_custom_data(void **state)
{
    (void)state;
    run_area3();
    assert_int_equal(create3("(0, b'x')", HOST_INSTANCE_HANDLE), HOST_NO_FAULT);
    assert_int_equal(result.number, 0);
    assert_int_equal(result.size, 1);
    assert_int_equal(create3("(0, None)", HOST_INSTANCE_HANDLE), HOST_NO_FAULT);
    assert_false(result.has_bytes);
    assert_int_equal(create3("(0, b'')", HOST_INSTANCE_HANDLE), HOST_NO_FAULT);
    assert_int_equal(result.size, 0);
    assert_int_equal(create3("(17, b'x')", HOST_INSTANCE_HANDLE), HOST_NO_FAULT);
    assert_int_equal(result.number, 17);
    assert_false(result.has_bytes);
    assert_int_equal(create3("(2 ** 40, None)", HOST_INSTANCE_HANDLE), HOST_NO_FAULT);
    assert_int_equal(result.number, 1);
    assert_true(test_host_logged(
        &host, "LogError: The Python StorageCreate2 callback returned: 17\n"));
    assert_int_equal(create3("0, stale(kept[0]).encode()", HOST_INSTANCE_HANDLE),
                     HOST_NO_FAULT);
    assert_memory_equal(result.bytes, "Invalid object", 14);
    assert_int_equal(create3("0, stale(instance).encode()", 0), HOST_NO_FAULT);
    assert_memory_equal(result.bytes, "Invalid object", 14);
}

static void
storage_create3_that_returns_nonsense_fails(void **state)
{
    (void)state;
    run_area3();
    assert_int_equal(create3("[0, None]", 0), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "LogError: The Python StorageCreate2 callback has "
                                        "not returned a tuple as expected\n"));
    assert_int_equal(create3("('0', None)", 0), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "callback has not returned an int as the first element of "
                                 "the return tuple\n"));
    assert_int_equal(create3("(0, bytearray(b'x'))", 0), OPB_FAULT_RAISED);
    assert_int_equal(create3("(0, 'x')", 0), OPB_FAULT_RAISED);
    assert_int_equal(create3("(17, 'x')", 0), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "callback has not returned a byte array as the second "
                                 "element of the return tuple\n"));
    assert_int_equal(create3("1 / 0", 0), OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageCreate2 callback, traceback:\n"));
}

static void
storage_read3_and_remove3_return_codes(void **state)
{
    (void)state;
    run_area3();
    assert_int_equal(read3("(0, b'abc')"), HOST_NO_FAULT);
    assert_int_equal(result.size, 3);
    assert_int_equal(read3("(17, None)"), HOST_NO_FAULT);
    assert_int_equal(result.number, 17);
    assert_int_equal(read3("(0, None)"), OPB_FAULT_RAISED);
    assert_int_equal(read3("b'abc'"), OPB_FAULT_RAISED);
    assert_int_equal(read3("1 / 0"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageReadRange2 callback, traceback:\n"));
    assert_int_equal(remove3("False"), HOST_NO_FAULT);
    assert_int_equal(result.number, 0);
    assert_int_equal(remove3("9"), HOST_NO_FAULT);
    assert_int_equal(result.number, 9);
    assert_int_equal(remove3("None"), OPB_FAULT_RAISED);
    assert_int_equal(remove3("1 / 0"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host, "LogError: Error in the Python StorageRemove2 callback, traceback:\n"));
}

#endif

static struct opb_message *
commitment_request(uint32_t call, uint32_t count)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, call, count);
    opb_pack_cstr(message, "job");
    opb_pack_cstr(message, "transaction");
    opb_pack_array(message, 1);
    opb_pack_cstr(message, "class");
    opb_pack_array(message, 1);
    opb_pack_cstr(message, "instance");
    return message;
}

static int
commitment(const char *remote)
{
    struct opb_message *message = commitment_request(HOST_CALL(COMMITMENT), 6);

    opb_pack_cstr(message, remote);
    opb_pack_cstr(message, "CALLED");
    return ask(message, NUMBER);
}

static int
look_up(const char *class_uid, int64_t driver)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(COMMITMENT_LOOKUP), 3);
    opb_pack_cstr(message, class_uid);
    opb_pack_cstr(message, "instance");
    opb_pack_int(message, driver);
    return ask(message, NUMBER);
}

static int
free_driver(int64_t driver)
{
    struct opb_message *message = opb_message_new();

    opb_message_begin_request(message, HOST_CALL(COMMITMENT_FREE), 1);
    opb_pack_int(message, driver);
    return ask(message, NONE);
}

#define COMMITMENT_SCRIPT                                                                  \
    "class Driver:\n"                                                                      \
    "    def __del__(self): os.write(1, b'gone\\n')\n"                                     \
    "def scp(*args):\n"                                                                    \
    "    orthanc.LogWarning(repr(args))\n"                                                 \
    "    if args[4] == 'BAD': raise KeyError('bad')\n"                                     \
    "    return Driver()\n"                                                                \
    "def lookup(class_uid, instance_uid, driver):\n"                                       \
    "    assert type(driver) is Driver and instance_uid == 'instance'\n"                   \
    "    return eval(class_uid)\n"

static void
commitment_keeps_its_driver_until_it_is_freed(void **state)
{
    int64_t driver;

    (void)state;
    run(COMMITMENT_SCRIPT "orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)\n");
    assert_int_equal(commitment("REMOTE"), HOST_NO_FAULT);
    driver = result.number;
    assert_true(test_host_logged(&host, "LogWarning: ('job', 'transaction', ['class'], "
                                        "['instance'], 'REMOTE', 'CALLED')\n"));
    assert_int_equal(look_up("5", driver), HOST_NO_FAULT);
    assert_int_equal(result.number, 5);
    assert_int_equal(look_up("True", driver), HOST_NO_FAULT);
    assert_int_equal(result.number, 1);
    assert_int_equal(look_up("2 ** 70", driver), HOST_NO_FAULT);
    assert_int_equal(result.number, INT32_MAX);
    assert_int_equal(look_up("'0'", driver), HOST_NO_FAULT);
    assert_true(result.is_nil);
    assert_true(test_host_logged(&host, "LogError: The Python storage commitment Lookup "
                                        "callback has not returned an int as the return "
                                        "value\n"));
    assert_int_equal(look_up("1 / 0", driver), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "LogError: Error in the Python storage commitment Lookup "
                                 "callback, traceback:\n<class 'ZeroDivisionError'>\n"));
    assert_int_equal(look_up("0", driver + 1), OPB_FAULT_INVALID_OBJECT);
    assert_int_equal(free_driver(driver), HOST_NO_FAULT);
    test_host_await_output(&host, "gone");
    assert_int_equal(look_up("0", driver), OPB_FAULT_INVALID_OBJECT);
    assert_int_equal(free_driver(driver), HOST_NO_FAULT);
}

static void
commitment_that_raises_has_no_driver(void **state)
{
    (void)state;
    run(COMMITMENT_SCRIPT "orthanc.RegisterStorageCommitmentScpCallback(scp, lookup)\n");
    assert_int_equal(commitment("BAD"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "LogError: Error in the Python storage commitment "
                                        "SCP callback, traceback:\n<class 'KeyError'>\n"));
    assert_int_equal(commitment("\xff"), OPB_FAULT_ENCODING);
}

#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 10)
static void
commitment_of_version_2_has_a_connection(void **state)
{
    struct opb_message *message;

    (void)state;
    host.version = "1.12.10";
    run("kept = []\n"
        "def scp(job, transaction, classes, instances, connection):\n"
        "    for each in kept:\n"
        "        try: each.GetConnectionRemoteAet()\n"
        "        except ValueError as e: orthanc.LogWarning('stale: ' + str(e))\n"
        "    kept.append(connection)\n"
        "    return type(connection).__name__\n"
        "orthanc.RegisterStorageCommitmentScpCallback2(scp, lambda c, i, driver: "
        "len(driver))\n");
    for (int i = 0; i < 2; i++) {
        message = commitment_request(HOST_CALL(COMMITMENT2), 5);
        opb_pack_uint(message, 4711);
        assert_int_equal(ask(message, NUMBER), HOST_NO_FAULT);
    }
    assert_true(test_host_logged(&host, "stale: Invalid object"));
    assert_int_equal(look_up("0", result.number), HOST_NO_FAULT);
    assert_int_equal(result.number, strlen("DicomConnection"));
}
#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(received_instance_keeps_what_means_nothing),
        HOST_TEST(large_instance_is_given_back_whole),
        HOST_TEST(cstore_filter_returns_a_status_or_is_refused),
        HOST_TEST(storage_area_creates_reads_and_removes),
        HOST_TEST(storage_read_gives_bytes_and_nothing_else),
#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 8)
        HOST_TEST(storage_create3_returns_a_code_and_custom_data),
        HOST_TEST(storage_create3_that_returns_nonsense_fails),
        HOST_TEST(storage_read3_and_remove3_return_codes),
#endif
        HOST_TEST(commitment_keeps_its_driver_until_it_is_freed),
        HOST_TEST(commitment_that_raises_has_no_driver),
#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 10)
        HOST_TEST(commitment_of_version_2_has_a_connection),
#endif
    };

    return OPB_RUN(tests);
}
