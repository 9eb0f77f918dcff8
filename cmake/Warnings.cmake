# Warnings, sanitizers and code generation shared by all our targets.
add_library(beamline_flags INTERFACE)
target_compile_features(beamline_flags INTERFACE cxx_std_20)
target_compile_options(beamline_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                       -Wnon-virtual-dtor -Woverloaded-virtual -fno-math-errno)
# gcc 12 sees an overlap in `"text" + std::string` that is not there (PR 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(beamline_flags INTERFACE -Wno-restrict)
endif()
if(BEAMLINE_WERROR)
  target_compile_options(beamline_flags INTERFACE -Werror)
endif()
if(BEAMLINE_ARCH)
  target_compile_options(beamline_flags INTERFACE -march=${BEAMLINE_ARCH})
endif()
# -ffast-math is not used anywhere: it makes NaN checks vanish. Contraction is off so that x86-64-v3 and later agree.
target_compile_options(beamline_flags INTERFACE -ffp-contract=off)
if(BEAMLINE_SANITIZE)
  target_compile_options(beamline_flags INTERFACE -fsanitize=${BEAMLINE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(beamline_flags INTERFACE -fsanitize=${BEAMLINE_SANITIZE})
endif()
