# Applies to every target made after this line, so that the precompiled header
# and all rooms agree on the flags.
#
# libtorch itself is not instrumented. vptr is off because its type information
# is partly hidden; the test preset `asan` turns off the checks that need both
# sides (container overflow, leaks of its registries).
if(AUTOGLM_SANITIZE)
  add_compile_options(-fsanitize=${AUTOGLM_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=undefined -fno-sanitize=vptr)
  add_link_options(-fsanitize=${AUTOGLM_SANITIZE})
endif()
