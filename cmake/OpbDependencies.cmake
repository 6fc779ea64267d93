# SPDX-License-Identifier: GPL-3.0-or-later
# Finds what the bridge stands on, and says what to install when something is
# missing. Each library becomes one imported target whatever its pkg-config or
# CMake name is on this system: Opb::msgpack, Opb::uv, Opb::jansson, Opb::systemd
# (only where present), Opb::sdk, and Python3::Interpreter, Python3::Python,
# Python3::Module of FindPython3.

find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
  message(FATAL_ERROR "pkg-config is missing. On Debian: apt install pkg-config")
endif()
find_package(Threads REQUIRED)

# Debian 13's msgpack-c.pc says "-Iinclude", without its prefix: CMake refuses a path that
# hangs in the air.
function(opb_root_includes target module)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT directories)
    return()
  endif()
  set(absolute)
  foreach(directory IN LISTS directories)
    if(NOT IS_ABSOLUTE "${directory}")
      pkg_get_variable(prefix ${module} prefix)
      set(directory "${prefix}/${directory}")
    endif()
    list(APPEND absolute "${directory}")
  endforeach()
  set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES ${absolute})
endfunction()

# opb_pkg_target(<Opb::name> <pkg-config name>...): the first that is there.
function(opb_pkg_target target)
  if(TARGET ${target})
    return()
  endif()
  string(MAKE_C_IDENTIFIER ${target} prefix)
  foreach(module IN LISTS ARGN)
    string(MAKE_C_IDENTIFIER ${module} suffix)
    pkg_check_modules(${prefix}_${suffix} QUIET IMPORTED_TARGET GLOBAL ${module})
    if(${prefix}_${suffix}_FOUND)
      string(REGEX REPLACE "[<>=].*$" "" name ${module})
      opb_root_includes(PkgConfig::${prefix}_${suffix} ${name})
      add_library(${target} INTERFACE IMPORTED GLOBAL)
      target_link_libraries(${target} INTERFACE PkgConfig::${prefix}_${suffix})
      message(STATUS "${target}: ${module} ${${prefix}_${suffix}_VERSION}")
      return()
    endif()
  endforeach()
endfunction()

function(opb_require_target target what packages)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "${what} is missing. On Debian: apt install ${packages}")
  endif()
endfunction()

# msgpack-c: "msgpack" on Debian 12, "msgpack-c" on Debian 13.
opb_pkg_target(Opb::msgpack "msgpack-c>=3" "msgpack>=3")
if(NOT TARGET Opb::msgpack)
  foreach(package IN ITEMS msgpack-c msgpack)
    find_package(${package} CONFIG QUIET)
    foreach(candidate IN ITEMS msgpack-c msgpackc)
      if(TARGET ${candidate} AND NOT TARGET Opb::msgpack)
        add_library(Opb::msgpack INTERFACE IMPORTED GLOBAL)
        target_link_libraries(Opb::msgpack INTERFACE ${candidate})
        message(STATUS "Opb::msgpack: CMake package ${package}")
      endif()
    endforeach()
  endforeach()
endif()
opb_require_target(Opb::msgpack "msgpack-c 3 or later"
  "libmsgpack-dev (Debian 12) or libmsgpack-c-dev (Debian 13)")

opb_pkg_target(Opb::uv "libuv>=1.40")
opb_require_target(Opb::uv "libuv 1.40 or later" "libuv1-dev")

opb_pkg_target(Opb::jansson "jansson>=2.13")
opb_require_target(Opb::jansson "jansson 2.13 or later" "libjansson-dev")

# Optional: readiness notification and socket activation.
opb_pkg_target(Opb::systemd "libsystemd")
if(TARGET Opb::systemd)
  target_compile_definitions(Opb::systemd INTERFACE OPB_HAVE_SYSTEMD=1)
else()
  message(STATUS "Opb::systemd: not found, built without (Debian: libsystemd-dev)")
endif()

# The Orthanc SDK: one header.
if(ORTHANC_SDK_INCLUDE_DIR)
  if(NOT EXISTS "${ORTHANC_SDK_INCLUDE_DIR}/orthanc/OrthancCPlugin.h")
    message(FATAL_ERROR
      "ORTHANC_SDK_INCLUDE_DIR is ${ORTHANC_SDK_INCLUDE_DIR}, and there is no "
      "orthanc/OrthancCPlugin.h in it. Name the directory that holds orthanc/, or "
      "leave the option out to use the header of the package orthanc-dev")
  endif()
  set(OPB_SDK_INCLUDE_DIR "${ORTHANC_SDK_INCLUDE_DIR}")
else()
  find_path(OPB_SDK_INCLUDE_DIR orthanc/OrthancCPlugin.h NO_CACHE)
  if(NOT OPB_SDK_INCLUDE_DIR)
    message(FATAL_ERROR
      "The Orthanc SDK (orthanc/OrthancCPlugin.h) is missing. On Debian: apt install "
      "orthanc-dev; for another header: -DORTHANC_SDK_INCLUDE_DIR=<directory that holds orthanc/>")
  endif()
endif()
string(REGEX REPLACE "/+$" "" OPB_SDK_INCLUDE_DIR "${OPB_SDK_INCLUDE_DIR}")
set(OPB_SDK_HEADER "${OPB_SDK_INCLUDE_DIR}/orthanc/OrthancCPlugin.h")
if(NOT TARGET Opb::sdk)
  add_library(Opb::sdk INTERFACE IMPORTED GLOBAL)
  target_include_directories(Opb::sdk SYSTEM INTERFACE "${OPB_SDK_INCLUDE_DIR}")
endif()
message(STATUS "Opb::sdk: ${OPB_SDK_HEADER}")

# CPython. Python3_EXECUTABLE picks one of several.
find_package(Python3 QUIET COMPONENTS Interpreter)
if(NOT Python3_Interpreter_FOUND)
  message(FATAL_ERROR "Python 3 is missing. On Debian: apt install python3 python3-dev")
endif()
if(Python3_VERSION VERSION_LESS 3.11)
  message(FATAL_ERROR
    "${Python3_EXECUTABLE} is Python ${Python3_VERSION}, and 3.11 is the oldest that works. "
    "Name another with -DPython3_EXECUTABLE=/path/to/python3")
endif()
find_package(Python3 QUIET COMPONENTS Interpreter Development.Embed Development.Module)
if(NOT Python3_Development.Embed_FOUND OR NOT Python3_Development.Module_FOUND)
  message(FATAL_ERROR
    "The headers or the shared library of ${Python3_EXECUTABLE} (Python ${Python3_VERSION}) are "
    "missing. On Debian: apt install python3-dev; for another Python: "
    "-DPython3_EXECUTABLE=/path/to/python3 (built with --enable-shared)")
endif()
message(STATUS "Python3: ${Python3_EXECUTABLE} ${Python3_VERSION}")

# cmocka is for the tests alone.
if(OPB_TESTS)
  opb_pkg_target(Opb::cmocka "cmocka")
  opb_require_target(Opb::cmocka "cmocka (for the tests; -DOPB_TESTS=OFF builds without)"
    "libcmocka-dev")
endif()
