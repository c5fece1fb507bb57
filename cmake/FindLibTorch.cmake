# Finds libtorch in a PyPI wheel or an unpacked libtorch archive.
#
# Input:   LIBTORCH_ROOT, the folder that holds include/ and lib/
#          (site-packages/torch of a wheel). Default: build/libtorch, the link
#          that scripts/setup.sh makes.
# Targets: LibTorch::cpu   ATen and autograd on the CPU (torch_cpu, c10)
#          LibTorch::cuda  the same plus torch_cuda; only if the wheel has it
#                          and the CUDA runtime headers are there
#
# find_package(Torch) is not used: with a CUDA wheel it demands the whole CUDA
# toolkit, even for code that never touches a GPU.
include(CheckIncludeFileCXX)
include(FindPackageHandleStandardArgs)

set(LIBTORCH_ROOT "${PROJECT_SOURCE_DIR}/build/libtorch" CACHE PATH
    "Folder of libtorch (holds include/ and lib/)")
# Without links, since paths with ".." start from it.
file(REAL_PATH "${LIBTORCH_ROOT}" _root)
if(NOT "${_root}" STREQUAL "${LibTorch_searched}")
  foreach(_found INCLUDE_DIR cpu_LIBRARY c10_LIBRARY cuda_LIBRARY
          c10_cuda_LIBRARY CUDA_INCLUDE_DIR CUDA_HEADERS_USABLE cudart_LIBRARY)
    unset(LibTorch_${_found} CACHE)
  endforeach()
  set(LibTorch_searched "${_root}" CACHE INTERNAL "Where the results are from")
endif()
find_path(LibTorch_INCLUDE_DIR ATen/ATen.h
  HINTS ${_root}/include NO_DEFAULT_PATH)
find_library(LibTorch_cpu_LIBRARY torch_cpu
  HINTS ${_root}/lib NO_DEFAULT_PATH)
find_library(LibTorch_c10_LIBRARY c10
  HINTS ${_root}/lib NO_DEFAULT_PATH)
find_library(LibTorch_cuda_LIBRARY torch_cuda
  HINTS ${_root}/lib NO_DEFAULT_PATH)
find_library(LibTorch_c10_cuda_LIBRARY c10_cuda
  HINTS ${_root}/lib NO_DEFAULT_PATH)
# The CUDA wheels put their headers and libraries beside torch/.
find_path(LibTorch_CUDA_INCLUDE_DIR cuda_runtime_api.h
  HINTS ${_root}/../nvidia/cu13/include
        ${_root}/../nvidia/cuda_runtime/include)
find_library(LibTorch_cudart_LIBRARY
  NAMES cudart libcudart.so.13 libcudart.so.12 NAMES_PER_DIR
  HINTS ${_root}/../nvidia/cu13/lib
        ${_root}/../nvidia/cuda_runtime/lib)

if(LibTorch_INCLUDE_DIR)
  set(_version_file ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
  if(NOT EXISTS ${_version_file})
    set(_version_file
      ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)
  endif()
  if(EXISTS ${_version_file})
    file(STRINGS ${_version_file} _lines
         REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE ".*MAJOR ([0-9]+).*" "\\1" _major "${_lines}")
    string(REGEX REPLACE ".*MINOR ([0-9]+).*" "\\1" _minor "${_lines}")
    string(REGEX REPLACE ".*PATCH ([0-9]+).*" "\\1" _patch "${_lines}")
    set(LibTorch_VERSION ${_major}.${_minor}.${_patch})
  endif()
endif()

find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
  "nothing usable in ${LIBTORCH_ROOT}: run scripts/setup.sh, or pass -DLIBTORCH_ROOT=<folder with include/ and lib/>")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  if(LibTorch_VERSION AND LibTorch_VERSION VERSION_LESS 2.8)
    message(FATAL_ERROR "libtorch ${LibTorch_VERSION} is too old; 2.8 or newer")
  endif()
  get_filename_component(_torch_lib ${LibTorch_cpu_LIBRARY} DIRECTORY)
  file(GLOB _nvidia_lib LIST_DIRECTORIES true
       ${_torch_lib}/../../nvidia/*/lib)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  # After the system's own folders: the wheel ships a copy of fmt whose library
  # is not there, and it must not hide the one we link.
  # at::parallel_for is a template: without OpenMP here its loops silently run
  # on one thread.
  target_compile_options(LibTorch::cpu INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>
    "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}"
    "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  # The OpenMP library that libtorch brings, so that both share their threads.
  file(GLOB _openmp ${_torch_lib}/libgomp*.so*)
  if(NOT _openmp)
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    set(_openmp ${OpenMP_CXX_LIBRARIES})
  endif()
  list(GET _openmp 0 _openmp)
  target_link_libraries(LibTorch::cpu INTERFACE
    ${LibTorch_cpu_LIBRARY} ${LibTorch_c10_LIBRARY} ${_openmp})
  # The CUDA wheel's torch_cpu refers to CUDA runtime libraries that sit in
  # sibling packages and are found at run time through the rpath.
  target_link_options(LibTorch::cpu INTERFACE
    -Wl,--unresolved-symbols=ignore-in-shared-libs
    -Wl,-rpath,${_torch_lib})
  foreach(_dir IN LISTS _nvidia_lib)
    target_link_options(LibTorch::cpu INTERFACE -Wl,-rpath,${_dir})
  endforeach()

  # The runtime's headers include others, which may be in another package.
  if(LibTorch_CUDA_INCLUDE_DIR AND NOT LibTorch_CUDA_HEADERS_USABLE)
    unset(LibTorch_CUDA_HEADERS_USABLE CACHE)  # it may have come meanwhile
    set(CMAKE_REQUIRED_INCLUDES ${LibTorch_CUDA_INCLUDE_DIR})
    check_include_file_cxx(cuda_runtime_api.h LibTorch_CUDA_HEADERS_USABLE)
    unset(CMAKE_REQUIRED_INCLUDES)
  endif()
  if(LibTorch_cuda_LIBRARY AND LibTorch_CUDA_HEADERS_USABLE
     AND LibTorch_cudart_LIBRARY)
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    target_include_directories(LibTorch::cuda SYSTEM INTERFACE
      ${LibTorch_CUDA_INCLUDE_DIR})
    target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu
      -Wl,--no-as-needed ${LibTorch_cuda_LIBRARY} ${LibTorch_c10_cuda_LIBRARY}
      ${LibTorch_cudart_LIBRARY} -Wl,--as-needed)
  endif()
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_cpu_LIBRARY
  LibTorch_c10_LIBRARY LibTorch_cuda_LIBRARY LibTorch_c10_cuda_LIBRARY
  LibTorch_CUDA_INCLUDE_DIR LibTorch_cudart_LIBRARY)
