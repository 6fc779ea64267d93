/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/words.h - methods and callback kinds, by name and number
 *
 * Here:      the fixed numbers of the control connection, and the names of calls.
 * Elsewhere: SDK functions, whose numbers the node gives in Load (generated).
 */
#ifndef OPB_WORDS_H
#define OPB_WORDS_H

/* On the control connection (node <-> supervisor), after the handshake. */
enum opb_control_method {
    /* node -> pool, request. [node_name str, orthanc_version str, node_socket str,
     * secret bin, orthanc_pid uint, workers uint, zygote map] -> [node str, workers uint]:
     * the name made unique, and how many hosts it has at a time, which may be fewer than it
     * asked for, and at least 1. The pool then starts them. The map may be left out; its
     * keys: "venv" str, "preload" [module str...], "verbose" bool, "starting" bool (no host
     * without these modules). */
    OPB_CONTROL_ATTACH = 1,
    /* pool -> node, notification. [host uint, pid uint, worker uint]: worker says which of
     * the hosts of its generation it is, from 0 */
    OPB_CONTROL_HOST_STARTED = 2,
    /* pool -> node, notification. [host uint, pid uint, reason str]; reason reads
     * "was killed by signal 11 (Segmentation fault)" or "ended with exit code 7". */
    OPB_CONTROL_HOST_DIED = 3,
    /* node -> pool, notification. [host uint, reason str]: kill it (SIGKILL, with its
     * process group) and start another. */
    OPB_CONTROL_REPLACE_HOST = 4,
    /* node -> pool, request. [grace_ms uint] -> nil: no new hosts; end the node's
     * hosts: wait grace_ms for them to end by themselves, then SIGTERM, 2 s later
     * SIGKILL. Answered when all have been reaped. */
    OPB_CONTROL_DETACH = 5,
    /* pool -> node, notification. [level uint (0 error, 1 warning, 2 info), text str] */
    OPB_CONTROL_LOG = 6,
    /* node -> pool, notification. [host uint, reason str]: it does not answer in time. As
     * REPLACE_HOST, after the Python stacks of all its threads were written to the log. */
    OPB_CONTROL_HOST_HANGS = 10,
    /* node -> pool, notification. [[script str...], workers uint]: start another host
     * beside each that runs, for these scripts. Ignored where there is one already. The
     * number, which may be left out, is how many the next generation is to have: NEXT_COUNT
     * answers it. */
    OPB_CONTROL_START_NEXT = 7,
    /* pool -> node, notification. [host uint, pid uint, worker uint]: it has been started;
     * pid 0: it could not be, and HOST_DIED says why. If it dies, no other is started for
     * it. */
    OPB_CONTROL_NEXT_STARTED = 8,
    /* node -> pool, notification. [[host uint...]]: for each worker, from 0, the next host,
     * which takes the place of the one that runs, which nobody replaces when it ends. If
     * the next one has died meanwhile, another is started in its place. The scripts of
     * START_NEXT are the node's from here on. */
    OPB_CONTROL_SWITCH = 9,
    /* pool -> node, notification. [host uint]: done; the first of them. HOST_STARTED that
     * came after SWITCH was sent and before this is about hosts that have lost their place.
     */
    OPB_CONTROL_SWITCHED = 11,
    /* pool -> node, notification. []: somebody asks for the next generation (SIGHUP). */
    OPB_CONTROL_RELOAD = 12,
    /* node -> pool, notification. [restarts uint, window_ms uint]: once more hosts than
     * that have died within window_ms, another is started every 30 s only, until one lives
     * for window_ms. 0 restarts: no limit, as without this. */
    OPB_CONTROL_LIMIT_RESTARTS = 13,
    /* node -> pool, notification, before ATTACH. [[script str...], name_is_fixed bool]: the
     * absolute paths of the scripts, in order, for a pool that runs some scripts only;
     * whether the node's name is configured, so that it must not be made unique. */
    OPB_CONTROL_DESCRIBE = 20,
    /* pool -> node, notification. []: the pool is about to end. Its hosts are to finish, as
     * with Finalize; what is left of them after the pool's own limit is killed. */
    OPB_CONTROL_LEAVING = 21,
    /* pool -> node, notification, before NEXT_STARTED. [workers uint]: how many hosts the
     * next generation gets: at least as many as there are, at most as many as asked for. */
    OPB_CONTROL_NEXT_COUNT = 22,
    /* node -> pool, notification. [host uint, ticket uint]: the Python stacks of its
     * threads are wanted; it goes on. Always answered. */
    OPB_CONTROL_LOOK = 30,
    /* pool -> node, notification. [ticket uint, stacks str, problem str]: what the host has
     * told, or "" and why it has not. */
    OPB_CONTROL_LOOKED = 31
};

/* supervisor -> host over the host's SOCK_SEQPACKET control socket: 1 byte kind
 * (enum opb_connection_kind, MAIN or CALL) with the lane's descriptor. The host
 * sends the welcome. End of file means: the pool is gone, end at once. */

/* The same with this byte and the descriptor of a file: the host writes the Python stacks
 * of all its threads to it, and a NUL as the end. */
#define OPB_HOST_STACKS 0x53u
/* The same for a host that is to go on: it waits for the GIL first, so that nothing changes
 * while it writes. A host that cannot get it does not answer. */
#define OPB_HOST_LOOK 0x4cu
/* This byte without a descriptor, then a path, a NUL and a text, before any lane, for each
 * script in order: the only files that the host may load as its scripts, all links
 * resolved; if one is empty it may load none, and the text says why. */
#define OPB_HOST_BINDING 0x42u

/* Calls, node -> host. The node numbers them in Load; Load itself is always 0. In the place
 * of a handle may stand [handle uint, facts map]: docs/protocol.md, "Facts". */
#define OPB_CALL_LOAD 0
#define OPB_CALL_NAMES(X)                                                                  \
    /* main lane. [map]: keys below -> [path str...], the scripts and the modules that     \
     * they imported from their directories; nil is fine. Keys: "version" str (Orthanc's), \
     * "functions" [[name, signature]...] (index = method number), "calls"                 \
     * [name...], "scripts" [str...] (absolute paths, in order), "verbose" bool,           \
     * "memory_usage" bool, "node_socket" str, "node" str, "host" uint,                    \
     * "secret" bin, "orthanc" str (path of the server), "worker_index" uint,              \
     * "workers_count" uint, "slow_call_ms" uint (0: none) */                              \
    X(LOAD, "Load")                                                                        \
    /* main lane. [] -> nil: join threads, run atexit, then exit 0 */                      \
    X(FINALIZE, "Finalize")                                                                \
    /* [route uint, output handle, uri str, method str, groups [str...],                   \
     * get map|nil, headers map, body bin|nil] -> nil */                                   \
    X(REST, "Rest")                                                                        \
    /* [change int, resource_type int, resource_id str] -> nil */                          \
    X(CHANGE, "Change")                                                                    \
    /* [instance handle, instance_id str] -> nil */                                        \
    X(STORED_INSTANCE, "StoredInstance")                                                   \
    /* [uri str, method int, ip str, headers map, get map] -> bool */                      \
    X(HTTP_FILTER, "HttpFilter")                                                           \
    /* [dicom bin, origin int] -> [action int, bin|nil] */                                 \
    X(RECEIVED_INSTANCE, "ReceivedInstance")                                               \
    /* [instance handle] -> DIMSE status, uint */                                          \
    X(CSTORE_FILTER, "CStoreFilter")                                                       \
    /* [answers handle, query handle, issuer str, called str] -> nil */                    \
    X(FIND, "Find")                                                                        \
    /* [answers handle, query handle, connection handle] -> nil */                         \
    X(FIND2, "Find2")                                                                      \
    /* as Find and Find2 */                                                                \
    X(WORKLIST, "Worklist")                                                                \
    X(WORKLIST2, "Worklist2")                                                              \
    /* [level str|nil, patient, accession, study, series, instance str|nil, originator,    \
     * source, target str, originator id uint] -> nil: the one sub-operation of v1 */      \
    X(MOVE, "Move")                                                                        \
    /* the same -> driver uint, a number of this host's */                                 \
    X(MOVE2, "Move2")                                                                      \
    /* the same without originator and source, before all a connection handle */           \
    X(MOVE3, "Move3")                                                                      \
    /* [driver uint] -> uint; -> nil; -> nil */                                            \
    X(MOVE_SIZE, "MoveSize")                                                               \
    X(MOVE_APPLY, "MoveApply")                                                             \
    X(MOVE_FREE, "MoveFree")                                                               \
    /* [uuid str, type int, content bin] -> nil */                                         \
    X(STORAGE_CREATE, "StorageArea")                                                       \
    /* [uuid str, type int] -> bin; -> nil */                                              \
    X(STORAGE_READ, "StorageRead")                                                         \
    X(STORAGE_REMOVE, "StorageRemove")                                                     \
    /* [uuid str, type int, compression int, content bin, instance handle (0: none)]       \
     * -> [code int, custom data bin|nil] */                                               \
    X(STORAGE_CREATE3, "StorageArea3")                                                     \
    /* [uuid str, type int, start uint, size uint, custom data bin] -> [code int, bin|nil] \
     */                                                                                    \
    X(STORAGE_READ3, "StorageReadRange3")                                                  \
    /* [uuid str, type int, custom data bin] -> code int */                                \
    X(STORAGE_REMOVE3, "StorageRemove3")                                                   \
    /* [job str, transaction str, classes [str...], instances [str...], remote aet str,    \
     * called aet str] -> driver uint; v2: a connection handle for the two AETs */         \
    X(COMMITMENT, "StorageCommitment")                                                     \
    X(COMMITMENT2, "StorageCommitment2")                                                   \
    /* [sop class str, sop instance str, driver uint] -> reason int, nil if the script     \
     * gave none; [driver uint] -> nil */                                                  \
    X(COMMITMENT_LOOKUP, "CommitmentLookup")                                               \
    X(COMMITMENT_FREE, "CommitmentFree")

#define OPB_CALL_ENUM(upper, name) OPB_CALL_##upper##_INDEX,
enum opb_call_index { OPB_CALL_NAMES(OPB_CALL_ENUM) OPB_CALL_COUNT };

/* Functions beside the SDK's, offered by the node under these names:
 * "_Fence" [number uint, waits uint] -> (notification) waits 0: what came before on this
 *   lane is done; 1: waits until the same number was said on another one, a second at most.
 * "_Release" [handle...] -> (notification) frees owned objects.
 * "_Register" [kind str, pattern str|nil, index uint] -> nil: kind is a call name;
 *   index is the host's number for the route (0 otherwise). Faults: OPB_FAULT_VALUE
 *   for an invalid pattern, OPB_FAULT_RUNTIME for a refused registration. */
#define OPB_FUNCTION_FENCE    "_Fence"
#define OPB_FUNCTION_RELEASE  "_Release"
#define OPB_FUNCTION_REGISTER "_Register"

#endif
