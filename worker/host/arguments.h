/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/arguments.h - the arguments of one callback, and its outcome
 *
 * Here:      making Python objects of a call's parameters, calling the function, what is
 *            answered to the node.
 * Elsewhere: which parameters a call has (call_*.c), sending the answer (calls.c).
 * Everything needs the GIL.
 */
#ifndef OPB_ARGUMENTS_H
#define OPB_ARGUMENTS_H

#include "host.h"

#define OPB_MAX_ARGUMENTS 12u

/* What the node is told. Zero: the result is nil. */
struct opb_answer {
    bool is_fault;
    enum opb_fault fault;
    int32_t code;
    const char *text; /* static */
    char *details;    /* owned, or NULL; takes the place of text; freed once it is sent */
    enum opb_answer_kind {
        OPB_ANSWER_NIL,
        OPB_ANSWER_BOOL,  /* number is 0 or 1 */
        OPB_ANSWER_INT,   /* number */
        OPB_ANSWER_BYTES, /* bytes */
        OPB_ANSWER_PAIR   /* [number, bytes or nil] */
    } kind;
    int64_t number;
    PyObject *bytes; /* owned, a bytes object or NULL; dropped once it has been sent */
};

struct opb_arguments {
    /* One place before the first, as vectorcall may want to use it. */
    PyObject *places[OPB_MAX_ARGUMENTS + 1]; /* owned */
    const char *names[OPB_MAX_ARGUMENTS];    /* NULL: positional; those come first */
    size_t count;
};

/* Takes a reference (NULL: the conversion failed, an exception may be set). False on
 * failure; the exception stays. */
OPB_MUST_CHECK bool opb_arguments_add(struct opb_arguments *arguments, const char *name,
                                      PyObject *value);
void opb_arguments_clear(struct opb_arguments *arguments);
/* Explains to the node why the parameters could not be read; clears the exception. */
void opb_arguments_failed(const struct opb_reader *params, struct opb_answer *answer);
/* True if the parameters were all read and nothing is left; else sets outcome. */
OPB_MUST_CHECK bool opb_arguments_complete(const struct opb_reader *params,
                                           struct opb_answer *answer);
/* New reference to the function's result, or NULL with an exception. */
PyObject *opb_arguments_call(struct opb_arguments *arguments, PyObject *function);

/* New references; NULL with an exception, or without one if the reader failed. */
PyObject *opb_argument_text(struct opb_reader *params);      /* str, strict UTF-8 */
PyObject *opb_argument_int32(struct opb_reader *params);     /* int */
PyObject *opb_argument_texts(struct opb_reader *params);     /* tuple of str */
PyObject *opb_argument_text_list(struct opb_reader *params); /* list of str */
PyObject *opb_argument_map(struct opb_reader *params);       /* dict of str to str */
PyObject *opb_argument_bytes(struct opb_reader *params);     /* bytes, without a copy */
/* An object around a handle, which may come with facts about it. */
PyObject *opb_argument_object(struct opb_reader *params, const char *class_name);

void opb_answer_fault(struct opb_answer *answer, enum opb_fault fault, int32_t code,
                      const char *text);
/* What the script has returned: an instance of bytes. */
void opb_answer_keep(struct opb_answer *answer, PyObject *bytes);
/* The script raised: logs the exception under headline, and says so. */
void opb_answer_raised(struct opb_answer *answer, const char *headline);

/* New reference to the callable of a call, or NULL with the outcome set. */
PyObject *opb_callback_find(const char *call_name, uint32_t index,
                            struct opb_answer *answer);

/* The usual end of reading parameters: checks that nothing is left, finds the callable, and
 * calls it. New reference, or NULL with the outcome set; headline is for the log if the
 * script raised. */
PyObject *opb_callback_run(struct opb_arguments *arguments, const struct opb_reader *params,
                           const char *call_name, uint32_t index, const char *headline,
                           struct opb_answer *answer);

/* Looks at a result, NULL with an exception, and sets the outcome. False: no further script
 * is to be asked. */
typedef bool (*opb_judge_fn)(PyObject *result, struct opb_answer *answer);
/* Calls the functions of all scripts that have registered one, in the order of the
 * scripts. */
void opb_callback_run_all(struct opb_arguments *arguments, const char *call_name,
                          opb_judge_fn judge, struct opb_answer *answer);
/* Logs what the script has done wrong, as an error; of several scripts, which one. */
void opb_script_complain(const char *text);

/* call_*.c: read the parameters, run the callback, set the outcome. */
void opb_call_rest(struct opb_reader *params, struct opb_answer *answer);
void opb_call_change(struct opb_reader *params, struct opb_answer *answer);
void opb_call_stored(struct opb_reader *params, struct opb_answer *answer);
void opb_call_filter(struct opb_reader *params, struct opb_answer *answer);
void opb_call_received(struct opb_reader *params, struct opb_answer *answer);
void opb_call_cstore_filter(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_create(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_read(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_remove(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_create3(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_read3(struct opb_reader *params, struct opb_answer *answer);
void opb_call_storage_remove3(struct opb_reader *params, struct opb_answer *answer);
void opb_call_commitment(struct opb_reader *params, struct opb_answer *answer);
void opb_call_commitment2(struct opb_reader *params, struct opb_answer *answer);
void opb_call_commitment_lookup(struct opb_reader *params, struct opb_answer *answer);
void opb_call_commitment_free(struct opb_reader *params, struct opb_answer *answer);
void opb_call_find(struct opb_reader *params, struct opb_answer *answer);
void opb_call_find2(struct opb_reader *params, struct opb_answer *answer);
void opb_call_worklist(struct opb_reader *params, struct opb_answer *answer);
void opb_call_worklist2(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move2(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move3(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move_size(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move_apply(struct opb_reader *params, struct opb_answer *answer);
void opb_call_move_free(struct opb_reader *params, struct opb_answer *answer);

#endif
