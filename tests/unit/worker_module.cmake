# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of worker/module: an interpreter with the module, and a node without Orthanc.

add_executable(test_module test_module.c fake_call.c fake_module.c fake_node.c)
opb_compile_options(test_module)
target_link_libraries(test_module PRIVATE opb_module Python3::Python opb_test_support)
target_compile_definitions(test_module PRIVATE OPB_TEST_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}")
# Each runs the tests of module_<name>_tests.py.
foreach(name IN ITEMS arguments facts fork hostile lanes objects registrations results surface)
  add_test(NAME module_${name} COMMAND test_module ${name})
  # CPython leaves memory behind at its end, and every stack leads through it: leaks are looked
  # for before, by a test of module_hostile, with Python's objects allocated one by one.
  set_tests_properties(module_${name} PROPERTIES
    TIMEOUT 120 LABELS unit ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
endforeach()
set_tests_properties(module_hostile PROPERTIES
  ENVIRONMENT "ASAN_OPTIONS=leak_check_at_exit=0;PYTHONMALLOC=malloc;OPB_TEST_MODEL=${OPB_GENERATED_DIR}/model.json")

# The extension, as children of a host see it. A plain Python cannot load what needs the
# library of a sanitizer.
if(NOT OPB_SANITIZE)
  add_test(NAME module_child
    COMMAND ${Python3_EXECUTABLE} -B -X dev ${CMAKE_CURRENT_SOURCE_DIR}/module_child_tests.py)
  set_tests_properties(module_child PROPERTIES
    TIMEOUT 60 LABELS unit
    ENVIRONMENT "OPB_MODULE_FOLDER=$<TARGET_FILE_DIR:opb_module_extension>")
endif()
