# autoglm_add_room(NAME [TORCH] SOURCES ... [DEPENDS room ...] [LIBRARIES ...])
#
# One static library per room, named autoglm_NAME. DEPENDS lists the rooms it
# may include: the link line says the same as scripts/check_layers.py. TORCH
# rooms share one precompiled header (ATen takes 8 s to parse).
function(autoglm_add_room name)
  cmake_parse_arguments(ROOM "TORCH" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  set(target autoglm_${name})
  add_library(${target} STATIC ${ROOM_SOURCES})
  target_include_directories(${target}
    PUBLIC ${PROJECT_SOURCE_DIR}/include
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  foreach(dependency IN LISTS ROOM_DEPENDS)
    target_link_libraries(${target} PUBLIC autoglm_${dependency})
  endforeach()
  target_link_libraries(${target} PUBLIC ${ROOM_LIBRARIES}
                                  PRIVATE autoglm_warnings)
  if(ROOM_TORCH)
    target_link_libraries(${target} PUBLIC LibTorch::cpu)
    target_precompile_headers(${target} REUSE_FROM autoglm_torch_pch)
  endif()
endfunction()

# autoglm_add_tests(ROOM [TORCH] SOURCES ... [DEPENDS room ...] [LABELS ...])
#
# One Catch2 program per room, test_ROOM; each test case is one CTest test,
# labelled with the room and LABELS.
function(autoglm_add_tests room)
  cmake_parse_arguments(TESTS "TORCH" "" "SOURCES;DEPENDS;LABELS" ${ARGN})
  set(target test_${room})
  add_executable(${target} ${TESTS_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}
                                               ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE autoglm_${room} autoglm_test_main
                                          autoglm_warnings)
  foreach(dependency IN LISTS TESTS_DEPENDS)
    target_link_libraries(${target} PRIVATE autoglm_${dependency})
  endforeach()
  target_compile_definitions(${target} PRIVATE
    AUTOGLM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(TESTS_TORCH)
    target_precompile_headers(${target} REUSE_FROM autoglm_torch_pch)
  endif()
  catch_discover_tests(${target} TEST_PREFIX "${room}/"
    DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${room};${TESTS_LABELS}"
    TIMEOUT 300
    # CTest runs as many tests at once as there are cores.
    ENVIRONMENT "OMP_NUM_THREADS=1;MKL_NUM_THREADS=1")
endfunction()
