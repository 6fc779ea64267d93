/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_support.c - a node of the plugin, for the fuzzers of plugin/ */
#include "fuzz_support.h"

#include "plugin/routes.h"
#include "plugin/shim.h"
#include "protocol/handshake.h"
#include "protocol/message.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Images stay with the host until the process ends: small enough for all that are made. */
#define MAX_IMAGE_BYTES (1u << 12)

static struct opb_node *node;
static struct opb_session *session;
static struct fuzz_callbacks callbacks;
static char directory[] = "/tmp/opb-fuzz-XXXXXX";
static volatile size_t sink;
static bool is_log_the_scripts;

static struct {
    pthread_mutex_t lock;
    int listen_fd;
    const uint8_t *bytes;
    size_t byte_count;
    uint8_t welcome[64];
    size_t welcome_bytes;
} peer = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
fuzz_let_script_log(void)
{
    is_log_the_scripts = true;
}

const char *__asan_default_options(void);

/* A length that no memory can hold is a malloc() that fails, and no finding. */
const char *
__asan_default_options(void)
{
    return "allocator_may_return_null=1:quarantine_size_mb=16:max_allocation_size_mb=64";
}

void
fuzz_touch(const void *bytes, size_t byte_count)
{
    const uint8_t *next = bytes;

    for (size_t i = 0; i < byte_count; i++) {
        sink += next[i];
    }
}

void
fuzz_touch_text(const char *text)
{
    fuzz_touch(text, text == NULL ? 0 : strlen(text));
}

/* -- Orthanc ------------------------------------------------------------------- */

static OrthancPluginErrorCode
give_buffer(OrthancPluginMemoryBuffer *target, uint32_t size)
{
    target->data = calloc(1, size);
    target->size = size;
    return target->data == NULL ? OrthancPluginErrorCode_NotEnoughMemory
                                : OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
log_line(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (!is_log_the_scripts && (unsigned char)*c < 0x20 && *c != '\t') {
            abort(); /* a peer writes no lines and no escapes into the log */
        }
    }
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
describe_error(const _OrthancPluginGetErrorDescription *params)
{
    *params->target = "an error";
    return OrthancPluginErrorCode_Success;
}

struct image {
    OrthancPluginPixelFormat format;
    uint32_t width, height, pitch;
    uint8_t pixels[];
};

static uint32_t
pixel_bytes(OrthancPluginPixelFormat format)
{
    switch ((int)format) {
    case OrthancPluginPixelFormat_Grayscale8:
        return 1;
    case OrthancPluginPixelFormat_Grayscale16:
    case OrthancPluginPixelFormat_SignedGrayscale16:
        return 2;
    case OrthancPluginPixelFormat_RGB24:
        return 3;
    case OrthancPluginPixelFormat_RGBA32:
    case OrthancPluginPixelFormat_Grayscale32:
    case OrthancPluginPixelFormat_Float32:
        return 4;
    case OrthancPluginPixelFormat_RGB48:
        return 6;
    default:
        return 0;
    }
}

static OrthancPluginErrorCode
create_image(const _OrthancPluginCreateImage *params)
{
    uint64_t pitch = (uint64_t)params->width * pixel_bytes(params->format);
    struct image *image;

    fuzz_touch(params->constBuffer, params->bufferSize);
    if (pitch > MAX_IMAGE_BYTES || pitch * params->height > MAX_IMAGE_BYTES) {
        return OrthancPluginErrorCode_NotEnoughMemory;
    }
    image = calloc(1, sizeof(*image) + (size_t)pitch * params->height);
    *params->target = (OrthancPluginImage *)image;
    if (image == NULL) {
        return OrthancPluginErrorCode_NotEnoughMemory;
    }
    image->format = params->format;
    image->width = params->width;
    image->height = params->height;
    image->pitch = (uint32_t)pitch;
    return OrthancPluginErrorCode_Success;
}

void *
fuzz_image(void)
{
    OrthancPluginImage *image = NULL;
    const _OrthancPluginCreateImage params = {.target = &image,
                                              .format = OrthancPluginPixelFormat_RGB24,
                                              .width = 16,
                                              .height = 16};

    if (create_image(&params) != OrthancPluginErrorCode_Success) {
        abort();
    }
    return image;
}

static OrthancPluginErrorCode
image_info(_OrthancPluginService service, const _OrthancPluginGetImageInfo *params)
{
    struct image *image = (struct image *)(uintptr_t)params->image;

    switch ((int)service) {
    case _OrthancPluginService_GetImagePixelFormat:
        *params->resultPixelFormat = image->format;
        break;
    case _OrthancPluginService_GetImageWidth:
        *params->resultUint32 = image->width;
        break;
    case _OrthancPluginService_GetImageHeight:
        *params->resultUint32 = image->height;
        break;
    case _OrthancPluginService_GetImagePitch:
        *params->resultUint32 = image->pitch;
        break;
    default:
        *params->resultBuffer = image->pixels;
        break;
    }
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
rest_get(const _OrthancPluginRestApiGet *params)
{
    fuzz_touch_text(params->uri);
    return give_buffer(params->target, 100);
}

static OrthancPluginErrorCode
rest_put(const _OrthancPluginRestApiPostPut *params)
{
    fuzz_touch_text(params->uri);
    fuzz_touch(params->body, params->bodySize);
    return give_buffer(params->target, 100);
}

static OrthancPluginErrorCode
dynamic_string(const _OrthancPluginRetrieveDynamicString *params)
{
    fuzz_touch_text(params->argument);
    *params->result = strdup("text");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
answer_buffer(const _OrthancPluginAnswerBuffer *params)
{
    fuzz_touch(params->output, 1);
    fuzz_touch(params->answer, params->answerSize);
    fuzz_touch_text(params->mimeType);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
answer_image(const _OrthancPluginCompressAndAnswerImage *params)
{
    fuzz_touch(params->output, 1);
    fuzz_touch(params->buffer, (size_t)params->pitch * params->height);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
set_header(const _OrthancPluginSetHttpHeader *params)
{
    fuzz_touch(params->output, 1);
    fuzz_touch_text(params->key);
    fuzz_touch_text(params->value);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
create_buffer64(const _OrthancPluginCreateMemoryBuffer64 *params)
{
    params->target->data = malloc((size_t)params->size);
    params->target->size = params->size;
    return params->target->data == NULL ? OrthancPluginErrorCode_NotEnoughMemory
                                        : OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
registered(_OrthancPluginService service, const void *params)
{
    switch ((int)service) {
    case _OrthancPluginService_RegisterReceivedInstanceCallback:
        callbacks.received =
            ((const _OrthancPluginReceivedInstanceCallback *)params)->callback;
        break;
    case _OrthancPluginService_RegisterIncomingCStoreInstanceFilter:
        callbacks.cstore_filter =
            ((const _OrthancPluginIncomingCStoreInstanceFilter *)params)->callback;
        break;
    case _OrthancPluginService_RegisterFindCallback:
        callbacks.find = ((const _OrthancPluginFindCallback *)params)->callback;
        break;
    case _OrthancPluginService_RegisterWorklistCallback:
        callbacks.worklist = ((const _OrthancPluginWorklistCallback *)params)->callback;
        break;
    case _OrthancPluginService_RegisterMoveCallback:
        callbacks.move = *(const _OrthancPluginMoveCallback *)params;
        break;
    case _OrthancPluginService_RegisterStorageArea:
        callbacks.storage = *(const _OrthancPluginRegisterStorageArea *)params;
        break;
    case _OrthancPluginService_RegisterStorageCommitmentScpCallback:
        callbacks.commitment =
            *(const _OrthancPluginRegisterStorageCommitmentScpCallback *)params;
        break;
    case _OrthancPluginService_RegisterRestCallbackNoLock:
        break;
    default:
        return OrthancPluginErrorCode_UnknownPluginService;
    }
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
invoke(OrthancPluginContext *context, _OrthancPluginService service, const void *params)
{
    (void)context;
    switch ((int)service) {
    case _OrthancPluginService_LogError:
    case _OrthancPluginService_LogWarning:
    case _OrthancPluginService_LogInfo:
        return log_line(params);
    case _OrthancPluginService_GetErrorDescription:
        return describe_error(params);
    case _OrthancPluginService_GetImagePixelFormat:
    case _OrthancPluginService_GetImageWidth:
    case _OrthancPluginService_GetImageHeight:
    case _OrthancPluginService_GetImagePitch:
    case _OrthancPluginService_GetImageBuffer:
        return image_info(service, params);
    case _OrthancPluginService_CreateImage:
        return create_image(params);
    case _OrthancPluginService_FreeImage:
        free(((const _OrthancPluginFreeImage *)params)->image);
        return OrthancPluginErrorCode_Success;
    case _OrthancPluginService_RestApiGet:
    case _OrthancPluginService_RestApiGetAfterPlugins:
        return rest_get(params);
    case _OrthancPluginService_RestApiPost:
    case _OrthancPluginService_RestApiPut:
        return rest_put(params);
    case _OrthancPluginService_GenerateUuid:
    case _OrthancPluginService_LookupPatient:
    case _OrthancPluginService_LookupStudy:
    case _OrthancPluginService_LookupInstance:
        return dynamic_string(params);
    case _OrthancPluginService_AnswerBuffer:
        return answer_buffer(params);
    case _OrthancPluginService_CompressAndAnswerImage:
        return answer_image(params);
    case _OrthancPluginService_SetHttpHeader:
        return set_header(params);
    case _OrthancPluginService_CreateMemoryBuffer64:
        return create_buffer64(params);
    default:
        return registered(service, params);
    }
}

/* -- the peer at the pool's socket ------------------------------------------------ */

void
fuzz_peer_says(const uint8_t *bytes, size_t byte_count)
{
    pthread_mutex_lock(&peer.lock);
    peer.bytes = bytes;
    peer.byte_count = byte_count;
    pthread_mutex_unlock(&peer.lock);
}

/* Says everything, then reads until the node has closed: one connection at a time, as the
 * node has closed the one before. */
static void *
play_peer(void *unused)
{
    sigset_t all;

    (void)unused;
    (void)sigfillset(&all); /* cannot fail */
    /* The fuzzer looks at the time by SIGALRM: here it would end a system call. */
    if (pthread_sigmask(SIG_BLOCK, &all, NULL) != 0) {
        abort();
    }
    for (;;) {
        int fd = accept4(peer.listen_fd, NULL, NULL, SOCK_CLOEXEC);
        char ignored[4096];

        if (fd < 0) {
            abort();
        }
        pthread_mutex_lock(&peer.lock);
        (void)send(fd, peer.welcome, peer.welcome_bytes, MSG_NOSIGNAL);
        (void)send(fd, peer.bytes, peer.byte_count, MSG_NOSIGNAL | MSG_DONTWAIT);
        pthread_mutex_unlock(&peer.lock);
        (void)shutdown(fd, SHUT_WR);
        while (recv(fd, ignored, sizeof(ignored), 0) > 0) {
        }
        (void)close(fd);
    }
    return NULL;
}

static void
start_peer(void)
{
    struct opb_message *message = opb_message_new();
    const struct iovec *parts;
    size_t part_count;
    pthread_t thread;

    opb_message_begin_response(message, 0);
    opb_pack_array(message, 1);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    if (opb_message_frame(message, &parts, &part_count) != OPB_OK) {
        abort();
    }
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(peer.welcome + peer.welcome_bytes, parts[i].iov_base, parts[i].iov_len);
            peer.welcome_bytes += parts[i].iov_len;
        }
    }
    opb_message_free(message);
    if (mkdtemp(directory) == NULL) {
        abort();
    }
    (void)snprintf(node->pool_socket, sizeof(node->pool_socket), "%s/pool.sock", directory);
    if (opb_socket_listen(&peer.listen_fd, node->pool_socket, 0600, 64) != OPB_OK ||
        fcntl(peer.listen_fd, F_SETFL, 0) != 0 ||
        pthread_create(&thread, NULL, play_peer, NULL) != 0) {
        abort();
    }
    (void)pthread_detach(thread);
}

static void
remove_directory(void)
{
    (void)unlink(node->pool_socket);
    (void)rmdir(directory);
}

/* -- the node --------------------------------------------------------------------- */

static void
register_all(void)
{
    static const char *const kinds[] = {
        "Change",       "StoredInstance", "HttpFilter",    "ReceivedInstance",
        "CStoreFilter", "Find",           "Worklist",      "Move2",
        "StorageArea",  "StorageRead",    "StorageRemove", "StorageCommitment"};
    enum opb_fault fault;
    char text[512];

    opb_routes_begin(node->routes, session);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        /* those that go with another are refused, which is fine */
        (void)!opb_routes_add(node->routes, session, kinds[i], NULL, 0, &fault, text,
                              sizeof(text));
    }
    if (opb_routes_add(node->routes, session, "Rest", "/fuzz", 0, &fault, text,
                       sizeof(text)) != OPB_OK) {
        abort();
    }
    opb_routes_commit(node->routes, session);
}

struct opb_node *
fuzz_node(void)
{
    static OrthancPluginContext orthanc = {
        .orthancVersion = "1.10.1", .Free = free, .InvokeService = invoke};

    if (node != NULL) {
        return node;
    }
    if (opb_node_new(&node) != OPB_OK) {
        abort();
    }
    node->orthanc = &orthanc;
    node->context = opb_shim_new(&orthanc);
    node->config = calloc(1, sizeof(*node->config));
    if (node->context == NULL || node->config == NULL) {
        abort();
    }
    node->config->queue_timeout_ms = 2000;
    node->config->workers = 1;
    strcpy(node->name, "fuzz");
    start_peer();
    (void)atexit(remove_directory);
    opb_node_set_current(node);
    if (opb_routes_new(&node->routes, node) != OPB_OK) {
        abort();
    }
    if (opb_session_new(&session, node, 1, getpid(), 0) != OPB_OK) {
        abort();
    }
    register_all();
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    if (!opb_session_activate(session)) {
        abort();
    }
    return node;
}

struct opb_session *
fuzz_session(void)
{
    (void)fuzz_node();
    return session;
}

const struct fuzz_callbacks *
fuzz_callbacks(void)
{
    return &callbacks;
}
