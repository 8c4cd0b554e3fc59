# CMake toolchain file of the Casemate SDK:
#   cmake -DCMAKE_TOOLCHAIN_FILE=<prefix>/share/casemate/toolchain.cmake ...
# To let ctest run the programs (as domains, or as Linux processes with CASEMATE_KERNEL=standin), add
#   -DCMAKE_CROSSCOMPILING_EMULATOR=<prefix>/bin/x86_64-casemate-linux-musl-run
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)

get_filename_component(_casemate_prefix "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set(_casemate_tool "${_casemate_prefix}/bin/x86_64-casemate-linux-musl-")
set(CMAKE_C_COMPILER "${_casemate_tool}gcc")
set(CMAKE_ASM_COMPILER "${_casemate_tool}gcc")
set(CMAKE_AR "${_casemate_tool}ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${_casemate_tool}ranlib" CACHE FILEPATH "")
set(CMAKE_NM "${_casemate_tool}nm" CACHE FILEPATH "")
set(CMAKE_OBJCOPY "${_casemate_tool}objcopy" CACHE FILEPATH "")
set(CMAKE_STRIP "${_casemate_tool}strip" CACHE FILEPATH "")
set(PKG_CONFIG_EXECUTABLE "${_casemate_tool}pkg-config" CACHE FILEPATH "")

# Libraries, headers and packages of the sysroot only; programs of the build machine only.
set(CMAKE_FIND_ROOT_PATH "${_casemate_prefix}/x86_64-casemate-linux-musl")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

# There are no shared libraries: a target that asks for one becomes a static library.
set_property(GLOBAL PROPERTY TARGET_SUPPORTS_SHARED_LIBS FALSE)
set(BUILD_SHARED_LIBS OFF CACHE BOOL "Domain images are static")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")
