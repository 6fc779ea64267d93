# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of worker/. The supervisor is run as it is, with a host program without Python.

add_executable(opb_fake_host fake_host.c fake_zygote.c)
opb_compile_options(opb_fake_host)
target_link_libraries(opb_fake_host PRIVATE opb_protocol)

foreach(name IN ITEMS supervisor_connections supervisor_deaths supervisor_hosts supervisor_next
  supervisor_pool supervisor_stacks supervisor_workers supervisor_zygote)
  opb_unit_test(${name} SOURCES pool_node.c pool_support.c)
  add_dependencies(test_${name} orthanc-python-worker opb_fake_host)
  target_compile_definitions(test_${name} PRIVATE
    OPB_TEST_SUPERVISOR="$<TARGET_FILE:orthanc-python-worker>"
    OPB_TEST_FAKE_HOST="$<TARGET_FILE:opb_fake_host>")
endforeach()
