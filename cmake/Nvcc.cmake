# Looks for nvcc. With one that fits, CUDA is enabled as a language and
# AUTOGLM_HAS_NVCC is ON; without, nothing changes but a message.
# -DCMAKE_CUDA_COMPILER=OFF turns it off.
include(CheckLanguage)
set(AUTOGLM_HAS_NVCC OFF)
# Machine code for A100 and H100/H200; others newer than A100 take its PTX.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "nvcc was not found: the CUDA kernels are not built")
  return()
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  message(STATUS "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.0: the CUDA kernels are not built")
  return()
endif()
# Kernels run through the CUDA runtime that libtorch brings.
if(TARGET LibTorch::cuda)
  file(STRINGS ${LibTorch_CUDA_INCLUDE_DIR}/cuda_runtime_api.h _line
       REGEX "#define CUDART_VERSION ")
  string(REGEX REPLACE ".* ([0-9]+)[0-9][0-9][0-9]$" "\\1" _major "${_line}")
  if(NOT CMAKE_CUDA_COMPILER_VERSION MATCHES "^${_major}\\.")
    message(STATUS "nvcc ${CMAKE_CUDA_COMPILER_VERSION} does not fit libtorch's CUDA ${_major}: the CUDA kernels are not built")
    return()
  endif()
endif()
set(AUTOGLM_HAS_NVCC ON)
