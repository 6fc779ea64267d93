# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of the path of a call through plugin/, against a server and a host that are the
# tests' own.

add_library(opb_plugin_test_support STATIC plugin_support.c)
opb_compile_options(opb_plugin_test_support)
target_link_libraries(opb_plugin_test_support PUBLIC opb_plugin opb_test_support Opb::jansson)

foreach(name IN ITEMS call_stats callback_commitment callback_find callback_ingest callback_move
  callback_storage callbacks facts handles history stack stacks_json waiting workers)
  opb_unit_test(${name} LIBS opb_plugin_test_support)
endforeach()
foreach(name IN ITEMS call call_nesting call_waiting service_lanes)
  opb_unit_test(${name} SOURCES call_fixture.c LIBS opb_plugin_test_support)
endforeach()
foreach(name IN ITEMS events events_full events_switch)
  opb_unit_test(${name} SOURCES events_fixture.c LIBS opb_plugin_test_support)
endforeach()
foreach(name IN ITEMS invocation invocation_images invocation_phases)
  opb_unit_test(${name} SOURCES invocation_fixture.c LIBS opb_plugin_test_support)
endforeach()
foreach(name IN ITEMS late_routes routes routes_hosts)
  opb_unit_test(${name} SOURCES routes_fixture.c throwing.cc LIBS opb_plugin_test_support)
endforeach()
opb_unit_test(shim SOURCES throwing.cc LIBS opb_plugin_test_support)
