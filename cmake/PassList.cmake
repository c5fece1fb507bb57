# Reads src/passes/passes.def: one line per pass gives its source and its test.
# A pass without one of them stops the configuration here, with the file's name.
set(_pass_list ${PROJECT_SOURCE_DIR}/src/passes/passes.def)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${_pass_list})
file(STRINGS ${_pass_list} _pass_lines REGEX "^AUTOGLM_PASS\\(")
set(AUTOGLM_PASS_SOURCES)
set(AUTOGLM_PASS_TESTS)
foreach(_line IN LISTS _pass_lines)
  string(REGEX REPLACE "^AUTOGLM_PASS\\(([a-z_]+), ([a-z_0-9]+)\\).*" "\\1/\\2"
         _pass ${_line})
  get_filename_component(_name ${_pass} NAME)
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/src/passes/${_pass}.cpp)
    message(FATAL_ERROR "passes.def: src/passes/${_pass}.cpp is missing")
  endif()
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/tests/passes/${_name}_test.cpp)
    message(FATAL_ERROR
      "passes.def: the pass ${_name} has no tests/passes/${_name}_test.cpp")
  endif()
  list(APPEND AUTOGLM_PASS_SOURCES ${_pass}.cpp)
  list(APPEND AUTOGLM_PASS_TESTS ${_name}_test.cpp)
endforeach()
