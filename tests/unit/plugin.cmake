# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of plugin/: the path of a call, and the life of the plugin.

include(${CMAKE_CURRENT_SOURCE_DIR}/plugin_call.cmake OPTIONAL)
include(${CMAKE_CURRENT_SOURCE_DIR}/plugin_lifecycle.cmake OPTIONAL)
