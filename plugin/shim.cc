/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/shim.cc - catches what Orthanc throws through its C interface
 *
 * Here:      one InvokeService that calls Orthanc's inside a catch-all.
 * Elsewhere: all the rest is C. Nothing here allocates in a catch block: the exception may
 *            be std::bad_alloc.
 */
#include "plugin/shim.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>

namespace {

struct Shim {
    OrthancPluginContext context; /* first: the SDK passes its address */
    OrthancPluginContext *real;
};

thread_local char lastException[512];

/* glibc's unwinding of a thread carries no object: catching it binds a null reference,
 * which is how libstdc++ has it, and what UBSan complains of. */
#define OPB_CATCHES_FORCED_UNWIND __attribute__((no_sanitize("undefined")))

void
Remember(const char *what)
{
    std::snprintf(lastException, sizeof(lastException), "%s", what);
}

/* The type of the exception now being handled, for those that carry no text. */
void
RememberType()
{
    const std::type_info *type = abi::__cxa_current_exception_type();

    std::snprintf(lastException, sizeof(lastException), "a C++ exception of type %s",
                  type != nullptr ? type->name() : "unknown");
}

OPB_CATCHES_FORCED_UNWIND void
Report(OrthancPluginContext *real, _OrthancPluginService service)
{
    char line[sizeof(lastException) + 256];

    std::snprintf(
        line, sizeof(line),
        "Orthanc has thrown an exception out of plugin service %d; the call of the "
        "Python script fails: %s",
        static_cast<int>(service), lastException);
    try {
        (void)real->InvokeService(real, _OrthancPluginService_LogError, line);
    } catch (abi::__forced_unwind &) {
        throw;
    } catch (...) {
        /* the log itself is broken: there is nobody left to tell */
    }
}

OPB_CATCHES_FORCED_UNWIND OrthancPluginErrorCode
Invoke(OrthancPluginContext *context, _OrthancPluginService service, const void *params)
{
    OrthancPluginContext *real = reinterpret_cast<Shim *>(context)->real;

    try {
        return real->InvokeService(real, service, params);
    } catch (abi::__forced_unwind &) {
        throw; /* the thread is being cancelled: glibc insists on finishing that */
    } catch (const std::exception &e) {
        Remember(e.what());
    } catch (const char *text) {
        Remember(text != nullptr ? text : "");
    } catch (...) {
        RememberType();
    }
    Report(real, service);
    return OrthancPluginErrorCode_InternalError;
}

} // namespace

extern "C" OrthancPluginContext *
opb_shim_new(OrthancPluginContext *real)
{
    Shim *shim = static_cast<Shim *>(std::calloc(1, sizeof(Shim)));

    if (shim == nullptr) {
        return nullptr;
    }
    shim->context = *real;
    shim->context.InvokeService = Invoke;
    shim->real = real;
    return &shim->context;
}

extern "C" void
opb_shim_free(OrthancPluginContext *context)
{
    std::free(context);
}

extern "C" const char *
opb_shim_exception(void)
{
    return lastException;
}

extern "C" void
opb_shim_forget(void)
{
    lastException[0] = '\0';
}
