# Warnings for our own targets; third-party headers are SYSTEM and stay silent.
add_library(autoglm_warnings INTERFACE)
target_compile_options(autoglm_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion)
if(AUTOGLM_WERROR)
  target_compile_options(autoglm_warnings INTERFACE -Werror)
endif()
