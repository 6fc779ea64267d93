/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/sdk_custom_py.c - functions whose Python side follows no pattern
 *
 * Here:      results of several values, and arguments that are checked in their own way.
 * Elsewhere: their other end (plugin/sdk_custom.c), registrations (register.c).
 * Called by: the script, with the GIL. Those that the SDK header at hand lacks are not
 *            compiled, and not in the generated table either.
 */
#include "worker/module/surface.h"

#include "orthanc_module.gen.h"

/* Checks keywords, runs the function, and opens its result for reading. */
static struct opb_frame *
request(const struct opb_py_function *function, PyObject *module, PyObject *const *args,
        Py_ssize_t count, PyObject *names, struct opb_reader *reader)
{
    struct opb_frame *response;

    if (opb_sdk_refuse_keywords(function->name, names) < 0) {
        return NULL;
    }
    response = opb_sdk_request(function, module, args, count);
    if (response != NULL) {
        opb_frame_result(response, reader);
    }
    return response;
}

/* Ends a result: frees the response, and refuses one that was not as expected. */
static PyObject *
finish(const struct opb_py_function *function, struct opb_frame *response,
       const struct opb_reader *reader, PyObject *result)
{
    if (result != NULL && opb_reader_finish(reader) != OPB_OK) {
        Py_CLEAR(result);
        opb_sdk_raise_malformed(function);
    }
    opb_frame_free(response);
    return result;
}

/* What the node said in Load: no message is needed. As with all functions without
 * arguments, more than none are ignored. */
static const struct opb_node_info *
node_info(const struct opb_py_function *function, PyObject *names)
{
    const struct opb_link *link;

    if (opb_sdk_refuse_keywords(function->name, names) < 0) {
        return NULL;
    }
    link = opb_sdk_link();
    return link != NULL ? opb_link_info(link) : NULL;
}

#ifdef OPB_PY_HAS_GetWorkerIndex
OPB_CUSTOM_FUNCTION(GetWorkerIndex)
{
    const struct opb_node_info *info =
        node_info(&opb_py_functions[OPB_PY_GetWorkerIndex], names);

    (void)module;
    (void)args;
    (void)count;
    return info != NULL ? PyLong_FromUnsignedLong(info->worker_index) : NULL;
}
#endif

#ifdef OPB_PY_HAS_GetWorkersCount
OPB_CUSTOM_FUNCTION(GetWorkersCount)
{
    const struct opb_node_info *info =
        node_info(&opb_py_functions[OPB_PY_GetWorkersCount], names);

    (void)module;
    (void)args;
    (void)count;
    return info != NULL ? PyLong_FromUnsignedLong(info->workers_count) : NULL;
}
#endif

#ifdef OPB_PY_HAS_CreateMemoryBuffer
OPB_CUSTOM_FUNCTION(CreateMemoryBuffer)
{
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_CreateMemoryBuffer];
    uint32_t bytes;

    (void)module;
    if (opb_sdk_refuse_keywords(function->name, names) < 0 || opb_sdk_link() == NULL) {
        return NULL;
    }
    opb_log_verbose("Calling Python global function: OrthancPlugin%s()", function->name);
    if (count != 1) {
        PyErr_SetString(PyExc_TypeError, function->type_error);
        return NULL;
    }
    if (opb_argument_u32(args[0], &bytes) < 0) {
        opb_raise_from_current(PyExc_TypeError, function->type_error);
        return NULL;
    }
    /* Zeros, where the official one shows the server's memory. Python's own constructor
     * gets them from the system, so that 4 GiB nobody looks at cost nothing. */
    return PyObject_CallFunction((PyObject *)&PyBytes_Type, "n", (Py_ssize_t)bytes);
}
#endif

#ifdef OPB_PY_HAS_CreateImageFromBuffer
OPB_CUSTOM_FUNCTION(CreateImageFromBuffer)
{
    const struct opb_py_function *function =
        &opb_py_functions[OPB_PY_CreateImageFromBuffer];

    if (opb_sdk_refuse_keywords(function->name, names) < 0) {
        return NULL;
    }
    if (count == 5 && args[4] == Py_None) { /* no bytes, wherever else a buffer is taken */
        PyErr_SetString(PyExc_TypeError, function->type_error);
        return NULL;
    }
    return opb_sdk_call(function, module, args, count);
}
#endif

#ifdef OPB_PY_HAS_LookupDictionary
OPB_CUSTOM_FUNCTION(LookupDictionary)
{
    static const char *const keys[] = {"Group", "Element", "ValueRepresentation",
                                       "MinMultiplicity", "MaxMultiplicity"};
    const size_t key_count = sizeof(keys) / sizeof(keys[0]);
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_LookupDictionary];
    struct opb_reader reader, values;
    struct opb_frame *response = request(function, module, args, count, names, &reader);
    PyObject *dict;

    if (response == NULL) {
        return NULL;
    }
    dict = PyDict_New();
    if (opb_read_array(&reader, &values) != key_count) {
        reader.status = OPB_BAD_FRAME;
    }
    for (size_t i = 0; dict != NULL && reader.status == OPB_OK && i < key_count; i++) {
        PyObject *number = PyLong_FromLongLong(opb_read_int(&values, INT64_MIN, INT64_MAX));

        if (number == NULL || PyDict_SetItemString(dict, keys[i], number) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(number);
    }
    if (reader.status == OPB_OK && values.status != OPB_OK) {
        reader.status = values.status;
    }
    return finish(function, response, &reader, dict);
}
#endif

#ifdef OPB_PY_HAS_RestOutput_SendHttpStatus
/* (status, body) and, as old scripts do, (status, body, size of the body). */
OPB_CUSTOM_METHOD(RestOutput_SendHttpStatus)
{
    const struct opb_py_function *function =
        &opb_py_functions[OPB_PY_RestOutput_SendHttpStatus];
    PyObject *shorter[2];
    PyObject *body, *result;
    uint32_t wanted;

    if (count != 3 || opb_object_handle((NodeObject *)self) == 0 ||
        opb_link_current() == NULL) {
        return opb_sdk_call(function, self, args, count);
    }
    if (opb_argument_u32(args[2], &wanted) < 0) {
        opb_raise_from_current(PyExc_TypeError, function->type_error);
        return NULL;
    }
    body = PyUnicode_Check(args[1]) ? PyUnicode_AsUTF8String(args[1])
           : args[1] == Py_None     ? PyBytes_FromStringAndSize("", 0)
                                    : PyBytes_FromObject(args[1]);
    if (body == NULL) {
        opb_raise_from_current(PyExc_TypeError, function->type_error);
        return NULL;
    }
    if ((uint64_t)PyBytes_GET_SIZE(body) > wanted) {
        PyObject *cut =
            PyBytes_FromStringAndSize(PyBytes_AS_STRING(body), (Py_ssize_t)wanted);

        Py_SETREF(body, cut);
        if (body == NULL) {
            return NULL;
        }
    }
    shorter[0] = args[0];
    shorter[1] = body;
    result = opb_sdk_call(function, self, shorter, 2);
    Py_DECREF(body);
    return result;
}
#endif

#if defined(OPB_PY_HAS_GetKeyValue) || defined(OPB_PY_HAS_DequeueValue)
/* bytes, or None. */
static PyObject *
read_value_or_none(struct opb_reader *reader)
{
    const void *data;
    size_t bytes;

    if (opb_read_is_nil(reader)) {
        opb_read_skip(reader);
        return Py_NewRef(Py_None);
    }
    data = opb_read_bytes(reader, &bytes);
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes);
}
#endif

#ifdef OPB_PY_HAS_GetKeyValue
OPB_CUSTOM_FUNCTION(GetKeyValue)
{
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_GetKeyValue];
    struct opb_reader reader;
    struct opb_frame *response = request(function, module, args, count, names, &reader);

    return response == NULL
               ? NULL
               : finish(function, response, &reader, read_value_or_none(&reader));
}
#endif

#ifdef OPB_PY_HAS_DequeueValue
OPB_CUSTOM_FUNCTION(DequeueValue)
{
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_DequeueValue];
    struct opb_reader reader;
    struct opb_frame *response = request(function, module, args, count, names, &reader);

    return response == NULL
               ? NULL
               : finish(function, response, &reader, read_value_or_none(&reader));
}
#endif

#ifdef OPB_PY_HAS_ReserveQueueValue
/* (bytes, int), or (None, None) where the queue is empty. */
OPB_CUSTOM_FUNCTION(ReserveQueueValue)
{
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_ReserveQueueValue];
    struct opb_reader reader, values;
    struct opb_frame *response = request(function, module, args, count, names, &reader);
    PyObject *result;
    const void *data;
    size_t bytes;
    uint64_t id;

    if (response == NULL) {
        return NULL;
    }
    if (opb_read_is_nil(&reader)) {
        opb_read_skip(&reader);
        return finish(function, response, &reader, PyTuple_Pack(2, Py_None, Py_None));
    }
    (void)opb_read_array(&reader, &values); /* what is missing shows when it is read */
    data = opb_read_bytes(&values, &bytes);
    id = opb_read_uint(&values, UINT64_MAX);
    if (reader.status == OPB_OK) {
        reader.status = opb_reader_finish(&values);
    }
    result = Py_BuildValue("(NK)", PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes),
                           (unsigned long long)id);
    return finish(function, response, &reader, result);
}
#endif

#ifdef OPB_PY_HAS_SetStableStatus
/* (0, changed) */
OPB_CUSTOM_FUNCTION(SetStableStatus)
{
    const struct opb_py_function *function = &opb_py_functions[OPB_PY_SetStableStatus];
    struct opb_reader reader, values;
    struct opb_frame *response = request(function, module, args, count, names, &reader);
    int64_t code, changed;

    if (response == NULL) {
        return NULL;
    }
    (void)opb_read_array(&reader, &values); /* what is missing shows when it is read */
    code = opb_read_int(&values, INT32_MIN, INT32_MAX);
    changed = opb_read_int(&values, INT32_MIN, INT32_MAX);
    if (reader.status == OPB_OK) {
        reader.status = opb_reader_finish(&values);
    }
    return finish(function, response, &reader,
                  Py_BuildValue("(ii)", (int)code, (int)changed));
}
#endif
