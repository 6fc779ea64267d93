/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/shim.h - the door through which every SDK call goes
 *
 * Here:      a copy of Orthanc's context whose InvokeService lets no C++ exception out:
 *            the C interface of the server leaks those of JsonCpp, Boost and the standard
 *            library (core notes 1.4), which would unwind our C frames or abort Orthanc.
 * Elsewhere: everything else; shim.cc is the only C++ file of the bridge.
 *
 * An exception becomes OrthancPluginErrorCode_InternalError, one error line in Orthanc's
 * log, and a text that the calling thread can ask for.
 */
#ifndef OPB_SHIM_H
#define OPB_SHIM_H

#include "opb_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Gives a context for all SDK calls of the bridge; NULL without memory. Lends real, which
 * must outlive it. End it with opb_shim_free(). */
OrthancPluginContext *opb_shim_new(OrthancPluginContext *real);
void opb_shim_free(OrthancPluginContext *context); /* NULL is fine */

/* What the last SDK call of this thread threw; "" if it threw nothing since
 * opb_shim_forget(). Lends, until the next SDK call of the thread. */
const char *opb_shim_exception(void);
void opb_shim_forget(void);

#ifdef __cplusplus
}
#endif

#endif
