/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/custom.h - functions of the module that no rule can generate
 *
 * Named in the generated table; defined in register.c and sdk_custom_py.c. Functions have
 * the METH_FASTCALL | METH_KEYWORDS type, methods METH_FASTCALL. All return a new
 * reference.
 */
#ifndef OPB_CUSTOM_H
#define OPB_CUSTOM_H

#include <Python.h>

#define OPB_CUSTOM_FUNCTION(name)                                                          \
    PyObject *opb_py_custom_##name(PyObject *module, PyObject *const *args,                \
                                   Py_ssize_t count, PyObject *names)
#define OPB_CUSTOM_METHOD(name)                                                            \
    PyObject *opb_py_custom_##name(PyObject *self, PyObject *const *args, Py_ssize_t count)

/* register.c */
OPB_CUSTOM_FUNCTION(RegisterRestCallback);
OPB_CUSTOM_FUNCTION(RegisterOnChangeCallback);
OPB_CUSTOM_FUNCTION(RegisterOnStoredInstanceCallback);
OPB_CUSTOM_FUNCTION(RegisterIncomingHttpRequestFilter);
OPB_CUSTOM_FUNCTION(RegisterFindCallback);
OPB_CUSTOM_FUNCTION(RegisterFindCallback2);
OPB_CUSTOM_FUNCTION(RegisterMoveCallback);
OPB_CUSTOM_FUNCTION(RegisterMoveCallback2);
OPB_CUSTOM_FUNCTION(RegisterMoveCallback3);
OPB_CUSTOM_FUNCTION(RegisterWorklistCallback);
OPB_CUSTOM_FUNCTION(RegisterWorklistCallback2);
OPB_CUSTOM_FUNCTION(RegisterStorageArea);
OPB_CUSTOM_FUNCTION(RegisterStorageArea3);
OPB_CUSTOM_FUNCTION(RegisterIncomingCStoreInstanceFilter);
OPB_CUSTOM_FUNCTION(RegisterReceivedInstanceCallback);
OPB_CUSTOM_FUNCTION(RegisterStorageCommitmentScpCallback);
OPB_CUSTOM_FUNCTION(RegisterStorageCommitmentScpCallback2);

/* sdk_custom_py.c */
OPB_CUSTOM_FUNCTION(GetWorkerIndex);
OPB_CUSTOM_FUNCTION(GetWorkersCount);
OPB_CUSTOM_FUNCTION(CreateMemoryBuffer);
OPB_CUSTOM_FUNCTION(CreateImageFromBuffer);
OPB_CUSTOM_FUNCTION(LookupDictionary);
OPB_CUSTOM_FUNCTION(GetKeyValue);
OPB_CUSTOM_FUNCTION(DequeueValue);
OPB_CUSTOM_FUNCTION(ReserveQueueValue);
OPB_CUSTOM_FUNCTION(SetStableStatus);
OPB_CUSTOM_METHOD(RestOutput_SendHttpStatus);

#endif
