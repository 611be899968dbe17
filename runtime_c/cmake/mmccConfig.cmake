# SPDX-License-Identifier: Apache-2.0
# find_package(mmcc): models compiled as part of a firmware's build. `mmcc --cmake-dir` prints where this file is.
#
#   mmcc_add_model(NAME model.onnx [RAM 64K] [FLASH 1M] [FOR cortex-m4] [PREFIX digits] [IO external]
#                  [WEIGHTS bin] [RECOMPUTE 2] [OPTIONS key=value ...])
#
# NAME is a library to link with; if there is a target NAME already, the model is linked to it. The model is compiled
# when CMake configures, and again when it, its external data or its target file changes. A limit that cannot be met
# fails the build. OPTIONS are keys of mmcc.toml with their values as TOML has them: "float_io=true", "time_limit=5".
cmake_minimum_required(VERSION 3.19)

find_program(MMCC_PROGRAM mmcc DOC "the compiler from ONNX to C")
if(NOT MMCC_PROGRAM)
  set(mmcc_FOUND FALSE)
  set(mmcc_NOT_FOUND_MESSAGE "there is no program mmcc in PATH: pip install mmcc, or -DMMCC_PROGRAM=...")
  return()
endif()

function(mmcc_add_model name model)
  cmake_parse_arguments(PARSE_ARGV 2 M "" "RAM;FLASH;FOR;PREFIX;IO;WEIGHTS;RECOMPUTE" "OPTIONS")
  if(M_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mmcc_add_model(${name}): unknown: ${M_UNPARSED_ARGUMENTS}")
  endif()
  get_filename_component(model "${model}" ABSOLUTE)
  if(NOT M_PREFIX)
    string(MAKE_C_IDENTIFIER "${name}" M_PREFIX)
  endif()
  set(package "${CMAKE_CURRENT_BINARY_DIR}/mmcc/${M_PREFIX}")
  set(text "[model.${M_PREFIX}]\nfile = '${model}'\noutput = '${package}'\n")
  foreach(pair IN ITEMS "target;FOR" "ram;RAM" "flash;FLASH" "io;IO" "weights;WEIGHTS")
    list(GET pair 0 key)
    list(GET pair 1 variable)
    if(DEFINED M_${variable})
      string(APPEND text "${key} = '${M_${variable}}'\n")
    endif()
  endforeach()
  if(DEFINED M_RECOMPUTE)
    string(APPEND text "recompute = ${M_RECOMPUTE}\n")
  endif()
  foreach(option IN LISTS M_OPTIONS)
    string(APPEND text "${option}\n")
  endforeach()
  set(project "${CMAKE_CURRENT_BINARY_DIR}/mmcc/${M_PREFIX}.toml")
  file(CONFIGURE OUTPUT "${project}" CONTENT "${text}" @ONLY)
  execute_process(
    COMMAND "${MMCC_PROGRAM}" build "${project}" --depends "${project}.depends"
    RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE wrong OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(EXISTS "${project}.depends")
    file(STRINGS "${project}.depends" files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files})
  endif()
  if(failed)
    message(FATAL_ERROR "mmcc_add_model(${name}): ${wrong}")
  endif()
  message(STATUS "mmcc: ${said}")
  add_subdirectory("${package}" "${CMAKE_CURRENT_BINARY_DIR}/mmcc/build_${M_PREFIX}")
  if(TARGET ${name})
    target_link_libraries(${name} PRIVATE mmcc::${M_PREFIX})
  else()
    add_library(${name} ALIAS mmcc_${M_PREFIX})
  endif()
endfunction()
