/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_result.c - any bytes as what a host says during a callback
 *
 * First byte: the callback that Orthanc runs. The rest is what comes on its lane: its
 * response, with SDK calls before it or not.
 */
#include "fuzz_support.h"

#include "plugin/routes.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

bool __wrap_opb_session_wait_death(struct opb_session *session, uint64_t deadline_ms);

#define MAX_BYTES 32768u

/* In the place of the plugin's, by the linker: this host never dies, and nobody waits. */
bool
__wrap_opb_session_wait_death(struct opb_session *session, uint64_t deadline_ms)
{
    (void)session;
    (void)deadline_ms;
    return false;
}

static uint8_t object[256]; /* whatever Orthanc lends */

static void
run_rest(void)
{
    OrthancPluginHttpRequest request = {.method = OrthancPluginHttpMethod_Get};

    (void)opb_callback_rest(0, (OrthancPluginRestOutput *)object, "/fuzz", &request);
}

static void
run_received(void)
{
    OrthancPluginMemoryBuffer64 modified = {NULL, 0};
    OrthancPluginReceivedInstanceAction action = fuzz_callbacks()->received(
        &modified, "dicom", 5, OrthancPluginInstanceOrigin_RestApi);

    if (modified.data != NULL && action != OrthancPluginReceivedInstanceAction_Modify) {
        abort(); /* Orthanc would not free it */
    }
    fuzz_touch(modified.data, (size_t)modified.size);
    free(modified.data);
}

static void
run_storage(void)
{
    void *content = NULL;
    int64_t bytes = 0;

    if (fuzz_callbacks()->storage.read(&content, &bytes, "uuid",
                                       OrthancPluginContentType_Dicom) ==
        OrthancPluginErrorCode_Success) {
        fuzz_touch(content, (size_t)bytes);
        if (content != NULL) {
            fuzz_callbacks()->storage.free(content);
        }
    }
}

static void
run_move(void)
{
    const _OrthancPluginMoveCallback *move = &fuzz_callbacks()->move;
    void *driver = move->callback(OrthancPluginResourceType_Study, "a", "b", "c", "d", "e",
                                  "f", "g", "h", 1);

    if (driver != NULL) {
        (void)move->getMoveSize(driver);
        (void)move->applyMove(driver);
        move->freeMove(driver);
    }
}

static void
run_commitment(void)
{
    const _OrthancPluginRegisterStorageCommitmentScpCallback *commitment =
        &fuzz_callbacks()->commitment;
    static const char *const uids[] = {"1.2.3"};
    OrthancPluginStorageCommitmentFailureReason reason;
    void *handler = NULL;

    if (commitment->factory(&handler, "job", "1.2", uids, uids, 1, "A", "B") ==
        OrthancPluginErrorCode_Success) {
        (void)commitment->lookup(&reason, handler, "1", "2");
        commitment->destructor(handler);
    }
}

static void
run_filter(void)
{
    int32_t value = opb_callback_filter(OrthancPluginHttpMethod_Get, "/", "127.0.0.1", 0,
                                        NULL, NULL, 0, NULL, NULL);

    if (value != 0 && value != 1 && value != -1) {
        abort();
    }
}

static void
run_cstore_filter(void)
{
    uint16_t dimse = 0;

    (void)fuzz_callbacks()->cstore_filter(&dimse,
                                          (const OrthancPluginDicomInstance *)object);
}

static void
run_callback(uint8_t which)
{
    switch (which % 9) {
    case 0:
        run_rest();
        break;
    case 1:
        run_received();
        break;
    case 2:
        run_storage();
        break;
    case 3:
        run_move();
        break;
    case 4:
        run_commitment();
        break;
    case 5:
        run_filter();
        break;
    case 6:
        run_cstore_filter();
        break;
    case 7:
        (void)fuzz_callbacks()->find((OrthancPluginFindAnswers *)object,
                                     (const OrthancPluginFindQuery *)object, "A", "B");
        break;
    default:
        (void)opb_callback_stored((const OrthancPluginDicomInstance *)object, "id");
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MAX_BYTES) {
        return 0;
    }
    (void)fuzz_node();
    fuzz_peer_says(data + 1, size - 1);
    run_callback(data[0]);
    fuzz_peer_says(NULL, 0); /* the input goes away */
    return 0;
}
