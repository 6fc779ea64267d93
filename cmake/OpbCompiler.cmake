# SPDX-License-Identifier: GPL-3.0-or-later
# How everything is compiled: one place for language level, warnings, hardening
# and sanitizers. Each target calls opb_compile_options(target) once.

include(CheckPIESupported)
check_pie_supported(LANGUAGES C CXX)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

if(CMAKE_C_COMPILER_ID MATCHES "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR "clang ${CMAKE_C_COMPILER_VERSION} is too old: use clang 13 or later, or gcc")
endif()

set(_opb_warnings
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wformat=2 -Wundef
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Werror)
set(_opb_c_warnings -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition)

# opb_compile_options(target)
#   C11 or C++17 with GNU extensions, position independent code, hidden symbols,
#   warnings as errors, hardening when optimising, the sanitizers of OPB_SANITIZE.
#   Includes are written from the top of the tree: "protocol/lane.h".
function(opb_compile_options target)
  set_target_properties(${target} PROPERTIES
    C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS ON
    CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS ON
    POSITION_INDEPENDENT_CODE ON
    C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  if(OPB_SDK_INCLUDE_DIR)
    target_include_directories(${target} SYSTEM PRIVATE ${OPB_SDK_INCLUDE_DIR})
  endif()
  target_compile_definitions(${target} PRIVATE
    _GNU_SOURCE OPB_BUILD_VERSION="${PROJECT_VERSION}")
  target_compile_options(${target} PRIVATE
    ${_opb_warnings} "$<$<COMPILE_LANGUAGE:C>:${_opb_c_warnings}>")
  target_link_options(${target} PRIVATE LINKER:-z,relro LINKER:-z,now LINKER:--as-needed)
  if(OPB_SANITIZE)
    set(flags -fsanitize=${OPB_SANITIZE} -fno-omit-frame-pointer)
    if(OPB_SANITIZE MATCHES "undefined")
      list(APPEND flags -fno-sanitize-recover=undefined)
    endif()
    target_compile_options(${target} PRIVATE ${flags})
    target_link_options(${target} PRIVATE -fsanitize=${OPB_SANITIZE})
  else()
    target_compile_options(${target} PRIVATE
      -fstack-protector-strong -fstack-clash-protection
      "$<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
  endif()
endfunction()
