/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/frame.h - one incoming frame, validated, and reading its values
 *
 * Here:      the frame header, checks of counts, lengths and nesting before
 *            msgpack-c sees a byte, and typed access to the values.
 * Elsewhere: reading from a socket (lane.c), meaning (the caller).
 * May use:   msgpack-c. Not Python.h, not the SDK.
 *
 * On the wire: u32 envelope_bytes, u16 segment_count, u16 zero, then
 * segment_count x u64 segment_bytes, the envelope, the segments. All integers
 * big-endian. See docs/protocol.md.
 */
#ifndef OPB_FRAME_H
#define OPB_FRAME_H

#include "message.h"
#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPB_FRAME_HEADER_BYTES 8u

/* Where segments are put, chosen by the owner of a lane: malloc in the plugin,
 * a bytes object in the host, so that no bulk byte is copied. */
struct opb_segment_memory {
    /* Gives memory for bytes (> 0); *owner is handed back on release. NULL: no memory. */
    void *(*allocate)(void *context, size_t bytes, void **owner);
    void (*release)(void *context, void *owner);
    void *context;
};
/* opb_block_alloc() and opb_block_free(); owner is the memory itself. */
extern const struct opb_segment_memory opb_segment_malloc;

enum opb_frame_type { OPB_REQUEST = 0, OPB_RESPONSE = 1, OPB_NOTIFY = 2 };

struct opb_frame;

/* Decodes a whole frame that is already in memory (tests, fuzzers). Copies. */
OPB_MUST_CHECK enum opb_status opb_frame_decode(struct opb_frame **out,
                                                const uint8_t *bytes, size_t byte_count);

void
opb_frame_free(struct opb_frame *frame); /* releases segments not taken; NULL is fine */

enum opb_frame_type opb_frame_type(const struct opb_frame *frame);
uint32_t opb_frame_msgid(const struct opb_frame *frame);  /* requests and responses */
uint32_t opb_frame_method(const struct opb_frame *frame); /* requests and notifications */

/* Responses: true when the far end reported a fault. Outputs may be NULL;
 * *text is lent by the frame, NUL-terminated, never NULL. */
bool opb_frame_fault(const struct opb_frame *frame, enum opb_fault *fault, int32_t *code,
                     const char **text);

/* A cursor over the values of an array. A value of another type, a missing
 * value or a value out of range sets status to OPB_BAD_FRAME, and every later
 * read gives zeros: check once, at the end, with opb_reader_finish(). */
struct opb_reader {
    struct opb_frame *frame;
    const void *next; /* msgpack_object */
    uint32_t left;
    enum opb_status status;
};

void opb_frame_params(struct opb_frame *frame,
                      struct opb_reader *reader); /* request, notify */
void opb_frame_result(struct opb_frame *frame,
                      struct opb_reader *reader); /* response: 1 value */

bool opb_read_is_nil(const struct opb_reader *reader); /* looks, does not advance */
bool opb_read_is_array(const struct opb_reader *reader);
void opb_read_skip(struct opb_reader *reader);
bool opb_read_bool(struct opb_reader *reader);
int64_t opb_read_int(struct opb_reader *reader, int64_t low, int64_t high);
uint64_t opb_read_uint(struct opb_reader *reader, uint64_t high);
double opb_read_double(struct opb_reader *reader); /* integers are accepted */
/* Lends text until the frame is freed. "" on failure. Not NUL-terminated. */
const char *opb_read_str(struct opb_reader *reader, size_t *bytes);
/* Lends NUL-terminated text; embedded NUL is a failure ("" is returned).
 * nil gives NULL if nullable, else a failure. */
const char *opb_read_cstr(struct opb_reader *reader, bool nullable);
/* Lends bytes, inline or segment. Never NULL. */
const void *opb_read_bytes(struct opb_reader *reader, size_t *bytes);
/* As opb_read_bytes, and if the value is a segment also takes its owner: *owner
 * is then the caller's to release; NULL for inline bytes (copy those). A segment
 * that was taken cannot be read or taken again: OPB_BAD_FRAME. */
const void *opb_read_bytes_take(struct opb_reader *reader, size_t *bytes, void **owner);
/* Opens an array or map for reading with sub; advances reader past it. */
uint32_t opb_read_array(struct opb_reader *reader, struct opb_reader *sub);
uint32_t opb_read_map(struct opb_reader *reader,
                      struct opb_reader *sub); /* key, value, key, ... */

/* OPB_OK if every read fitted and nothing is left. */
OPB_MUST_CHECK enum opb_status opb_reader_finish(const struct opb_reader *reader);

/* For lane.c: assembles a frame from parts that it has read. */
struct opb_frame_header {
    uint32_t envelope_bytes;
    uint16_t segment_count;
};
OPB_MUST_CHECK enum opb_status
opb_frame_header_decode(struct opb_frame_header *out,
                        const uint8_t bytes[OPB_FRAME_HEADER_BYTES],
                        uint32_t max_envelope_bytes);
/* One length of the header's list. OPB_BAD_FRAME for 0, OPB_TOO_LARGE for what no
 * address space holds. */
OPB_MUST_CHECK enum opb_status opb_frame_segment_decode(uint64_t *out,
                                                        const uint8_t bytes[8]);
struct opb_segment {
    void *data;
    void *owner;
    size_t bytes;
};
/* Takes *envelope (malloc'ed, with one spare byte at its end) and the segments'
 * memory only on success. */
OPB_MUST_CHECK enum opb_status opb_frame_assemble(struct opb_frame **out,
                                                  uint8_t **envelope, size_t envelope_bytes,
                                                  struct opb_segment *segments,
                                                  uint16_t segment_count,
                                                  const struct opb_segment_memory *memory);

#endif
