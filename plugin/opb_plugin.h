/* plugin/opb_plugin.h - the plugin's first header
 *
 * Included first by every file of plugin/: the SDK, the generated class list, and
 * the wall that keeps Python and libuv out of the server.
 */
#ifndef OPB_PLUGIN_H
#define OPB_PLUGIN_H

#include "protocol/status.h"

#include <orthanc/OrthancCPlugin.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sdk_classes.gen.h" /* enum opb_class { OPB_CLASS_<Name>, ..., OPB_CLASS_COUNT } */

#ifdef Py_PYTHON_H
#    error "plugin/ runs inside Orthanc and knows no Python: this belongs in worker/"
#endif
#ifdef UV_H
#    error                                                                                 \
        "plugin/ runs inside Orthanc, and libuv aborts the process when resources run out"
#endif

#endif
