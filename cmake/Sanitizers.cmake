# Applies to every target made after this line, so that the precompiled header
# and all rooms agree on the flags.
if(AUTOGLM_SANITIZE)
  add_compile_options(-fsanitize=${AUTOGLM_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${AUTOGLM_SANITIZE})
endif()
