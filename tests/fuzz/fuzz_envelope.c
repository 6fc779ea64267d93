/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_envelope.c - a frame around the bytes of an input: fuzz_envelope.h */
#include "fuzz_envelope.h"

#include "protocol/frame.h"

#include <stdlib.h>
#include <string.h>

uint8_t *
fuzz_wrap(const uint8_t *envelope, size_t envelope_bytes, size_t segment_count,
          size_t *byte_count)
{
    size_t head_bytes = OPB_FRAME_HEADER_BYTES + 8 * segment_count;
    uint8_t *bytes = calloc(1, head_bytes + envelope_bytes + 2 * segment_count);

    if (bytes == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(envelope_bytes >> (24 - 8 * i));
    }
    bytes[5] = (uint8_t)segment_count;
    for (size_t i = 0; i < segment_count; i++) {
        bytes[OPB_FRAME_HEADER_BYTES + 8 * i + 7] = 2;
    }
    memcpy(bytes + head_bytes, envelope, envelope_bytes);
    *byte_count = head_bytes + envelope_bytes + 2 * segment_count;
    return bytes;
}
