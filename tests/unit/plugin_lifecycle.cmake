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
  set_tests_properties(${name} PROPERTIES ENVIRONMENT OPB_TEST_LOG=1)
endforeach()

# The same with threads that are late at random (shake.c), which no sanitizer instruments.
if(NOT OPB_SANITIZE MATCHES thread)
  add_library(opb_test_shake MODULE shake.c)
  set_target_properties(opb_test_shake PROPERTIES C_STANDARD 11)
  target_compile_options(opb_test_shake PRIVATE -Wall -Wextra -Wshadow -Wconversion -Werror)
  target_compile_definitions(opb_test_shake PRIVATE _GNU_SOURCE)
  target_link_libraries(opb_test_shake PRIVATE ${CMAKE_DL_LIBS})
  foreach(name IN ITEMS plugin plugin_reload plugin_replace)
    add_test(NAME ${name}_shaken COMMAND test_${name})
    set_tests_properties(${name}_shaken PROPERTIES TIMEOUT 300 LABELS unit ENVIRONMENT
      "LD_PRELOAD=$<TARGET_FILE:opb_test_shake>;ASAN_OPTIONS=verify_asan_link_order=0;OPB_TEST_LOG=1")
  endforeach()
endif()
