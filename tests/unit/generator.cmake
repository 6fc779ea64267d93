# SPDX-License-Identifier: GPL-3.0-or-later
# The generators' tests. Included by tests/unit/CMakeLists.txt.

set(opb_golden_dir ${PROJECT_SOURCE_DIR}/tests/golden/generator)

add_test(NAME generator
  COMMAND ${OPB_GENERATOR_PYTHON} -B ${CMAKE_CURRENT_SOURCE_DIR}/test_generator.py)
set_tests_properties(generator PROPERTIES
  TIMEOUT 120 LABELS unit
  ENVIRONMENT "OPB_SDK_HEADER=${OPB_SDK_HEADER}")

add_test(NAME make_keys COMMAND Python3::Interpreter -B ${CMAKE_CURRENT_SOURCE_DIR}/test_make_keys.py)
set_tests_properties(make_keys PROPERTIES TIMEOUT 60 LABELS unit)

# What the generator makes of the small header compiles as the real thing does.
add_library(opb_golden_dispatch OBJECT ${opb_golden_dir}/sdk_dispatch.gen.c)
target_include_directories(opb_golden_dispatch SYSTEM BEFORE PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/fixtures)
target_include_directories(opb_golden_dispatch BEFORE PRIVATE ${opb_golden_dir})
opb_compile_options(opb_golden_dispatch)
