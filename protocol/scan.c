/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/scan.c - checks an envelope before msgpack-c sees it
 *
 * Here:      one walk over the bytes, with no allocation and no recursion. It exists
 *            because msgpack-c allocates whatever a five-byte header claims, and
 *            reports nesting beyond its own limit as out of memory.
 * Elsewhere: the tree (frame.c).
 * Called by: frame.c, for every frame that arrives.
 */
#include "protocol/internal.h"

struct scan {
    const uint8_t *next;
    size_t left;
    uint64_t owed[OPB_MAX_DEPTH]; /* values still missing in each open array or map */
    uint32_t depth;
    uint64_t owed_total; /* never more than left: each value is at least one byte */
    size_t item_count;
    uint16_t segment_count;
};

static bool
take_be(struct scan *scan, size_t bytes, uint64_t *value)
{
    uint64_t result = 0;

    if (scan->left < bytes) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        result = result << 8 | scan->next[i];
    }
    scan->next += bytes;
    scan->left -= bytes;
    *value = result;
    return true;
}

static bool
skip(struct scan *scan, uint64_t bytes)
{
    if (scan->left < bytes) {
        return false;
    }
    scan->next += bytes;
    scan->left -= (size_t)bytes;
    return true;
}

/* A length of length_bytes, then that many bytes. */
static bool
skip_text(struct scan *scan, size_t length_bytes)
{
    uint64_t length;

    return take_be(scan, length_bytes, &length) && skip(scan, length);
}

static bool
open_container(struct scan *scan, uint64_t item_count)
{
    if (scan->depth == OPB_MAX_DEPTH || item_count > scan->left ||
        scan->owed_total + item_count > scan->left) {
        return false;
    }
    if (item_count == 0) {
        return true;
    }
    scan->owed[scan->depth] = item_count;
    scan->depth++;
    scan->owed_total += item_count;
    scan->item_count += (size_t)item_count;
    return true;
}

static bool
open_counted(struct scan *scan, size_t count_bytes, uint64_t values_each)
{
    uint64_t count;

    return take_be(scan, count_bytes, &count) && open_container(scan, count * values_each);
}

static bool
scan_segment_reference(struct scan *scan)
{
    uint64_t type;
    uint64_t index;

    return take_be(scan, 1, &type) && type == OPB_SEGMENT_EXT_TYPE &&
           take_be(scan, 4, &index) && index < scan->segment_count;
}

/* 0xc0 to 0xdf: everything that has bytes of its own behind the type. */
static bool
scan_long_value(struct scan *scan, uint8_t type)
{
    switch (type) {
    case 0xc0: /* nil, false, true */
    case 0xc2:
    case 0xc3:
        return true;
    case 0xc4: /* bin */
    case 0xd9: /* str */
        return skip_text(scan, 1);
    case 0xc5:
    case 0xda:
        return skip_text(scan, 2);
    case 0xc6:
    case 0xdb:
        return skip_text(scan, 4);
    case 0xcc: /* uint8, int8 */
    case 0xd0:
        return skip(scan, 1);
    case 0xcd: /* uint16, int16 */
    case 0xd1:
        return skip(scan, 2);
    case 0xca: /* float32, uint32, int32 */
    case 0xce:
    case 0xd2:
        return skip(scan, 4);
    case 0xcb: /* float64, uint64, int64 */
    case 0xcf:
    case 0xd3:
        return skip(scan, 8);
    case 0xd6: /* fixext 4, the only extension there is */
        return scan_segment_reference(scan);
    case 0xdc: /* array */
        return open_counted(scan, 2, 1);
    case 0xdd:
        return open_counted(scan, 4, 1);
    case 0xde: /* map */
        return open_counted(scan, 2, 2);
    case 0xdf:
        return open_counted(scan, 4, 2);
    default:
        return false;
    }
}

static bool
scan_value(struct scan *scan)
{
    uint64_t type64;
    uint8_t type;

    if (!take_be(scan, 1, &type64)) {
        return false;
    }
    type = (uint8_t)type64;
    if (type <= 0x7f || type >= 0xe0) { /* small integers */
        return true;
    }
    if (type <= 0x8f) { /* small map */
        return open_container(scan, 2 * (uint64_t)(type & 0x0fu));
    }
    if (type <= 0x9f) { /* small array */
        return open_container(scan, type & 0x0fu);
    }
    if (type <= 0xbf) { /* small str */
        return skip(scan, type & 0x1fu);
    }
    return scan_long_value(scan, type);
}

enum opb_status
opb_scan_envelope(const uint8_t *bytes, size_t byte_count, uint16_t segment_count,
                  size_t *item_count)
{
    struct scan scan = {.next = bytes, .left = byte_count, .segment_count = segment_count};

    *item_count = 0;
    if (!scan_value(&scan)) {
        return OPB_BAD_FRAME;
    }
    while (scan.depth > 0) {
        if (scan.owed[scan.depth - 1] == 0) {
            scan.depth--;
            continue;
        }
        scan.owed[scan.depth - 1]--;
        scan.owed_total--;
        if (!scan_value(&scan)) {
            return OPB_BAD_FRAME;
        }
    }
    if (scan.left != 0) {
        return OPB_BAD_FRAME;
    }
    *item_count = scan.item_count;
    return OPB_OK;
}
