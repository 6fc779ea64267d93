# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of worker/host: the real program, with a supervisor and a node made of test code.

foreach(name IN ITEMS host_load host_calls host_scripts host_dimse host_ingest)
  opb_unit_test(${name} SOURCES host_support.c host_fixture.c)
  add_dependencies(test_${name} orthanc-python-host opb_module_extension)
  target_compile_definitions(test_${name} PRIVATE
    OPB_TEST_HOST="$<TARGET_FILE:orthanc-python-host>")
endforeach()
