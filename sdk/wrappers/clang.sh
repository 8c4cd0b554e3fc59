#!/bin/sh
# x86_64-casemate-linux-musl-clang: Clang with the headers, libraries, start code and link mode of a domain
# image. Options and variables as for the gcc wrapper; CASEMATE_CLANG is the Clang to run (default: clang).
# libgcc comes from the machine's GCC.
self=$(readlink -f -- "$0") || exit 1
prefix=${self%/bin/*}
sysroot=$prefix/x86_64-casemate-linux-musl
kernel=${CASEMATE_KERNEL:-default}

for arg; do
	shift
	case $arg in
	-mkernel=*) kernel=${arg#-mkernel=} ;;
	-shared)
		echo "${0##*/}: a domain image is static: there are no shared libraries (build a static library)" >&2
		exit 1
		;;
	-pie | -static-pie | -no-pie) ;;
	*) set -- "$@" "$arg" ;;
	esac
done

if [ ! -f "$sysroot/lib/kernel/$kernel/crt1.o" ]; then
	echo "${0##*/}: this SDK has no kernel '$kernel'; it has:" $(ls "$sysroot/lib/kernel") >&2
	exit 1
fi

exec "${CASEMATE_CLANG:-clang}" --start-no-unused-arguments \
	--target=x86_64-casemate-linux-musl --sysroot="$sysroot" --gcc-toolchain=/usr \
	-B"$sysroot/lib/kernel/$kernel" -B"$sysroot/lib" -B"$prefix/libexec/casemate" \
	-fno-pie -static --end-no-unused-arguments "$@"
