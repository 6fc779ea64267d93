# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of the plugin's life: configuration, directory, daemon, service lanes, start and end.

foreach(name IN ITEMS config log recycle runtime_dir scripts self_query service spawn watch)
  opb_unit_test(${name} LIBS opb_plugin_test_support)
endforeach()

# The whole plugin with the real daemon, in a server and with a host that are the tests' own.
add_executable(opb_script_host script_host.c)
opb_compile_options(opb_script_host)
target_link_libraries(opb_script_host PRIVATE opb_protocol)
foreach(name IN ITEMS plugin plugin_reload plugin_replace)
  opb_unit_test(${name} SOURCES plugin_server.c LIBS opb_plugin_test_support)
  add_dependencies(test_${name} orthanc-python-worker opb_script_host)
  target_compile_definitions(test_${name} PRIVATE
    OPB_TEST_WORKER="$<TARGET_FILE:orthanc-python-worker>"
    OPB_TEST_SCRIPT_HOST="$<TARGET_FILE:opb_script_host>")
endforeach()
