/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/limits.h - every number that both ends of a lane must agree upon
 *
 * docs/protocol.md repeats these for people who write a peer; a unit test
 * compares the two.
 */
#ifndef OPB_LIMITS_H
#define OPB_LIMITS_H

#define OPB_PROTOCOL_MAGIC   "orthanc-python-bridge"
#define OPB_PROTOCOL_VERSION 3

#define OPB_MAX_ENVELOPE_BYTES (16u * 1024u * 1024u) /* msgpack part of a frame */
#define OPB_MAX_HELLO_BYTES    4096u         /* same, before the handshake is done */
#define OPB_MAX_SEGMENTS       64u           /* bulk segments in one frame */
#define OPB_MAX_DEPTH          16u           /* nested msgpack arrays and maps */
#define OPB_MAX_CALL_DEPTH     64u           /* nested calls on one lane */
#define OPB_MAX_FAULT_BYTES    (64u * 1024u) /* text of a fault; longer ones are cut */
#define OPB_INLINE_BYTES       4096u         /* longer byte strings travel as segments */
#define OPB_SECRET_BYTES       32u           /* attach secret */
#define OPB_SEGMENT_EXT_TYPE   1             /* msgpack ext: u32 big-endian segment index */
#define OPB_NODE_NAME_BYTES    64u           /* longest node name */
#define OPB_MAX_WORKERS        64u           /* hosts of one generation of a node */
#define OPB_MAX_SCRIPTS        64u           /* of one node */
#define OPB_MAX_SCRIPT_BYTES   (64u * 1024u) /* their paths together, each with a NUL */
#define OPB_RING_BYTES         (256u * 1024u) /* of each direction of a lane in memory */
#define OPB_RING_METHOD        0xffffffffu    /* of the notification that accepts one */

#define OPB_FOREVER UINT64_MAX /* deadline_ms: no deadline */

#endif
