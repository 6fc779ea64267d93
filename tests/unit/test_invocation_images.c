/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_invocation_images.c - SDK calls with images: buffers, sizes, handles
 *
 * Here:      what must not reach the core, which trusts the sizes that it is told.
 */
#include "invocation_fixture.h"

#include "plugin/handles.h"

#include "protocol/sockets.h"

#include <string.h>

static int image_memory; /* what an image is in these tests */

static OrthancPluginErrorCode
make_image(const void *params)
{
    const _OrthancPluginCreateImage *image = params;

    if (image->format == OrthancPluginPixelFormat_Unknown) {
        return OrthancPluginErrorCode_ParameterOutOfRange;
    }
    *image->target = (OrthancPluginImage *)(void *)&image_memory;
    return OrthancPluginErrorCode_Success;
}

static uint8_t pixels[4 * 8];

static OrthancPluginErrorCode
image_buffer(const void *params)
{
    const _OrthancPluginGetImageInfo *info = params;

    assert_ptr_equal(info->image, &image_memory);
    *info->resultBuffer = pixels;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
image_pitch(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 8;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
image_height(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 4;
    return OrthancPluginErrorCode_Success;
}

static void
serve_images(void)
{
    fake_on(_OrthancPluginService_CreateImage, make_image);
    fake_on(_OrthancPluginService_FreeImage, sdk_nothing);
    fake_on(_OrthancPluginService_GetImageBuffer, image_buffer);
    fake_on(_OrthancPluginService_GetImagePitch, image_pitch);
    fake_on(_OrthancPluginService_GetImageHeight, image_height);
}

static void
pack_image(struct invocation *fixture, OrthancPluginPixelFormat format, uint32_t pitch,
           size_t size)
{
    static const uint8_t bytes[64] = {[0 ... 63] = 9};

    sdk_begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, (int64_t)format);
    opb_pack_uint(fixture->message, 8);
    opb_pack_uint(fixture->message, 4);
    opb_pack_uint(fixture->message, pitch);
    opb_pack_bytes(fixture->message, bytes, size);
}

static void
image_from_a_buffer_has_zeros_where_the_buffer_has_nothing(void **state)
{
    struct invocation *fixture = *state;
    uint64_t handle;

    serve_images();
    memset(pixels, 0xff, sizeof(pixels));
    pack_image(fixture, OrthancPluginPixelFormat_Grayscale8, 6, 24);
    handle = sdk_expect_uint(fixture);
    assert_int_equal(pixels[5], 9);
    assert_int_equal(pixels[6], 0);
    assert_int_equal(pixels[7], 0);
    assert_int_equal(pixels[8], 9);
    sdk_begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_uint(fixture->message, handle);
    sdk_expect_bytes(fixture, pixels, sizeof(pixels));
    assert_int_equal(opb_handles_count(opb_session_handles(fixture->session)), 1);
    opb_message_begin_notify(fixture->message, fake_method("_Release"), 1);
    opb_pack_uint(fixture->message, handle);
    assert_int_equal(opb_lane_post(fixture->lane, fixture->message), OPB_OK);
    sdk_begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_uint(fixture->message, handle);
    sdk_expect_fault(fixture, OPB_FAULT_INVALID_OBJECT, 0, "Invalid object");
    assert_int_equal(fake_calls(_OrthancPluginService_FreeImage), 1);
}

static void
image_from_a_buffer_of_the_wrong_size_is_refused(void **state)
{
    serve_images();
    pack_image(*state, OrthancPluginPixelFormat_Grayscale8, 8, 31);
    sdk_expect_fault(
        *state, OPB_FAULT_TYPE, 0,
        "The size of the memory buffer must match the product of height by pitch");
    pack_image(*state, OrthancPluginPixelFormat_Unknown, 8, 32);
    sdk_expect_fault(*state, OPB_FAULT_VALUE, 0, "Cannot create the image");
}

/* The size of the image that GetImageWidth and GetImageHeight tell. */
static OrthancPluginErrorCode
image_of_65536(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 65536;
    return OrthancPluginErrorCode_Success;
}

static void
expect_no_image(struct invocation *fixture, OrthancPluginPixelFormat format, uint32_t width,
                uint32_t height)
{
    sdk_begin(fixture, "CreateImage", 3);
    opb_pack_int(fixture->message, (int64_t)format);
    opb_pack_uint(fixture->message, width);
    opb_pack_uint(fixture->message, height);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, 4, "error 4");
}

/* The core computes sizes with 32 bits, and would allocate what is left of them. */
static void
images_of_more_than_32_bits_never_reach_the_core(void **state)
{
    struct invocation *fixture = *state;
    uint64_t handle;

    serve_images();
    fake_on(_OrthancPluginService_GetImageWidth, image_of_65536);
    fake_on(_OrthancPluginService_GetImageHeight, image_of_65536);
    fake_on(_OrthancPluginService_ConvertPixelFormat, sdk_nothing);
    expect_no_image(fixture, OrthancPluginPixelFormat_Grayscale8, UINT32_MAX, UINT32_MAX);
    expect_no_image(fixture, OrthancPluginPixelFormat_Grayscale8, 65536, 65536);
    expect_no_image(fixture, OrthancPluginPixelFormat_RGB24, 0x80000000u, 0);
    sdk_begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 65537);
    opb_pack_uint(fixture->message, 65536);
    opb_pack_uint(fixture->message, 0);
    opb_pack_bytes(fixture->message, "", 0);
    sdk_expect_fault(fixture, OPB_FAULT_VALUE, 0, "Cannot create the image");
    assert_int_equal(fake_calls(_OrthancPluginService_CreateImage), 0);

    sdk_begin(fixture, "CreateImage", 3);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 65536);
    opb_pack_uint(fixture->message, 65535);
    handle = sdk_expect_uint(fixture);
    sdk_begin(fixture, "Image.ConvertPixelFormat", 2);
    opb_pack_uint(fixture->message, handle);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale16);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, 4, "error 4");
    assert_int_equal(fake_calls(_OrthancPluginService_ConvertPixelFormat), 0);
}

static OrthancPluginErrorCode
no_pitch(const void *params)
{
    *((const _OrthancPluginGetImageInfo *)params)->resultUint32 = 0;
    return OrthancPluginErrorCode_Success;
}

static void
an_image_without_width_costs_no_time_however_high_it_is(void **state)
{
    struct invocation *fixture = *state;
    uint64_t began_ms = opb_clock_ms();

    serve_images();
    fake_on(_OrthancPluginService_GetImagePitch, no_pitch);
    sdk_begin(fixture, "CreateImageFromBuffer", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_Grayscale8);
    opb_pack_uint(fixture->message, 0);
    opb_pack_uint(fixture->message, UINT32_MAX);
    opb_pack_uint(fixture->message, 0);
    opb_pack_bytes(fixture->message, "", 0);
    (void)sdk_expect_uint(fixture);
    assert_true(opb_clock_ms() - began_ms < 2000); /* else 4 billion rows of nothing */
}

static void
pack_png(struct invocation *fixture, uint32_t width, uint32_t height, uint32_t pitch,
         size_t size)
{
    static const uint8_t bytes[256];

    sdk_begin(fixture, "CompressPngImage", 5);
    opb_pack_int(fixture->message, OrthancPluginPixelFormat_RGB24);
    opb_pack_uint(fixture->message, width);
    opb_pack_uint(fixture->message, height);
    opb_pack_uint(fixture->message, pitch);
    opb_pack_bytes(fixture->message, bytes, size);
}

static void
sizes_that_do_not_fit_never_reach_the_core(void **state)
{
    fake_on(_OrthancPluginService_CompressImage, sdk_nothing);
    pack_png(*state, 10, 4, 30, 119); /* one byte too few */
    sdk_expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    pack_png(*state, 11, 4, 30, 120); /* rows longer than the pitch */
    sdk_expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    pack_png(*state, UINT32_MAX, UINT32_MAX, UINT32_MAX, 120);
    sdk_expect_fault(*state, OPB_FAULT_ORTHANC, 3, "error 3");
    assert_int_equal(fake_calls(_OrthancPluginService_CompressImage), 0);
    pack_png(*state, 10, 4, 30, 120);
    sdk_expect_bytes(*state, "", 0);
}

static void
forged_handles_never_reach_the_core(void **state)
{
    static const uint64_t handles[] = {0, 1, 42, UINT64_C(1) << 20, UINT64_MAX};
    struct invocation *fixture = *state;

    serve_images();
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
        sdk_begin(fixture, "Image.GetImageBuffer", 1);
        opb_pack_uint(fixture->message, handles[i]);
        sdk_expect_fault(fixture, OPB_FAULT_INVALID_OBJECT, 0, "Invalid object");
    }
    sdk_begin(fixture, "Image.GetImageBuffer", 1);
    opb_pack_cstr(fixture->message, "42");
    sdk_expect_fault(fixture, OPB_FAULT_PROTOCOL, 0, SDK_MALFORMED);
    assert_int_equal(fake_calls(_OrthancPluginService_GetImageBuffer), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        INVOCATION_TEST(image_from_a_buffer_has_zeros_where_the_buffer_has_nothing),
        INVOCATION_TEST(image_from_a_buffer_of_the_wrong_size_is_refused),
        INVOCATION_TEST(an_image_without_width_costs_no_time_however_high_it_is),
        INVOCATION_TEST(images_of_more_than_32_bits_never_reach_the_core),
        INVOCATION_TEST(sizes_that_do_not_fit_never_reach_the_core),
        INVOCATION_TEST(forged_handles_never_reach_the_core),
    };

    return OPB_RUN(tests);
}
