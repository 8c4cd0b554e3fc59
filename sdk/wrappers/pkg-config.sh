#!/bin/sh
# x86_64-casemate-linux-musl-pkg-config: sees the packages of the SDK's sysroot and those of PKG_CONFIG_PATH,
# never the build machine's. Always --static: a domain image has no shared libraries.
self=$(readlink -f -- "$0") || exit 1
sysroot=${self%/bin/*}/x86_64-casemate-linux-musl
PKG_CONFIG_LIBDIR=$sysroot/lib/pkgconfig:$sysroot/share/pkgconfig
PKG_CONFIG_SYSTEM_INCLUDE_PATH=$sysroot/include
PKG_CONFIG_SYSTEM_LIBRARY_PATH=$sysroot/lib
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSTEM_INCLUDE_PATH PKG_CONFIG_SYSTEM_LIBRARY_PATH
unset PKG_CONFIG_SYSROOT_DIR
exec "${CASEMATE_PKG_CONFIG:-pkg-config}" --static "$@"
