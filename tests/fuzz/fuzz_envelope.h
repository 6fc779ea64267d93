/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_envelope.h - a frame around the bytes of an input
 *
 * For fuzzers of what is in a frame: most inputs would fail for the lengths before it.
 */
#ifndef OPB_FUZZ_ENVELOPE_H
#define OPB_FUZZ_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

/* Gives a frame with so many segments, of two bytes each; free() it. NULL without memory.
 */
uint8_t *fuzz_wrap(const uint8_t *envelope, size_t envelope_bytes, size_t segment_count,
                   size_t *byte_count);

#endif
